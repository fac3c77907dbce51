"""Which checkpoint to use, why, and when overfitting began. Pure functions over arrays.

Subject fidelity S is DINO, prompt fidelity T is CLIP-T. Three baselines that cost no training put them on a common
scale: the untuned model on the class's words (S0, T0), the photographs against each other (SR), and a copy machine
that offers the photographs for every prompt (Tc):

    s = (S - S0) / (SR - S0)        t = (T - Tc) / (T0 - Tc)

so that untuned is about (0, 1), a perfect copier (1, 0), the ideal (1, 1). The score is the harmonic mean of s and t.
Among the checkpoints within one paired standard error of the best score, the earliest step wins, then the lowest lr.
What is reported of it was measured on prompts that had no part in choosing it: one half chooses, the other measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluation import words
from evaluation.bootstrap import interval, lower, standard_error
from evaluation.fidelity import AnyBaselines, AnyScorecard, Fidelity, Measurements, Points, Scale, read_measurements
from evaluation.onset import Onsets, onsets
from evaluation.pareto import knee, pareto_set
from evaluation.spec import ONSET_UNITS
from evaluation.verdicts import decide_verdict, too_weak, why_none
from evaluation.vetoes import Fault, faults, vetoes_in_force


@dataclass(frozen=True)
class Candidate:
    """One evaluated checkpoint under one way of sampling it. Candidates that differ in `seed` only are replicates.

    Of names (`key`, `curve`, `training`) and of the values of `axes` only equality is to count.
    """

    key: str  # the caller's name for it
    curve: str  # the candidates of a curve differ in step and seed only
    training: str  # the checkpoints of a training share it
    step: int
    lr: float
    seed: int = 0
    words: str = ""  # for sentences: "lr=2e-6 at step 400"
    there: bool = True  # its weights are; of equals one that is there is taken
    axes: Mapping[str, Any] = field(default_factory=dict)  # their values, those of lr, steps and seed left out


@dataclass(frozen=True)
class SweetSpot:
    """The answer. Indices are positions in the list of candidates; tuples have an entry each, NaN where missing."""

    found: bool  # a checkpoint is recommended: `best` is not None
    verdict: str  # region | edge | flat | single | none | refused
    reason: str  # one sentence for the user
    best: int | None = None
    region: tuple[int, ...] = ()  # within one standard error of the best score
    pareto: tuple[int, ...] = ()  # not dominated in (s, t)
    knee: int | None = None  # of the Pareto set
    onset: Onsets = field(default_factory=dict)  # curve -> step at which overfitting begins
    onset_told: bool = True  # whether there are prompts enough to claim one
    s: tuple[float, ...] = ()  # normalised subject fidelity
    t: tuple[float, ...] = ()  # normalised prompt fidelity
    score: tuple[float, ...] = ()  # measured: the harmonic mean of s and t, each within 0..1
    fresh_score: tuple[float, float, float] | None = None  # of the answer, on images on which nothing was chosen: mean,
    # low and high; nothing measures it yet
    intervals: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)  # 95 %, of s, t and score
    vetoes: tuple[tuple[str, ...], ...] = ()  # per candidate, in words
    reported: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # s, t, score of what is chosen:
    # mean, low and high, on prompts that had no part in choosing it
    conditional_on: str = ""  # what the intervals do not cover, in words
    suggestion: str = ""  # what to try next
    more_steps: bool = False  # that is to train longer, among others
    notes: tuple[str, ...] = ()  # what could not be checked, in sentences


def find(
    candidates: Sequence[Candidate],
    scorecards: Sequence[AnyScorecard | None],
    baselines: Sequence[AnyBaselines | None],
) -> SweetSpot:
    """The sweet spot among `candidates`.

    scorecards: of each candidate, as `evaluate` returns them; baselines: of each candidate, those of its way of
    sampling, as `prepare` returns them. Both may be the dictionaries that their JSON holds, and are None for a
    candidate that failed. Raises ValueError if they do not share their prompts.
    """
    measurements = read_measurements(scorecards, baselines)
    if measurements is None:
        evaluated = any(card is not None for card in scorecards)
        return SweetSpot(False, "refused", words.NO_SCORES if evaluated else words.NOT_EVALUATED)
    if reason := refusal(measurements.scale):
        return SweetSpot(False, "refused", reason, suggestion=words.REFUSED)
    comparison = compare(measurements, Points.of(candidates))
    alone = measurements.fidelity(Points.separate(len(candidates)))
    shown = shown_per_candidate(alone) | comparison.shown()
    shown |= {"knee": comparison.knee_of(shown["score"])}
    allowed = np.array(comparison.points.spread(comparison.allowed.tolist(), False))
    if none := why_none(alone, allowed, comparison.points, comparison.vetoes):
        more = none[0] == words.NOTHING_LEARNED
        return SweetSpot(False, "none", none[0], suggestion=none[1], more_steps=more, **shown)
    return recommended(candidates, comparison, shown)


@dataclass(frozen=True)
class Comparison:
    """The points with what speaks for and against each of them [G]."""

    measurements: Measurements
    points: Points
    fidelity: Fidelity
    faults: list[dict[str, Fault]]  # of each point, by veto
    vetoes: list[dict[str, str]]  # those in force, in words
    allowed: np.ndarray  # whether a point can be recommended
    onset: Onsets  # curve -> step at which overfitting begins
    pareto: np.ndarray  # indices

    def knee_of(self, score: Sequence[float]) -> int | None:
        """The candidate at the knee of the Pareto set."""
        point = knee(self.fidelity, self.pareto)
        return None if point is None else self.points.candidate(point, score)

    def shown(self) -> dict[str, Any]:
        """The fields of the answer that are known whether a point is recommended or not."""
        measurements = self.measurements
        points = self.points
        measured = int(np.isfinite(measurements.dino).any(-1).sum())
        return {
            "onset": self.onset,
            "onset_told": measurements.units >= ONSET_UNITS,
            "vetoes": points.spread([tuple(v.values()) for v in self.vetoes], ()),
            "pareto": points.members(self.pareto),
            "notes": (*words.unchecked(measurements.unchecked, measured), *words.no_onset(measurements.units)),
            "conditional_on": words.conditional_on(
                measurements.prompts, measurements.images, len(points.seeds), measurements.photographs
            ),
        }


def compare(measurements: Measurements, points: Points) -> Comparison:
    fidelity = measurements.fidelity(points)
    values = {name: points.take(v) for name, v in measurements.vetoed.items()}
    found = faults(values, [measurements.own[i] for i in points.first])
    vetoes = vetoes_in_force(found, fidelity.score)
    allowed = np.array([not v for v in vetoes]) & np.isfinite(fidelity.score)
    return Comparison(
        measurements=measurements,
        points=points,
        fidelity=fidelity,
        faults=found,
        vetoes=vetoes,
        allowed=allowed,
        onset=onsets(points, fidelity, measurements.units),
        pareto=pareto_set(fidelity, allowed),
    )


def recommended(candidates: Sequence[Candidate], comparison: Comparison, shown: dict[str, Any]) -> SweetSpot:
    """The answer where there is one; `shown` are its other fields."""
    points = comparison.points
    units = comparison.measurements.units
    there = np.array([any(candidates[i].there for i in row if i >= 0) for row in points.index])
    first, region = choose(comparison.fidelity, comparison.allowed)
    best = next((g for g in region.tolist() if there[g]), first)
    onset = onsets(points, comparison.fidelity, units, region)
    shown["onset"] = onset
    verdict, suggestion, directions = decide_verdict(comparison.fidelity, comparison.allowed, points, onset)
    reported = honest(comparison.measurements, points, comparison.allowed)
    preferred = [s - 10 * (not c.there) if s == s else -20.0 for s, c in zip(shown["score"], candidates, strict=True)]
    one_of = {g: points.candidate(g, preferred) for g in region.tolist()}
    chosen = one_of[best]
    of_it = {name: (shown[name][chosen], *shown["intervals"][name][chosen]) for name in ("s", "t", "score")}
    if weak := too_weak(candidates[chosen].words, of_it, points.steps, points.lrs):
        more = of_it["s"][0] < of_it["t"][0]
        return SweetSpot(False, "none", weak[0], suggestion=weak[1], more_steps=bool(more), **shown)
    if best != first:
        shown["notes"] = (*shown["notes"], words.DELETED.format(candidates[one_of[first]].words))
    reason = words.reason(
        verdict,
        candidates[one_of[best]].words,
        float(reported.s[0]),
        float(reported.t[0]),
        [candidates[one_of[g]].words for g in region.tolist() if g != best],
        words.overfitting(onset[points.keys[best][0]], units),
        drifted="pres" in comparison.faults[best],
    )
    return SweetSpot(
        found=True,
        verdict=verdict,
        reason=reason,
        best=one_of[best],
        region=points.members(region),
        reported=reported.summary(0),
        suggestion=suggestion,
        more_steps="more steps" in directions,
        **shown,
    )


def choose(fidelity: Fidelity, allowed: np.ndarray) -> tuple[int, np.ndarray]:
    """The point to take and all that are as good: within one paired standard error of the best score.

    Points are in order of step, then lr, and the first of them is taken.
    """
    score = np.where(allowed & np.isfinite(fidelity.score), fidelity.score, -np.inf)
    top = int(np.argmax(score))
    error = np.nan_to_num(standard_error(fidelity.score_draws[top] - fidelity.score_draws))
    region = np.flatnonzero(score[top] - score <= error)
    return int(region[0]), region


def honest(measurements: Measurements, points: Points, allowed: np.ndarray) -> Fidelity:
    """Fidelity of what is chosen, on prompts that had no part in choosing it: chosen on one half of the prompts and
    measured on the other, both ways. The best of many looks better than it is on the prompts that made it the best."""
    point_of_unit = np.empty(measurements.units, dtype=int)
    for on, off in split_prompts(measurements.units):
        point_of_unit[off] = choose(measurements.fidelity(points, on), allowed)[0]
    return measurements.mixed(points, point_of_unit)


def split_prompts(units: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every other prompt and the rest, both ways; all and all where there are under four."""
    everything = np.arange(units)
    one = everything[::2]
    other = everything[1::2]
    return [(one, other), (other, one)] if units >= 4 else [(everything, everything)]


def refusal(scale: Scale) -> str:
    """Why s or t cannot be measured here: a denominator that is not clearly above zero. Empty if they can."""
    subject, prompts = scale.denominators()
    if not lower(subject) > 0:
        return words.NO_SUBJECT_SCALE.format(scale.sr, scale.s0.mean())
    if not lower(prompts) > 0:
        return words.NO_PROMPT_SCALE.format(scale.t0.mean(), scale.tc.mean())
    return ""


def shown_per_candidate(alone: Fidelity) -> dict[str, Any]:
    """s, t and score of every candidate by itself, over all prompts, with intervals."""
    names = ("s", "t", "score")
    bounds = {n: tuple(map(tuple, interval(getattr(alone, f"{n}_draws")).tolist())) for n in names}
    return {n: tuple(getattr(alone, n).tolist()) for n in names} | {"intervals": bounds}
