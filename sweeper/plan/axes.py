"""The registry of axes: what each setting may be, what it acts on, and how it is shown.

Help, checks, the sharing of trainings, the identity of a cell, tables, pages, MLflow and the search read it; nothing
else lists axes. `axis_of` also knows the settings that have no entry here: it reads the field of the spec they set.
"""

import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

from evaluation.spec import EvalSpec, show
from sweeper.plan.types import HALVING
from trainers.errors import SpecError
from trainers.families import FAMILIES
from trainers.spec import SCHEDULERS, ModelSpec, PriorSpec, SubjectSpec, TrainerSpec
from trainers.validate import PRECISIONS

# What a setting acts on, and so what its values share: another value of a `train` axis is another training.
Stage = Literal["train", "checkpoint", "sample", "judge", "run"]

TRACKERS = ("sqlite:", "http:", "https:")
TAKEN = ("store", "mlartifacts", "mlflow.db", "tracking.db")  # by what all sweeps share in output_dir


def _anything(_: Any) -> bool:
    return True


def _names_a_folder(name: str) -> bool:
    """Whether a sweep can have a folder of its own of this name, straight in output_dir."""
    plain = name == name.strip() and name.isprintable() and "/" not in name and not name.startswith(".")
    return plain and name not in TAKEN and len(name.encode()) <= 200


@dataclass(frozen=True)
class Range:
    """The values that are allowed."""

    kind: type  # object: any
    words: str
    holds: Callable[[Any], bool] = _anything
    nullable: bool = False


@dataclass(frozen=True)
class Axis:
    """One setting under the name typed, which is the name shown."""

    name: str
    range: Range
    stage: Stage = "train"
    unit: str = ""
    help: str = ""  # what the unit does not say
    log: bool = False  # values are compared by their ratio
    home: str = "conf/sweep.yaml"  # of the default

    @property
    def kind(self) -> type:
        return self.range.kind

    @property
    def costs_training(self) -> bool:
        """Whether another value is another training."""
        return self.stage == "train"

    @property
    def log_name(self) -> str:
        """What the logarithm of its values is called where a chart has no logarithmic scale."""
        return f"log10_{self.name}"

    @property
    def shown(self) -> str:
        """Its line in the help."""
        return "; ".join(text for text in (self.unit, self.help) if text)


def whole(low: int) -> Range:
    return Range(int, f"a whole number, {low} or more", lambda v: v >= low)


def one_of(names: Iterable[str]) -> Range:
    allowed = tuple(names)
    return Range(str, "one of " + ", ".join(allowed), lambda v: v in allowed)


ANY = Range(object, "any value")
SWITCH = Range(bool, "true or false")
TEXT = Range(str, "text that is not empty", lambda v: bool(v.strip()))
SCHEDULER = one_of(SCHEDULERS)
GUIDANCE = Range(float, "a number, 1 or more", lambda v: 1 <= v < 1000)
STEPS = Range(int, "a whole number, 1 or more and at most 1,000,000", lambda v: 1 <= v <= 1_000_000)
ASKED = ("auto", *PRECISIONS)
PRECISION = one_of(ASKED)
OF_A_MODEL = replace(one_of(PRECISIONS), nullable=True)
AUTOMATIC = "auto: the model's on a GPU (fp16 for Stable Diffusion), else no, which is fp32"
RATE = Range(float, "a number above 0 and below 1, such as 2e-6", lambda v: 0 < v < 1)
EVERY = Range(object, f"a whole number, 0 or more, or {HALVING}", lambda v: v == HALVING or (type(v) is int and v >= 0))
KEEP = Range(
    object,
    "all, best, or a number of checkpoints, 1 or more",
    lambda v: v in ("all", "best") or (type(v) is int and v >= 1),
)
TRACKER = Range(
    str, f"null, or text that starts with {', '.join(TRACKERS)}", lambda v: v.startswith(TRACKERS), nullable=True
)
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([GM])i?B", re.IGNORECASE)
MEMORY = Range(
    str, "null, or a size such as 24GB", lambda v: bool(SIZE.fullmatch(v)) and bytes_of(v) > 0, nullable=True
)
NAME = Range(
    str,
    "text that names a new folder in output_dir, such as first; name=null makes one",
    _names_a_folder,
    nullable=True,
)
FOLDER = Range(object, "a folder", lambda v: isinstance(v, (str, int, float)) and bool(str(v).strip()))
SEED = Range(int, "a whole number, 0 or more and below 2 to the 64th", lambda v: 0 <= v < 2**64)
# A model is trained on 1,000 noise levels, and some schedulers refuse to take more steps than that.
INFERENCE_STEPS = Range(int, "a whole number, 1 or more and at most 1,000", lambda v: 1 <= v <= 1000)
FILE = Range(str, "the name of a file of this group in conf/")
LAYERS = Range(
    list,
    "a list of one or more names of layers, such as [to_q,to_k]",
    lambda v: bool(v) and all(isinstance(name, str) and name for name in v),
)
PROMPTS = Range(list, "a list of one or more prompts, such as ['a photo of {} on the beach']", bool, nullable=True)
BY_TYPE = {  # of a field that has no narrower range
    bool: SWITCH,
    int: Range(int, "a whole number"),
    float: Range(float, "a finite number"),
    str: Range(str, "text"),
    tuple: LAYERS,
}


