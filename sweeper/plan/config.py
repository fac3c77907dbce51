"""The only reader of Hydra's configuration: the plain config of a cell becomes a `Cell`, or one clear line."""

import pickle
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import UnionType
from typing import Any

from evaluation.spec import EvalSpec, class_words, subject_words
from sweeper.plan.axes import AXES, KINDS, LAYERS, PRIOR, PROMPTS, RESOLUTION, SCALE, TEXT, Axis, checked, one_of, whole
from sweeper.plan.models import check_captions, find_path, model_at
from sweeper.plan.types import Cell
from trainers.errors import SpecError
from trainers.families import FAMILIES
from trainers.families.defaults import DEFAULTS
from trainers.images import fingerprint as images_fingerprint
from trainers.images import own_class_images
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


@lru_cache(maxsize=100_000, typed=True)
def _checked_axis(name: str, value: Any) -> Any:
    return checked(name, value, AXES[name])


def _axis(name: str, value: Any) -> Any:
    """Values repeat from cell to cell; what cannot be hashed is no axis' value."""
    return _checked_axis(name, value) if isinstance(value, (str, int, float)) else checked(name, value, AXES[name])


def _text(name: str, value: Any, default: str | None = None) -> str:
    """With a default, null and nothing are that."""
    return default if default is not None and value in (None, "") else checked(name, value, TEXT)


def _word(name: str, value: Any) -> str:
    """A word of the prompts, which may be a number."""
    number = isinstance(value, int) and not isinstance(value, bool)
    return _text(name, str(value) if number else value, "").strip()


def _model(section: Mapping[str, Any]) -> ModelSpec:
    repo, revision = _text("model.repo", section["repo"]), _text("model.revision", section["revision"], "main")
    repo, revision = model_at("model.repo", repo, revision, ("model_index.json",))
    return ModelSpec(
        revision=revision,
        family=checked("model.family", section["family"], one_of(tuple(FAMILIES))),
        resolution=checked("model.resolution", section["resolution"], RESOLUTION),
        repo=repo,
        name=_text("model.name", section["name"]),
    )


def _lr_scale(section: Mapping[str, Any], trainer: str) -> float:
    """What is typed as model.lr_scale; null is the family's default for the trainer."""
    typed = section["lr_scale"]
    if typed is None:
        return DEFAULTS[section["family"]].for_trainer(trainer).lr_scale
    return float(checked("model.lr_scale", typed, SCALE))


def _subject(section: Mapping[str, Any]) -> SubjectSpec:
    folder = find_path(_text("subject.images", section["images"]))
    noun, identifier = (_word(f"subject.{name}", section[name]) for name in ("class_noun", "identifier"))
    if not noun:
        raise SpecError("subject.class_noun is empty: it is the word for what is on the photographs, such as dog.")
    prompts = {
        name: _text(f"subject.{name}", section[name], f"a photo of {words}")
        for name, words in (
            ("instance_prompt", subject_words(identifier, noun)),
            ("class_prompt", class_words(noun)),
        )
    }
    return SubjectSpec(
        fingerprint=images_fingerprint(folder),
        class_noun=noun,
        identifier=identifier,
        **prompts,
        kind=checked("subject.kind", section["kind"], one_of(("object", "live", "face"))),
        images=str(folder.resolve()),
        name=folder.resolve().name,
    )


def _prior(section: Mapping[str, Any]) -> PriorSpec:
    values = {name: checked(f"prior.{name}", section[name], axis) for name, axis in PRIOR.items()}
    sample = SampleSpec(*(values.pop(name) for name in ("scheduler", "inference_steps", "guidance_scale")))
    folder = _text("prior.folder", section["folder"], "")
    if folder:
        path = own_class_images(find_path(folder), values["num_class_images"]).resolve()
        values |= {"folder_fingerprint": images_fingerprint(path), "folder": str(path)}
    return PriorSpec(sample=sample, **values)


