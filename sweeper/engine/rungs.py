"""What the checkpoints of one training say while it runs: how good each is, and whether the rest is worth its time."""

import itertools
import math
from dataclasses import dataclass

from evaluation.spec import EvalSpec
from evaluation.sweetspot import Candidate, SweetSpot, find
from sweeper.plan.types import Point, Training
from sweeper.store import Store

OVERFIT = "overfitting began at step {}: prompt fidelity fell from its best while subject fidelity rose no more"


@dataclass(frozen=True)
class Rung:
    """A checkpoint under the best way of sampling it."""

    step: int
    s: float
    t: float
    score: float  # 0 where vetoed, as it would never be recommended


def scored_steps(training: Training, store: Store) -> tuple[int, ...]:
    """The steps before the first one that is not wholly scored."""
    missing = {point.step for point in store.missing(training)}
    return tuple(itertools.takewhile(lambda step: step not in missing, training.steps))


def sweet_spot_so_far(training: Training, store: Store, evaluation: EvalSpec) -> tuple[list[Point], SweetSpot]:
    """The points of `scored_steps` and the sweet spot among them.

    Whole steps only, so that s and t are on the scale of all ways of sampling from the first step on.
    """
    steps = scored_steps(training, store)
    points = [point for point in training.points if point.step in steps and point.evaluation == evaluation]
    spec = training.spec
    candidates = [
        Candidate(str(i), p.signature, spec.signature, p.step, spec.lr, axes={"sample": (p.sample, p.use_ema)})
        for i, p in enumerate(points)
    ]
    cards = [store.scorecard(spec, point) for point in points]
    return points, find(candidates, cards, [store.baseline_values(spec, point) for point in points])


def rungs(points: list[Point], spot: SweetSpot) -> list[Rung]:
    """The best way of sampling each checkpoint, in order of step; what could not be measured is worth nothing."""
    if not spot.score:  # no scale to measure on
        return [Rung(step, 0.0, 0.0, 0.0) for step in dict.fromkeys(point.step for point in points)]
    best: dict[int, Rung] = {}
    for point, s, t, score, vetoes in zip(points, spot.s, spot.t, spot.score, spot.vetoes, strict=True):
        s, t, score = (value if math.isfinite(value) else 0.0 for value in (s, t, score))
        rung = Rung(point.step, s, t, 0.0 if vetoes else score)
        best[point.step] = max(best.get(point.step, rung), rung, key=lambda r: r.score)
    return list(best.values())


def overfit(training: Training, store: Store) -> str:
    """Why a training that overfits under every way of sampling is to be stopped; empty where it does not."""
    if not scored_steps(training, store):
        return ""
    onsets: list[int | None] = []
    for evaluation in dict.fromkeys(point.evaluation for point in training.points):
        _, spot = sweet_spot_so_far(training, store, evaluation)
        onsets += [None] if spot.verdict == "refused" else spot.onset.values()
    begun = [onset for onset in onsets if onset is not None]
    return OVERFIT.format(max(begun)) if len(begun) == len(onsets) else ""