def _by_name(*axes: Axis) -> dict[str, Axis]:
    return {axis.name: axis for axis in axes}


# Of a cell, at the root of the configuration, in the order of the help.
AXES = _by_name(
    Axis("lr", RATE, unit="learning rate", help="model.lr_scale multiplies it", log=True),
    Axis("steps", STEPS, "checkpoint", unit="optimizer steps"),
    Axis("prior_preservation", SWITCH, unit="true | false"),
    Axis("train_text_encoder", SWITCH, unit="true | false"),
    Axis("seed", SEED),
    Axis("batch_size", whole(1), unit="instance images"),
    Axis("gradient_accumulation_steps", whole(1), unit="accumulation steps per optimizer step"),
    Axis("mixed_precision", PRECISION, unit=" | ".join(ASKED), help="of training; auto: as sample_precision"),
    Axis("use_8bit_adam", SWITCH, unit="true | false"),
    Axis("gradient_checkpointing", SWITCH, unit="true | false"),
    Axis("eval_every", EVERY, "checkpoint", unit="optimizer steps", help="halving: at 1/2, 1/4, 1/8, 1/16; 0: nowhere"),
    Axis("scheduler", SCHEDULER, "sample", unit=" ".join(SCHEDULERS)),
    Axis("inference_steps", INFERENCE_STEPS, "sample", unit="denoising steps an image"),
    Axis("guidance_scale", GUIDANCE, "sample", unit="1 is none"),
    Axis("sample_precision", PRECISION, "sample", unit=" | ".join(ASKED), help=AUTOMATIC),
    Axis("use_ema", SWITCH, "sample", help="the weights' moving average, where trainer.ema_decay keeps one"),
)

# The value is the name of a file, which sets many things at once.
GROUPS = _by_name(
    Axis("model", FILE, home="conf/model/"),
    Axis("subject", FILE, home="conf/subject/"),
    Axis("trainer", FILE, home="conf/trainer/"),
    Axis("evaluation", FILE, "judge", home="conf/evaluation/"),
    Axis("experiment", FILE, home="conf/experiment/"),
)

# Settings inside of others for which the type of their field says too little.
NESTED = _by_name(
    Axis("prior.num_class_images", whole(1)),
    Axis("prior.weight", Range(float, "a number, 0 or more", lambda v: 0 <= v < 1000)),
    Axis("prior.scheduler", SCHEDULER),
    Axis("prior.inference_steps", INFERENCE_STEPS),
    Axis("prior.guidance_scale", GUIDANCE),
    Axis("prior.seed", whole(0)),
    Axis("prior.precision", PRECISION, unit=" | ".join(ASKED), help=AUTOMATIC),
    Axis("model.family", one_of(FAMILIES), home="conf/model/"),
    Axis(
        "model.resolution",
        Range(int, "a multiple of 8, 8 or more", lambda v: v >= 8 and v % 8 == 0),
        unit="pixels",
        home="conf/model/",
    ),
    Axis("model.mixed_precision", OF_A_MODEL, home="conf/model/"),
    Axis("model.sample_precision", OF_A_MODEL, home="conf/model/"),
    Axis(
        "model.lr_scale",
        Range(float, "a finite number above 0", lambda v: v > 0, nullable=True),
        home="conf/model/",
    ),
    Axis("subject.kind", one_of(("object", "live", "face")), home="conf/subject/"),
    Axis("evaluation.images_per_prompt", whole(1), "judge", home="conf/evaluation/"),
    Axis("evaluation.class_images", whole(2), "judge", home="conf/evaluation/"),
    Axis("evaluation.seed", whole(0), "judge", home="conf/evaluation/"),
    Axis("evaluation.prompts", PROMPTS, "judge", home="conf/evaluation/"),
    Axis("evaluation.fresh_prompts", PROMPTS, "judge", home="conf/evaluation/adaptive.yaml"),
)

