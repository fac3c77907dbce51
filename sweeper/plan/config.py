"""The only reader of Hydra's configuration: the plain config of a cell becomes a `Cell`, or one clear line."""

import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import cached_property, lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from evaluation.scheme import first_slice
from evaluation.spec import Adaptive, EvalSpec
from sweeper.plan.axes import AXES, PROMPTS, TEXT, Range, check, checked, fields_of, nested
from sweeper.plan.models import check_captions, find_path, model_at
from sweeper.plan.precision import CLASS_IMAGES, SAMPLING, decide
from sweeper.plan.types import Cell
from trainers.errors import SpecError
from trainers.families.defaults import DEFAULTS
from trainers.images import fingerprint as images_fingerprint
from trainers.images import own_class_images
from trainers.prompts import class_prompt, instance_prompt
from trainers.spec import (
    ENDLESS_SCHEDULES,
    ModelSpec,
    PriorSpec,
    SampleSpec,
    SubjectSpec,
    TrainerSpec,
    TrainSpec,
)
from trainers.validate import validate

T = TypeVar("T")

# A quoted string that was typed inside a list is an object of its own in Hydra.
_ENCODER = json.JSONEncoder(default=lambda typed: typed.text)
_check_once = lru_cache(maxsize=100_000, typed=True)(check)


def _axis(name: str, value: Any) -> Any:
    """The checked value of an axis. Values repeat from cell to cell, so each is checked once."""
    return _check_once(name, value) if isinstance(value, (str, int, float)) else check(name, value)


def _text(name: str, value: Any, default: str | None = None) -> str:
    """The text. null and an empty text are the default, if there is one."""
    return default if default is not None and value in (None, "") else checked(name, value, TEXT)


def _word(name: str, value: Any) -> str:
    """A word of the prompts. YAML may have read it as a number."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return _text(name, str(value) if is_number else value, "").strip()


def _model(section: Mapping[str, Any]) -> ModelSpec:
    typed = _text("model.repo", section["repo"])
    branch = _text("model.revision", section["revision"], "main")
    repo, revision = model_at("model.repo", typed, branch, ("model_index.json",))
    return ModelSpec(
        revision=revision,
        family=check("model.family", section["family"]),
        resolution=check("model.resolution", section["resolution"]),
        repo=repo,
        name=_text("model.name", section["name"]),
    )


def _lr_scale(section: Mapping[str, Any], trainer: str) -> float:
    """model.lr_scale as typed. null is the family's default for the trainer."""
    typed = check("model.lr_scale", section["lr_scale"])
    defaults = DEFAULTS[section["family"]].trainers.get(trainer)  # none: `validate` refuses the trainer
    if typed is None:
        return defaults.lr_scale if defaults else 1.0
    return float(typed)


def _subject(section: Mapping[str, Any]) -> SubjectSpec:
    folder = find_path(_text("subject.images", section["images"]))
    noun = _word("subject.class_noun", section["class_noun"])
    identifier = _word("subject.identifier", section["identifier"])
    if not noun:
        raise SpecError("subject.class_noun is empty: it is the word for what is on the photographs, such as dog.")
    subject = SubjectSpec(
        fingerprint=images_fingerprint(folder),
        class_noun=noun,
        identifier=identifier,
        instance_prompt=_text("subject.instance_prompt", section["instance_prompt"], ""),
        class_prompt=_text("subject.class_prompt", section["class_prompt"], ""),
        kind=check("subject.kind", section["kind"]),
        images=str(folder.resolve()),
        name=folder.resolve().name,
    )
    return replace(subject, instance_prompt=instance_prompt(subject), class_prompt=class_prompt(subject))


def _prior(section: Mapping[str, Any], precision: str) -> PriorSpec:
    values = {name: check(f"prior.{name}", section[name]) for name in nested("prior")} | {"precision": precision}
    sample = SampleSpec(**{f.name: values.pop(f.name) for f in fields(SampleSpec) if f.name in values})
    folder = _text("prior.folder", section["folder"], "")
    if folder:
        path = own_class_images(find_path(folder), values["num_class_images"]).resolve()
        values |= {"folder_fingerprint": images_fingerprint(path), "folder": str(path)}
    return PriorSpec(sample=sample, **values)


def _trainer(section: Mapping[str, Any]) -> TrainerSpec:
    known = [field.name for field in fields(TrainerSpec)]
    unknown = sorted(set(section) - set(known))
    if unknown:
        raise SpecError(f"trainer.{unknown[0]} is no setting; there are {', '.join(known)}.")
    values: dict[str, Any] = {name: check(f"trainer.{name}", value) for name, value in section.items()}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return TrainerSpec(**(values | lists))


def _prompts(section: Mapping[str, Any], kind: str, name: str = "prompts") -> tuple[str, ...]:
    """Those that were typed, or else those of the kind of subject."""
    prompts = section[name]
    setting = f"evaluation.{name}"
    if prompts is None:
        kinds = Range(dict, f"a list of prompts by kind of subject, here {kind}", lambda v: kind in v)
        prompts = checked(f"{setting}_by_kind", section[f"{name}_by_kind"], kinds)[kind]
        setting = f"{setting}_by_kind.{kind}"
    checked(setting, prompts, PROMPTS)
    for prompt in prompts:
        if not isinstance(prompt, str) or prompt.count("{}") != 1:
            raise SpecError(f"{setting}: {prompt!r} needs exactly one {{}}, where the subject's words go.")
    return tuple(prompts)


