"""What was measured on the samples of one model, and what checkpoints are compared with, as values and as JSON.

Imports nothing heavy: the plan asks a store what is still to be measured.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from evaluation.metrics import METRICS
from trainers.files import read_json, write_json
from trainers.provenance import Provenance

T = TypeVar("T")
Values = list[Any]  # nested lists of numbers, [prompt][image]; None where a value is not defined
SAMPLES_GONE = "its images were deleted before this could be measured"
WEIGHTS_GONE = "it needs the weights of the checkpoint, which were deleted"
NOT_YET = "it has not been measured yet"
FIRST = 1  # the version of whatever was measured before versions were written down


@dataclass(frozen=True)
class Scorecard:
    """The scores of one model's samples. Dictionaries are by metric; a metric that is in none of them has a reason in
    `missing`, or is not a metric of today."""

    made_for: str  # signature of the model, the subject, the words, the way of sampling and the evaluation
    metrics: dict[str, float | None]  # mean over images; None where no image has a value
    values: dict[str, Values]
    backbones: dict[str, str]  # name of the encoder
    images: dict[str, int]  # how many values were averaged
    versions: dict[str, int]  # see `Metric.version`
    missing: dict[str, str] = field(default_factory=dict)  # why it could not be measured
    seconds: dict[str, float] = field(default_factory=dict)  # sample, score
    provenance: tuple[Provenance, ...] = ()  # who sampled and measured; unknown before format 2 of the store

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Scorecard":
        """Reads every layout since revision 6044e38, which had neither versions nor provenance."""
        values = content.get("values", {})
        return cls(
            made_for=content.get("made_for", ""),
            metrics=content.get("metrics", {}),
            values=values,
            backbones=content.get("backbones", {}),
            images=content.get("images", {}),
            versions=dict.fromkeys(values, FIRST) | content.get("versions", {}),
            missing=content.get("missing", {}),
            seconds=content.get("seconds", {}),
            provenance=tuple(p for p in map(Provenance.from_json, content.get("provenance", ())) if p),
        )

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "provenance": [each.to_json() for each in self.provenance]}

    @classmethod
    def read(cls, path: Path) -> "Scorecard":
        return cls.from_json(read_json(path))

    def write(self, path: Path) -> None:
        write_json(path, self.to_json())

    def stale(self) -> tuple[str, ...]:
        """Today's metrics that it lacks or has of an older version."""
        return stale(self.versions)

    def without(self, reasons: Mapping[str, str]) -> "Scorecard":
        """The same without the metrics of `reasons`, which are noted as missing."""
        if not reasons:
            return self
        return replace(
            self,
            metrics=_without(self.metrics, reasons),
            values=_without(self.values, reasons),
            backbones=_without(self.backbones, reasons),
            images=_without(self.images, reasons),
            versions=_without(self.versions, reasons),
            missing={**self.missing, **reasons},
        )

    def completed(self, more: "Scorecard") -> "Scorecard":
        """With the metrics of `more`, measured later on the same samples."""
        return replace(
            self,
            metrics=_in_order(self.metrics, more.metrics),
            values=_in_order(self.values, more.values),
            backbones=_in_order(self.backbones, more.backbones),
            images=_in_order(self.images, more.images),
            versions=_in_order(self.versions, more.versions),
            missing={name: why for name, why in self.missing.items() if name not in more.values},
            seconds={**self.seconds, "score": self.seconds.get("score", 0.0) + more.seconds.get("score", 0.0)},
            provenance=tuple(dict.fromkeys(self.provenance + more.provenance)),
        )


@dataclass(frozen=True)
class Baselines:
    """What checkpoints are compared with: values of the untuned model's samples, and of the photographs."""

    untuned: dict[str, Values]
    photographs: dict[str, Values]  # [photograph]; of clip_t [prompt][photograph]
    versions: dict[str, int]
    provenance: tuple[Provenance, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Baselines":
        """Reads every layout since revision 6044e38."""
        untuned = content.get("untuned", {})
        return cls(
            untuned=untuned,
            photographs=content.get("photographs", {}),
            versions=dict.fromkeys(untuned, FIRST) | content.get("versions", {}),
            provenance=tuple(p for p in map(Provenance.from_json, content.get("provenance", ())) if p),
        )

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "provenance": [each.to_json() for each in self.provenance]}

    @classmethod
    def read(cls, path: Path) -> "Baselines":
        return cls.from_json(read_json(path))

    def write(self, path: Path) -> None:
        write_json(path, self.to_json())

    def stale(self) -> tuple[str, ...]:
        return stale(self.versions)

    def current(self) -> "Baselines":
        """The same without what an older version of a metric has measured."""
        old = [name for name in self.stale() if name in self.versions]
        if not old:
            return self
        return replace(
            self,
            untuned=_without(self.untuned, old),
            photographs=_without(self.photographs, old),
            versions=_without(self.versions, old),
        )


def stale(versions: Mapping[str, int]) -> tuple[str, ...]:
    """Today's metrics that are absent from `versions`, or older there."""
    return tuple(name for name, metric in METRICS.items() if versions.get(name, 0) < metric.version)


def unmeasurable(names: Iterable[str], weights: bool, samples: bool) -> dict[str, str]:
    """Why some of the metrics cannot be measured any more: metric -> reason. `weights` and `samples` tell whether those
    of the checkpoint are there."""
    if not samples:
        return dict.fromkeys(names, SAMPLES_GONE)
    return {name: WEIGHTS_GONE for name in names if METRICS[name].needs_weights and not weights}


def _without(by_metric: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    return {name: value for name, value in by_metric.items() if name not in names}


def _in_order(old: Mapping[str, T], new: Mapping[str, T]) -> dict[str, T]:
    """Both, `new` before `old`: today's metrics in their order, then the others."""
    both = {**old, **new}
    return {name: both[name] for name in dict.fromkeys((*METRICS, *both)) if name in both}
