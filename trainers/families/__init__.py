"""Model families, a file each: everything that is particular to a kind of pipeline.

A family module provides what `tests/trainers/test_families.py` asks of every one:
`load`, `with_checkpoint`, `save_pipeline`, `sample`, `latent_shape`, `encode_images`, `tokenize`, `encode_text`,
`Noising` and `predict`.
"""

import importlib
from types import ModuleType

from trainers.errors import SpecError
from trainers.spec import ModelSpec

FAMILIES = {"stable_diffusion": "trainers.families.stable_diffusion"}


def family_of(model: ModelSpec) -> ModuleType:
    if model.family not in FAMILIES:
        raise SpecError(f"model.family={model.family} is unknown; one of {', '.join(FAMILIES)}")
    return importlib.import_module(FAMILIES[model.family])
