"""Ways to need less memory, as they would be typed. Imports nothing heavy."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from trainers.spec import TrainSpec
from trainers.validate import complaints

Option = dict[str, Any]  # fields of a TrainSpec


def lighter(spec: TrainSpec, processes: int = 1, bf16: bool = True) -> Iterator[tuple[str, TrainSpec]]:
    """Everything that could help, each on top of what is before it. bf16: whether the device has it."""
    checkpointing, eight_bit, accumulation = unasked(spec, processes)
    half = "bf16" if bf16 else "fp16"
    precision: Option = {"mixed_precision": half if spec.mixed_precision == "no" else spec.mixed_precision}
    lora: Option = {"trainer": replace(spec.trainer, name="dreambooth_lora")}
    yield from on_top(spec, (checkpointing, eight_bit, precision, accumulation, lora))


def unasked(spec: TrainSpec, processes: int = 1) -> tuple[Option, ...]:
    """What `fit=auto` takes, in this order. The same images are in each optimizer step, and the precision is as asked
    but for the optimizer's moments."""
    steps = spec.batch_size * spec.gradient_accumulation_steps // processes
    return (
        {"gradient_checkpointing": True},
        {"use_8bit_adam": True},
        {"batch_size": processes, "gradient_accumulation_steps": steps},
    )


def on_top(spec: TrainSpec, options: Iterable[Option]) -> Iterator[tuple[str, TrainSpec]]:
    """`spec` with the first of the options, with the first two, and so on: (what to type, the training). Left out is
    what changes nothing, or contradicts what `spec` has."""
    typed: list[str] = []
    for option in options:
        changed = replace(spec, **option)
        if changed != spec and not any(complaints(changed)):
            spec = changed
            typed += [f"{name}={_shown(value)}" for name, value in option.items()]
            yield " ".join(typed), spec


def _shown(value: Any) -> str:
    name = getattr(value, "name", value)  # a trainer by its name
    return str(name).lower() if isinstance(name, bool) else str(name)
