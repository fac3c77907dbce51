"""What the claims are assessed by: settings of an experiment with their measures, numbers with bootstrap draws.

The draws resample the same prompts and training seeds for everything, so the draws of a difference are the differences
of the draws (see `evaluation/bootstrap.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.bootstrap import average, draw_weights, drawn_means, interval, means
from evaluation.fidelity import arrays_of, common_scale, normalised, stacked
from evaluation.metrics import METRICS
from evaluation.scorecard import Baselines, Scorecard
from evaluation.spec import show
from evaluation.sweetspot import refusal
from evaluation.vetoes import VETOES, nearness
from sweeper.plan.types import Plan
from sweeper.report.titles import title
from sweeper.store import Store

# What is measured, in words; the higher the better only for the first three.
MEASURES = {
    **{name: title(name) for name in ("score", "s", "t")},
    "copying": "copying: 0 as alike as the photographs are to each other, 1 a photograph itself",
    "drift": "plain images of the class: 0 as untuned, 1 as like the subject as its photographs",
    "noise": "noise, as the log of its ratio to the photographs'",
}
MEASURED = ("dino", "clip_t", "copying", "noise", "pres")  # the metrics that they are computed of


class Missing(Exception):
    """A claim needs a result that is not there. The message says which."""


@dataclass(frozen=True)
class Bootstrapped:
    """A number and its bootstrap draws [B]."""

    value: float
    draws: npt.NDArray[np.float64]

    def __sub__(self, other: "Bootstrapped | float") -> "Bootstrapped":
        return self + (-1.0 * other)

    def __add__(self, other: "Bootstrapped | float") -> "Bootstrapped":
        if not isinstance(other, Bootstrapped):
            other = Bootstrapped(other, np.array(other))
        return Bootstrapped(self.value + other.value, self.draws + other.draws)

    def __rsub__(self, other: float) -> "Bootstrapped":
        return -1.0 * self + other

    def __rmul__(self, factor: float) -> "Bootstrapped":
        return Bootstrapped(factor * self.value, factor * self.draws)

    @cached_property
    def interval(self) -> tuple[float, float]:
        low, high = interval(np.atleast_1d(self.draws))
        return float(low), float(high)


def mean(numbers: Iterable[Bootstrapped]) -> Bootstrapped:
    """The mean of several subjects or settings; it holds for these, not for others."""
    first, *others = numbers
    return (1 / (1 + len(others))) * sum(others, first)


@dataclass(frozen=True)
class Observation:
    """One evaluated checkpoint under one way of sampling it."""

    params: Mapping[str, Any]  # every axis by the name typed, and `kind` of the subject
    card: Scorecard
    baselines: Baselines  # of its way of sampling
    samples: Path | None = None
    untuned: Path | None = None
    photographs: Path | None = None


@dataclass(frozen=True)
class Condition:
    """One setting: its checkpoints, one for each training seed."""

    observations: tuple[Observation, ...]

    def __getitem__(self, name: str) -> Bootstrapped:
        return self.measures[name]

    @property
    def params(self) -> Mapping[str, Any]:
        return self.observations[0].params

    @cached_property
    def measures(self) -> dict[str, Bootstrapped]:
        return measures([observation.card.values for observation in self.observations], self.observations[0].baselines)

    @cached_property
    def untuned(self) -> dict[str, Bootstrapped]:
        """The measures of the untuned model, sampled in the same way."""
        baselines = self.observations[0].baselines
        return measures([baselines.untuned] * len(self.observations), baselines)


def measures(values: Sequence[Mapping[str, Any]], baselines: Baselines) -> dict[str, Bootstrapped]:
    """MEASURES of a setting. `values` holds the per-image values of its checkpoints, one for each training seed. Raises
    Missing where s or t cannot be measured."""
    base = arrays_of(baselines)
    if lacking := next((name for name in MEASURED if not all(name in v for v in values)), None):
        raise Missing(f"{METRICS[lacking].title} was not measured.")
    by_name = {name: stacked([v[name] for v in values]) for name in MEASURED}
    dino = average(by_name["dino"])
    clip_t = average(by_name["clip_t"])
    scale = common_scale([base], dino.shape[1])
    if reason := refusal(scale):
        raise Missing(reason)
    fidelity = normalised(dino[None], clip_t[None], scale)
    usual = np.log(np.mean(base["photographs"]["noise"]))
    return {
        "score": Bootstrapped(float(fidelity.score[0]), fidelity.score_draws[0]),
        "s": Bootstrapped(float(fidelity.s[0]), fidelity.s_draws[0]),
        "t": Bootstrapped(float(fidelity.t[0]), fidelity.t_draws[0]),
        "copying": _bootstrapped(nearness(by_name["copying"], base)),
        "drift": _bootstrapped(VETOES["pres"].excess(by_name["pres"], base)),
        "noise": _bootstrapped(np.log(np.maximum(by_name["noise"], 1e-3)) - usual),
    }


def _bootstrapped(values: npt.NDArray[np.float64]) -> Bootstrapped:
    """Of values [R, U, K]: seeds, units, images."""
    by_unit = average(values)[None]
    return Bootstrapped(float(means(by_unit)[0]), drawn_means(by_unit, draw_weights(*by_unit.shape[1:]))[0])


@dataclass(frozen=True)
class Evidence:
    """What an experiment has brought so far."""

    observations: tuple[Observation, ...]

    def subjects(self, kind: str = "") -> list[str]:
        """Those of one kind, or all. Raises Missing where there are none."""
        found = dict.fromkeys(c.params["subject"] for c in self.observations if kind in ("", c.params["kind"]))
        if not found:
            raise Missing(f"no {kind or 'subject'} was tried.")
        return list(found)

    def values(self, axis: str, subject: str | None = None) -> list[Any]:
        """The values of an axis, in order. Raises Missing where there are fewer than two."""
        found = {c.params.get(axis) for c in self.observations if subject in (None, c.params["subject"])}
        if len(found) < 2:
            of_subject = f" for {subject}" if subject else ""
            raise Missing(f"{axis} has one value only{of_subject}.")
        return sorted(found)

    def last(self, subject: str) -> int:
        return max((c.params["steps"] for c in self.observations if c.params["subject"] == subject), default=0)

    def at_last_step(self, subject: str, **params: Any) -> Condition:
        """See `at`."""
        return self.at(subject=subject, **params, steps=self.last(subject))

    def at(self, **params: Any) -> Condition:
        """The setting with these parameters, with all of its training seeds. Raises Missing."""
        found = [c for c in self.observations if all(c.params.get(name) == value for name, value in params.items())]
        if not found:
            raise Missing(f"there is no result for {_words(params)}.")
        others = {repr([(k, v) for k, v in c.params.items() if k != "seed"]) for c in found}
        if len(others) > 1:
            raise Missing(f"there are several settings for {_words(params)}.")
        return Condition(tuple(sorted(found, key=lambda c: c.params["seed"])))


def _words(params: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={show(value)}" for name, value in params.items())


def read(plan: Plan, store: Store) -> Evidence:
    """What the store has of an experiment's plan."""
    found = []
    for training in plan.trainings:
        spec = training.spec
        for point in training.points:
            card = store.scorecard(spec, point)
            baselines = store.baseline_values(spec, point)
            if not card or not baselines:
                continue
            params = dict(training.nearest_cell(point).params)
            found.append(
                Observation(
                    params={**params, "steps": point.step, "kind": spec.subject.kind},
                    card=card,
                    baselines=baselines,
                    samples=store.evaluation(spec, point),
                    untuned=store.baselines(spec, point),
                    photographs=Path(spec.subject.images),
                )
            )
    return Evidence(tuple(found))
