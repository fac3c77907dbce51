"""What `auto` stands for in a precision: what the model asks for where a GPU is visible, fp32 elsewhere.

It is decided once, when the sweep is planned. The decision is a part of the cell, as if it had been typed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sweeper.plan.axes import check
from sweeper.plan.gpus import count_gpus
from sweeper.plan.types import Cell, Training
from trainers.errors import SpecError
from trainers.families.defaults import DEFAULTS
from trainers.spec import TrainSpec

AUTO, FP32 = "auto", "no"
TRAINING, SAMPLING, CLASS_IMAGES = "mixed_precision", "sample_precision", "prior.precision"


def decide(config: Mapping[str, Any]) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The precisions of a cell by name; and of those that the kind of device decided, what they are on the other."""
    asked = {TRAINING: config[TRAINING], SAMPLING: config[SAMPLING], CLASS_IMAGES: config["prior"]["precision"]}
    values = {name: str(check(name, value)) for name, value in asked.items()}
    on_gpu = {name: _of_the_model(config["model"], SAMPLING if name == CLASS_IMAGES else name) for name in values}
    automatic = {name: on_gpu[name] for name, value in values.items() if value == AUTO}
    visible = bool(count_gpus())
    values |= {name: value if visible else FP32 for name, value in automatic.items()}
    other = {name: FP32 if visible else value for name, value in automatic.items() if value != FP32}
    if not config["prior_preservation"]:
        other.pop(CLASS_IMAGES, None)
    return values, tuple(other.items())


def _of_the_model(section: Mapping[str, Any], name: str) -> str:
    """What a model asks for on a GPU. null is the family's default."""
    typed = check(f"model.{name}", section[name])
    family = DEFAULTS.get(section["family"])  # none: `validate` refuses it
    if typed is None:
        return str(getattr(family, name)) if family else FP32
    return str(typed)


def precision_of(cell: Cell, name: str) -> str:
    """One of the three, by its name."""
    prior = cell.train.prior
    values = {TRAINING: cell.train.mixed_precision, SAMPLING: cell.sample.precision}
    return {**values, CLASS_IMAGES: prior.sample.precision if prior else FP32}[name]


def elsewhere(cell: Cell) -> Cell:
    """The cell that the same command makes on the other kind of device: with a GPU, or without."""
    if not cell.elsewhere:
        return cell
    other = dict(cell.elsewhere)
    train = replace(cell.train, mixed_precision=other.get(TRAINING, cell.train.mixed_precision))
    if train.prior and CLASS_IMAGES in other:
        sample = replace(train.prior.sample, precision=other[CLASS_IMAGES])
        train = replace(train, prior=replace(train.prior, sample=sample))
    precision = other.get(SAMPLING, cell.sample.precision)
    return replace(cell, train=train, sample=replace(cell.sample, precision=precision))


def kept_precision(spec: TrainSpec, sampled: str) -> str:
    """What the weights of a checkpoint are rounded to before they are sampled in a precision, scored and exported."""
    return sampled if spec.trainer.whole_networks and sampled == "fp16" else FP32


def stored_precision(training: Training) -> str:
    """Of the checkpoints on disk: fp16 where every way of sampling them uses that, else fp32.

    Adapters and learned words are small, and stay fp32. bf16 has too few bits for what is exported."""
    asked = {kept_precision(training.spec, cell.sample.precision) for cell in training.cells}
    return asked.pop() if len(asked) == 1 else FP32


def check_precisions(trainings: Iterable[Training]) -> None:
    """Raises SpecError for fp16 where there is no GPU: a processor has no arithmetic for it."""
    if count_gpus():
        return
    for training in trainings:
        prior = training.spec.prior
        used = {TRAINING: {training.spec.mixed_precision}, SAMPLING: {c.sample.precision for c in training.cells}}
        used[CLASS_IMAGES] = {prior.sample.precision} if prior and not prior.folder else set()
        for name, precisions in used.items():
            if "fp16" in precisions:
                raise SpecError(f"{name}=fp16 needs a GPU and none is visible here; auto, no or bf16.")
