"""The axes: what each may be."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.spec import show
from trainers.errors import SpecError
from trainers.spec import SCHEDULERS

PRECISIONS = ("no", "fp16", "bf16")


@dataclass(frozen=True)
class Axis:
    kind: type
    allowed: str
    holds: Callable[[Any], bool] = lambda _: True


def whole(low: int) -> Axis:
    return Axis(int, f"a whole number, {low} or more", lambda v: v >= low)


def one_of(names: tuple[str, ...]) -> Axis:
    return Axis(str, "one of " + ", ".join(names), lambda v: v in names)


SWITCH = Axis(bool, "true or false")


KINDS = {  # of what is given no narrower range
    bool: SWITCH,
    int: Axis(int, "a whole number"),
    float: Axis(float, "a finite number"),
    str: Axis(str, "text"),
}


TEXT = Axis(str, "text that is not empty", lambda v: bool(v.strip()))


SCALE = Axis(float, "a finite number above 0", lambda v: v > 0)


RESOLUTION = Axis(int, "a multiple of 8, 8 or more", lambda v: v >= 8 and v % 8 == 0)


PROMPTS = Axis(list, "a list of one or more prompts, such as ['a photo of {} on the beach']", bool)


LAYERS = Axis(
    list,
    "a list of one or more names of layers, such as [to_q,to_k]",
    lambda v: bool(v) and all(isinstance(name, str) and name for name in v),
)


AXES = {
    "lr": Axis(float, "a number above 0 and below 1, such as 2e-6", lambda v: 0 < v < 1),
    "steps": Axis(int, "a whole number, 1 or more and at most 1,000,000", lambda v: 1 <= v <= 1_000_000),
    "prior_preservation": SWITCH,
    "train_text_encoder": SWITCH,
    "seed": whole(0),
    "batch_size": whole(1),
    "gradient_accumulation_steps": whole(1),
    "mixed_precision": one_of(PRECISIONS),
    "use_8bit_adam": SWITCH,
    "gradient_checkpointing": SWITCH,
    "eval_every": whole(0),
    "scheduler": one_of(SCHEDULERS),
    "inference_steps": whole(1),
    "guidance_scale": Axis(float, "a number, 1 or more", lambda v: 1 <= v < 1000),
    "use_ema": SWITCH,
}


PRIOR = {
    "num_class_images": whole(1),
    "weight": Axis(float, "a number, 0 or more", lambda v: 0 <= v < 1000),
    "scheduler": AXES["scheduler"],
    "inference_steps": AXES["inference_steps"],
    "guidance_scale": AXES["guidance_scale"],
    "seed": AXES["seed"],
}


def coerce(kind: type, value: Any) -> Any:
    """`value` as `kind`, where that loses nothing (400.0 is 400, 1 is 1.0); raises ValueError otherwise."""
    if kind in (int, float):
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if number and kind(value) == value:
            return kind(value)
    elif isinstance(value, kind):
        return value
    raise ValueError


def checked(name: str, value: Any, axis: Axis) -> Any:
    if name.endswith("mixed_precision") and value is False:
        value = "no"  # YAML reads a bare no as false
    try:
        value = coerce(axis.kind, value)
        if axis.holds(value):
            return value
    except (ValueError, OverflowError):
        pass
    raise SpecError(f"{name}={show(value)}: must be {axis.allowed}.")


def describe(params: Mapping[str, Any], names: Iterable[str]) -> str:
    """The parameters of these names, as typed: "lr=2e-6 steps=400". A name without a value is left out."""
    return " ".join(f"{name}={show(params[name])}" for name in names if name in params)
