"""The first stage of `ti_dreambooth`: a textual inversion, trained once for all trainings that start from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.files import checkpoint_folder, is_complete, saved_step
from trainers.spec import TrainSpec
from trainers.stages import inversion_stage

if TYPE_CHECKING:
    from sweeper.plan.types import Remaining


@dataclass(frozen=True)
class Inversion:
    spec: TrainSpec
    steps: int
    left: int  # steps


def inversion_steps(spec: TrainSpec) -> int:
    """Before the first step of the training itself."""
    return spec.trainer.inversion_steps if spec.trainer.name == "ti_dreambooth" else 0


def inversions(left: Iterable["Remaining"], cache: Path) -> dict[str, Inversion]:
    """The inversions that the trainings start from, by signature. A training that is complete needs none any more."""
    found: dict[str, Inversion] = {}
    for each in left:
        steps = inversion_steps(each.training.spec)
        if steps:
            stage = inversion_stage(each.training.spec)
            missing = steps - _trained(cache / "inversions" / stage.signature, steps) if each.untrained else 0
            before = found.get(stage.signature, Inversion(stage, 0, 0))  # another training may ask for fewer steps
            found[stage.signature] = Inversion(stage, max(steps, before.steps), max(missing, before.left))
    return found


def _trained(folder: Path, steps: int) -> int:
    """How many of the `steps` have been trained. trainers/loop.py goes on from the same step."""
    if is_complete(checkpoint_folder(folder, steps)):
        return steps
    saved = saved_step(folder)
    return max(0, saved) if saved <= steps else 0