def _fresh_prompts(section: Mapping[str, Any], kind: str, prompts: tuple[str, ...]) -> tuple[str, ...]:
    """None with prompts of one's own: then the noise alone is fresh."""
    if section["prompts"] is not None and section["fresh_prompts"] is None:
        return ()
    fresh = _prompts(section, kind, "fresh_prompts")
    if both := [prompt for prompt in fresh if prompt in prompts]:
        raise SpecError(f"evaluation.fresh_prompts: {both[0]!r} is among evaluation.prompts too, so it is not fresh.")
    return fresh


def _evaluation(section: Mapping[str, Any], kind: str) -> EvalSpec:
    encoders: dict[str, Any] = {}
    for role in ("clip", "dino"):
        repo = _text(f"evaluation.{role}", section[role])
        at, revision = model_at(f"evaluation.{role}", repo, "main", ("config.json", "model_index.json"))
        encoders |= {role: revision, f"{role}_name": repo, f"{role}_repo": at}
    numbers = [name for name in nested("evaluation") if name not in ("prompts", "fresh_prompts")]
    counts = {name: check(f"evaluation.{name}", section[name]) for name in numbers}
    prompts = _prompts(section, kind)
    evaluation = EvalSpec(prompts=prompts, name=_text("evaluation.name", section["name"]), **counts, **encoders)
    if "fresh_prompts" not in section:
        return evaluation
    fresh = _fresh_prompts(section, kind, prompts)
    adaptive = Adaptive(prompts, fresh, evaluation.images_per_prompt, evaluation.class_images)
    return first_slice(replace(evaluation, adaptive=adaptive))


class Section(dict[str, Any]):
    """A section that nobody changes any more, so that its text is made once."""

    @cached_property
    def text(self) -> str:
        return _ENCODER.encode(self)


def sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration with its sections as `Section`: thousands of cells share them."""
    return {name: Section(value) if isinstance(value, dict) else value for name, value in config.items()}


@lru_cache(maxsize=4096)
def _section(build: Callable[..., Any], section: str, *args: str) -> Any:
    return build(json.loads(section), *args)


def _cached(build: Callable[..., T], section: Mapping[str, Any], *args: str) -> T:
    """What `build` makes of a section. Sections repeat from cell to cell, and reading one may hash files."""
    text = section.text if isinstance(section, Section) else _ENCODER.encode(section)
    built: T = _section(build, text, *args)
    return built


def read_cell(config: Mapping[str, Any], params: Mapping[str, Any]) -> Cell:
    """The cell that a resolved plain config asks for; `params` adds what else was typed. Raises SpecError."""
    precisions, elsewhere = decide(config)
    axes = {name: _axis(name, precisions.get(name, config[name])) for name in AXES}
    subject = _cached(_subject, config["subject"])
    trainer = _cached(_trainer, config["trainer"])
    if trainer.captions and trainer.name in ("textual_inversion", "ti_dreambooth"):
        check_captions(subject.images, subject.identifier)
    train = TrainSpec(
        model=_cached(_model, config["model"]),
        subject=subject,
        trainer=trainer,
        prior=_cached(_prior, config["prior"], precisions[CLASS_IMAGES]) if axes["prior_preservation"] else None,
        horizon=None if trainer.lr_schedule in ENDLESS_SCHEDULES else axes["steps"],
        lr_scale=_lr_scale(config["model"], trainer.name),
        **fields_of(TrainSpec, "train", axes),
    )
    validate(train)
    evaluation = _cached(_evaluation, config["evaluation"], subject.kind)
    judging = fields_of(EvalSpec, "judge", axes)
    return Cell(
        train=train,
        step=axes["steps"],
        sample=SampleSpec(**fields_of(SampleSpec, "sample", axes), precision=precisions[SAMPLING]),
        evaluation=replace(evaluation, **judging) if judging else evaluation,
        **fields_of(Cell, "checkpoint", axes),
        params=tuple({**axes, **{name: precisions.get(name, value) for name, value in params.items()}}.items()),
        elsewhere=elsewhere,
        use_ema=axes["use_ema"] or not trainer.ema_decay,
    )


def decode(kind: Any, data: Any) -> Any:
    """The inverse of `dataclasses.asdict` after a trip through JSON."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: decode(hints[name], value) for name, value in data.items()})
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if origin in (typing.Union, UnionType):
        return None if data is None else decode(next(a for a in args if a is not type(None)), data)
    if origin is tuple and isinstance(data, list):
        kinds = args if args and args[-1] is not Ellipsis else (args[0],) * len(data)
        return tuple(decode(k, v) for k, v in zip(kinds, data, strict=True))
    if isinstance(kind, type) and issubclass(kind, (Enum, Path)):
        return kind(data)
    return data
