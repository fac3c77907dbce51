"""Model families, a file each. The contract of them all is in `base.py`, their defaults in `defaults.py`.

A new family is a class in a file of its own, a line in FAMILIES and an entry in `defaults.DEFAULTS`. Importing this
package loads no torch: a family's file is imported when the family is asked for.
"""

import functools
import importlib
from typing import TYPE_CHECKING

from trainers.errors import SpecError
from trainers.spec import ModelSpec

if TYPE_CHECKING:
    from trainers.families.base import Family

FAMILIES = {  # name -> where its class is
    "stable_diffusion": "trainers.families.stable_diffusion:StableDiffusion",
}


def family_of(model: ModelSpec) -> "Family":
    """
    Raises:
        SpecError: there is no such family.
    """
    if model.family not in FAMILIES:
        raise SpecError(f"model.family={model.family} is unknown; one of {', '.join(FAMILIES)}")
    return _family(FAMILIES[model.family])


@functools.cache
def _family(place: str) -> "Family":
    module, _, name = place.partition(":")
    family: Family = getattr(importlib.import_module(module), name)()
    return family