def _trainer(section: Mapping[str, Any]) -> TrainerSpec:
    hints = typing.get_type_hints(TrainerSpec)
    unknown = sorted(set(section) - set(hints))
    if unknown:
        raise SpecError(f"trainer.{unknown[0]} is no setting; there are {', '.join(hints)}.")
    values = {}
    for name, value in section.items():
        kinds = typing.get_args(hints[name]) or (hints[name],)
        if value is None and type(None) in kinds:
            values[name] = None
        elif typing.get_origin(hints[name]) is tuple:
            values[name] = tuple(checked(f"trainer.{name}", value, LAYERS))
        else:
            values[name] = checked(f"trainer.{name}", value, KINDS[kinds[0]])
    return TrainerSpec(**values)


def _prompts(section: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    name, prompts = "evaluation.prompts", section["prompts"]
    if prompts is None:
        kinds = Axis(dict, f"a list of prompts by kind of subject, here {kind}", lambda v: kind in v)
        prompts = checked("evaluation.prompts_by_kind", section["prompts_by_kind"], kinds)[kind]
        name = f"evaluation.prompts_by_kind.{kind}"
    checked(name, prompts, PROMPTS)
    for prompt in prompts:
        if not isinstance(prompt, str) or prompt.count("{}") != 1:
            raise SpecError(f"{name}: {prompt!r} needs exactly one {{}}, where the subject's words go.")
    return tuple(prompts)


def _evaluation(section: Mapping[str, Any], kind: str) -> EvalSpec:
    encoders = {}
    for role in ("clip", "dino"):
        repo = _text(f"evaluation.{role}", section[role])
        at, revision = model_at(f"evaluation.{role}", repo, "main", ("config.json", "model_index.json"))
        encoders |= {role: revision, f"{role}_name": repo, f"{role}_repo": at}
    counts = {
        name: checked(f"evaluation.{name}", section[name], whole(low))
        for name, low in (("images_per_prompt", 1), ("class_images", 2), ("seed", 0))
    }
    return EvalSpec(
        prompts=_prompts(section, kind), name=_text("evaluation.name", section["name"]), **counts, **encoders
    )


@lru_cache(maxsize=4096)
def _section(build: Callable[..., Any], section: bytes, *args: str) -> Any:
    return build(pickle.loads(section), *args)


def _cached(build: Callable[..., Any], section: Any, *args: str) -> Any:
    """Sections repeat from cell to cell, and reading one may hash files."""
    return _section(build, pickle.dumps(section), *args)


def read_cell(config: Mapping[str, Any], params: Mapping[str, Any]) -> Cell:
    """The cell that a resolved plain config asks for; `params` adds what else was typed. Raises SpecError."""
    axes = {name: _axis(name, config[name]) for name in AXES}
    subject = _cached(_subject, config["subject"])
    trainer = _cached(_trainer, config["trainer"])
    if trainer.captions and trainer.name in ("textual_inversion", "ti_dreambooth"):
        check_captions(subject.images, subject.identifier)
    train = TrainSpec(
        model=_cached(_model, config["model"]),
        subject=subject,
        trainer=trainer,
        prior=_cached(_prior, config["prior"]) if axes["prior_preservation"] else None,
        horizon=None if trainer.lr_schedule in ENDLESS_SCHEDULES else axes["steps"],
        lr_scale=_lr_scale(config["model"], trainer.name),
        **{f.name: axes[f.name] for f in fields(TrainSpec) if f.name in axes},
    )
    validate(train)
    return Cell(
        train=train,
        step=axes["steps"],
        sample=SampleSpec(axes["scheduler"], axes["inference_steps"], axes["guidance_scale"]),
        evaluation=_cached(_evaluation, config["evaluation"], subject.kind),
        eval_every=axes["eval_every"],
        params=tuple({**axes, **params}.items()),
        use_ema=axes["use_ema"] or not trainer.ema_decay,
    )


def decode(kind: Any, data: Any) -> Any:
    """The inverse of `dataclasses.asdict` after a trip through JSON."""
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: decode(hints[name], value) for name, value in data.items()})
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, UnionType):
        return None if data is None else decode(next(a for a in args if a is not type(None)), data)
    if origin is tuple and isinstance(data, list):
        kinds = args if args and args[-1] is not Ellipsis else (args[0],) * len(data)
        return tuple(decode(k, v) for k, v in zip(kinds, data, strict=True))
    return data
