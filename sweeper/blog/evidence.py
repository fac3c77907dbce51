"""What the claims are judged by: settings of an experiment with their measures, each a number with its bootstrap draws.

The draws resample the same prompts and training seeds for everything, so the draws of a difference are the differences
of the draws (see `evaluation/bootstrap.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.bootstrap import average, draw_weights, drawn_means, interval, means
from evaluation.fidelity import arrays_of, common_scale, normalised, stacked
from evaluation.metrics import METRICS
from evaluation.scorecard import Baselines, Scorecard
from evaluation.spec import show
from evaluation.sweetspot import refusal
from evaluation.vetoes import VETOES
from sweeper.plan.types import Plan
from sweeper.store import Store

# What is measured, in words; the higher the better only for the first three.
MEASURES = {
    "score": "score",
    "s": "subject kept, s",
    "t": "prompt obeyed, t",
    "copying": "copying: 0 as alike as the photographs are to each other, 1 a photograph itself",
    "drift": "plain images of the class: 0 as untuned, 1 as like the subject as its photographs",
    "noise": "noise, as the log of its ratio to the photographs'",
}
MEASURED = ("dino", "clip_t", "copying", "noise", "pres")  # the metrics that they are computed of


class Missing(Exception):
    """A claim needs a result that is not there; says which."""


@dataclass(frozen=True)
class Drawn:
    """A number and its bootstrap draws [B]."""

    value: float
    draws: np.ndarray

    def __sub__(self, other: "Drawn | float") -> "Drawn":
        return self + (-1.0 * other)

    def __add__(self, other: "Drawn | float") -> "Drawn":
        if not isinstance(other, Drawn):
            other = Drawn(other, np.float64(other))
        return Drawn(self.value + other.value, self.draws + other.draws)

    def __rsub__(self, other: float) -> "Drawn":
        return -1.0 * self + other

    def __rmul__(self, factor: float) -> "Drawn":
        return Drawn(factor * self.value, factor * self.draws)

    @cached_property
    def interval(self) -> tuple[float, float]:
        low, high = interval(np.atleast_1d(self.draws))
        return float(low), float(high)


def mean(numbers: Iterable[Drawn]) -> Drawn:
    """Of several subjects, or settings: what it holds for is these."""
    numbers = list(numbers)
    return (1 / len(numbers)) * sum(numbers[1:], numbers[0])


@dataclass(frozen=True)
class Cell:
    """One evaluated checkpoint under one way of sampling it."""

    params: Mapping[str, Any]  # every axis by the name typed, and `kind` of the subject
    card: Scorecard
    baselines: Baselines  # of its way of sampling
    samples: Path | None = None
    untuned: Path | None = None
    photographs: Path | None = None


@dataclass(frozen=True)
class Condition:
    """One setting: its checkpoints, one a training seed."""

    cells: tuple[Cell, ...]

    def __getitem__(self, name: str) -> Drawn:
        return self.measures[name]

    @property
    def params(self) -> Mapping[str, Any]:
        return self.cells[0].params

    @cached_property
    def measures(self) -> dict[str, Drawn]:
        return measures([cell.card.values for cell in self.cells], self.cells[0].baselines)

    @cached_property
    def untuned(self) -> dict[str, Drawn]:
        """The measures of the untuned model, sampled in the same way."""
        baselines = self.cells[0].baselines
        return measures([baselines.untuned] * len(self.cells), baselines)


def measures(values: Sequence[Mapping[str, Any]], baselines: Baselines) -> dict[str, Drawn]:
    """MEASURES of the per-image values of a setting's checkpoints, one a training seed. Raises Missing where s or t
    cannot be measured."""
    base = arrays_of(baselines)
    if lacking := next((name for name in MEASURED if not all(name in v for v in values)), None):
        raise Missing(f"{METRICS[lacking].title} was not measured.")
    by_name = {name: stacked([v[name] for v in values]) for name in MEASURED}
    dino, clip_t = average(by_name["dino"]), average(by_name["clip_t"])
    scale = common_scale([base], dino.shape[1])
    if reason := refusal(scale):
        raise Missing(reason)
    fidelity = normalised(dino[None], clip_t[None], scale)
    drawn = {n: Drawn(float(getattr(fidelity, n)[0]), getattr(fidelity, f"{n}_draws")[0]) for n in ("score", "s", "t")}
    usual = np.log(np.mean(base["photographs"]["noise"]))
    return drawn | {
        "copying": _drawn(VETOES["copying"].excess(by_name["copying"], base)),
        "drift": _drawn(VETOES["pres"].excess(by_name["pres"], base)),
        "noise": _drawn(np.log(np.maximum(by_name["noise"], 1e-3)) - usual),
    }


def _drawn(values: np.ndarray) -> Drawn:
    """Of values [R, U, K]: seeds, units, images."""
    by_unit = average(values)[None]
    return Drawn(float(means(by_unit)[0]), drawn_means(by_unit, draw_weights(*by_unit.shape[1:]))[0])


@dataclass(frozen=True)
class Evidence:
    """What an experiment has brought so far."""

    cells: tuple[Cell, ...]

    def subjects(self, kind: str = "") -> list[str]:
        """Those of one kind, or all. Raises Missing where there are none."""
        found = dict.fromkeys(c.params["subject"] for c in self.cells if kind in ("", c.params["kind"]))
        if not found:
            raise Missing(f"no {kind or 'subject'} was tried.")
        return list(found)

    def values(self, axis: str, subject: str | None = None) -> list[Any]:
        """What there is along an axis, in order. Raises Missing where there are fewer than two."""
        found = {c.params.get(axis) for c in self.cells if subject in (None, c.params["subject"])}
        if len(found) < 2:
            raise Missing(f"{axis} has one value only{f' for {subject}' * bool(subject)}.")
        return sorted(found)

    def last(self, subject: str) -> int:
        return max((c.params["steps"] for c in self.cells if c.params["subject"] == subject), default=0)

    def at(self, **params: Any) -> Condition:
        """The setting with these parameters, over its training seeds. Raises Missing."""
        found = [c for c in self.cells if all(c.params.get(name) == value for name, value in params.items())]
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
    cells = []
    for training in plan.trainings:
        for point in training.points:
            card, baselines = store.scorecard(training.spec, point), store.baseline_values(training.spec, point)
            if card and baselines:
                runs = [r for r in training.cells if (r.sample, r.evaluation) == (point.sample, point.evaluation)]
                params = {**dict(runs[0].params), "steps": point.step, "kind": training.spec.subject.kind}
                cells.append(
                    Cell(
                        params,
                        card,
                        baselines,
                        store.evaluation(training.spec, point),
                        store.baselines(training.spec, point),
                        Path(training.spec.subject.images),
                    )
                )
    return Evidence(tuple(cells))