# Of the whole sweep: one value each, and no result depends on them.
RUN = _by_name(
    Axis("output_dir", FOLDER, "run"),
    Axis("name", NAME, "run"),
    Axis("keep", KEEP, "run"),
    Axis("early_stop", Range(str, "overfit or null", lambda v: v == "overfit", nullable=True), "run"),
    Axis("gpus_per_trial", whole(1), "run"),
    Axis("cpu_trials", whole(1), "run"),
    Axis("fit", one_of(("auto", "strict")), "run"),
    Axis("device_memory", MEMORY, "run"),
    Axis("trials_per_gpu", whole(1), "run"),
    Axis("plan_only", SWITCH, "run"),
    Axis("force", SWITCH, "run"),
    Axis("tracking.uri", TRACKER, "run"),
    Axis("tracking.experiment", TEXT, "run"),
)

SPECS: dict[str, type] = {  # whose fields the nested settings set
    "model": ModelSpec,
    "subject": SubjectSpec,
    "trainer": TrainerSpec,
    "prior": PriorSpec,
    "evaluation": EvalSpec,
}


def axis_of(key: str) -> Axis:
    """The axis of a key of the configuration: its entry, or what the field says that it sets."""
    for known in (AXES, GROUPS, NESTED, RUN):
        if key in known:
            return known[key]
    return _axis_of_field(key)


@lru_cache
def _axis_of_field(key: str) -> Axis:
    group, _, name = key.partition(".")
    spec = SPECS.get(group)
    stage = GROUPS[group].stage if group in GROUPS else "train"
    home = GROUPS[group].home if group in GROUPS else "conf/sweep.yaml"
    hints = typing.get_type_hints(spec) if spec else {}
    if spec is None or name not in hints:
        return Axis(key, ANY, stage, home=home)
    kinds = [kind for kind in typing.get_args(hints[name]) or (hints[name],) if kind is not type(None)]
    kind = typing.get_origin(hints[name]) or kinds[0]
    known = BY_TYPE.get(kind if kind is tuple else kinds[0], ANY)
    values = Range(known.kind, known.words, known.holds, nullable=type(None) in typing.get_args(hints[name]))
    log = next(field.metadata.get("log", False) for field in fields(spec) if field.name == name)
    return Axis(key, values, stage, log=log, home=home)


def bytes_of(size: str) -> int:
    """Of a size as `device_memory` takes it. A card's GB are GiB."""
    found = SIZE.fullmatch(size)
    if found is None:
        raise ValueError(size)
    return int(float(found[1]) * 1024 ** {"G": 3, "M": 2}[found[2].upper()])


def with_stage(*stages: Stage) -> tuple[str, ...]:
    """The names of the axes of a cell that act on these stages."""
    return tuple(axis.name for axis in (*AXES.values(), *GROUPS.values()) if axis.stage in stages)


def nested(group: str) -> tuple[str, ...]:
    """The names of the entries inside a section of the configuration, without the section."""
    return tuple(name.removeprefix(f"{group}.") for name in NESTED if name.startswith(f"{group}."))


def fields_of(spec: type, stage: Stage, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values of a cell's axes, those of this stage that are fields of `spec`."""
    names = (field.name for field in fields(spec))
    return {name: values[name] for name in names if name in AXES and AXES[name].stage == stage}


def coerce(kind: type, value: Any) -> Any:
    """`value` as `kind`, where that loses nothing (400.0 is 400, 1 is 1.0); raises ValueError otherwise."""
    if kind in (int, float):
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if number and kind(value) == value:
            return kind(value)
    elif isinstance(value, kind):
        return value
    raise ValueError


def check(name: str, value: Any) -> Any:
    """`value` as the setting `name` holds it. Raises SpecError for what it may not be."""
    return checked(name, value, axis_of(name).range)


def checked(name: str, value: Any, allowed: Range) -> Any:
    if name.endswith("precision") and value is False:
        value = "no"  # YAML reads a bare no as false
    if value is None and allowed.nullable:
        return None
    try:
        value = coerce(allowed.kind, value)
        if allowed.holds(value):
            return value
    except (ValueError, OverflowError):
        pass
    raise SpecError(f"{name}={show(value)}: must be {allowed.words}.")


def describe(params: Mapping[str, Any], names: Iterable[str]) -> str:
    """The parameters of these names, as typed: "lr=2e-6 steps=400". A name without a value is left out."""
    return " ".join(f"{name}={show(params[name])}" for name in names if name in params)


def help_table(config: Mapping[str, Any]) -> str:
    """A line for each axis of a cell: name, default, unit."""
    lines = (f"  {axis.name:<27} {show(config[axis.name]):<13} {axis.shown}".rstrip() for axis in AXES.values())
    return "\n".join(lines).lstrip()
