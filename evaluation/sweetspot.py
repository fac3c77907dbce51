"""Which checkpoint to use, why, and when overfitting began. Pure functions over arrays.

Subject fidelity S is DINO, prompt fidelity T is CLIP-T. Three baselines that cost no training put them on a common
scale: the untuned model on the class's words (S0, T0), the photographs against each other (SR), and a copy machine
that offers the photographs for every prompt (Tc):

    s = (S - S0) / (SR - S0)        t = (T - Tc) / (T0 - Tc)

so that untuned is about (0, 1), a perfect copier (1, 0), the ideal (1, 1). The score is the harmonic mean of s and t.
Three numbers: `score` is measured; `expected_score`, what a model of all checkpoints together expects of the true one
(`surface`), chooses; `fresh_score` is the answer's alone, on images on which nothing was chosen. Names and order never
decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evaluation import words
from evaluation.bootstrap import interval, lower
from evaluation.fidelity import AnyBaselines, AnyScorecard, Fidelity, Measurements, Points, Scale, read_measurements
from evaluation.onset import Onsets, onsets
from evaluation.pareto import knee, pareto_set
from evaluation.spec import ONSET_UNITS
from evaluation.surface import Candidates, Selection, canonical_order, select
from evaluation.verdicts import decide_verdict, too_weak, why_none
from evaluation.vetoes import Fault, faults, vetoes_in_force

# sd of the error of s that all images of a training share, by which learning rates differ: docs/selection-error.md
S_ERROR = 0.035


@dataclass(frozen=True)
class Candidate:
    """One evaluated checkpoint under one way of sampling it. Candidates that differ in `seed` only are replicates.

    Of names (`key`, `curve`, `training`) and of the values of `axes` only equality counts.
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
    region: tuple[int, ...] = ()  # the few among which the best is, the likeliest first
    region_probability: float | None = None  # of that; None where nothing tells them apart
    pareto: tuple[int, ...] = ()  # not dominated in (s, t)
    knee: int | None = None  # of the Pareto set
    onset: Onsets = field(default_factory=dict)  # curve -> step at which overfitting begins
    onset_told: bool = True  # whether there are prompts enough to claim one
    s: tuple[float, ...] = ()  # normalised subject fidelity
    t: tuple[float, ...] = ()  # normalised prompt fidelity
    score: tuple[float, ...] = ()  # measured: the harmonic mean of s and t, each within 0..1
    expected_score: tuple[float, ...] = ()  # what chooses: the posterior's mean of the true score; NaN where vetoed
    p_best: tuple[float, ...] = ()  # the chance of the highest true score; shown, never chosen from
    fresh_score: tuple[float, float, float] | None = None  # the answer's on fresh images: mean, low and high
    intervals: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)  # 95 %, of s, t and score
    vetoes: tuple[tuple[str, ...], ...] = ()  # per candidate, in words
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
    places = located(candidates, measurements)
    comparison = compare(measurements, Points.of(candidates, canonical_order(places)))
    alone = measurements.fidelity(Points.separate(len(candidates)))
    shown = shown_per_candidate(alone) | comparison.shown()
    vetoed = np.array([bool(vetoes) for vetoes in shown["vetoes"]])
    selection = select(replace(places, vetoed=vetoed), s_error=S_ERROR)
    shown |= {"knee": comparison.knee_of(shown["score"]), "expected_score": tuple(selection.expected_score.tolist())}
    allowed = np.array(comparison.points.spread(comparison.allowed.tolist(), False))
    if none := why_none(alone, allowed, comparison.points, comparison.vetoes):
        more = none[0] == words.NOTHING_LEARNED
        return SweetSpot(False, "none", none[0], suggestion=none[1], more_steps=more, **shown)
    return recommended(candidates, comparison, selection, shown)


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


def recommended(
    candidates: Sequence[Candidate], comparison: Comparison, selection: Selection, shown: dict[str, Any]
) -> SweetSpot:
    """The answer where there is one; `shown` are its other fields."""
    points = comparison.points
    first, best = choose(selection, [c.there for c in candidates])
    units = comparison.measurements.units
    onset = onsets(points, comparison.fidelity, units, points.holding(selection.region))
    shown["onset"] = onset
    p_best = np.nansum(points.take(selection.p_best), axis=1)
    verdict, suggestion, directions = decide_verdict(comparison.fidelity, comparison.allowed, points, onset, p_best)
    sure = verdict not in ("single", "flat")
    of_it = {name: (shown[name][best], *shown["intervals"][name][best]) for name in ("s", "t", "score")}
    if weak := too_weak(candidates[best].words, of_it, points.steps, points.lrs):
        more = of_it["s"][0] < of_it["t"][0]
        return SweetSpot(False, "none", weak[0], suggestion=weak[1], more_steps=bool(more), **shown)
    if best != first:
        shown["notes"] = (*shown["notes"], words.DELETED.format(candidates[first].words))
    reason = words.reason(
        verdict,
        candidates[best].words,
        float(selection.s[best]),
        float(selection.t[best]),
        [candidates[i].words for i in selection.region if i != best],
        selection.region_probability,
        words.overfitting(onset[candidates[best].curve], units),
        drifted="pres" in comparison.faults[points.holding([best])[0]],
    )
    return SweetSpot(
        found=True,
        verdict=verdict,
        reason=reason,
        best=best,
        region=selection.region,
        region_probability=selection.region_probability if sure else None,
        p_best=tuple(selection.p_best.tolist()) if sure else (),
        suggestion=suggestion,
        more_steps="more steps" in directions,
        **shown,
    )


def choose(selection: Selection, there: Sequence[bool]) -> tuple[int, int]:
    """The candidate of the highest expected score, and the one to take: of those that may as well be the best one whose
    weights are there, where its own were deleted."""
    if selection.choice is None:
        raise ValueError("nothing is allowed")
    left = [i for i in selection.region if there[i]]
    if there[selection.choice] or not left:
        return selection.choice, selection.choice
    return selection.choice, max(left, key=lambda i: selection.expected_score[i])


def located(candidates: Sequence[Candidate], measurements: Measurements) -> Candidates:
    """The candidates as the model of the surface takes them, none vetoed."""
    axes = dict.fromkeys(name for c in candidates for name in c.axes)
    s, t = measurements.by_image()
    return Candidates(
        lr=np.array([c.lr for c in candidates], float),
        steps=np.array([c.step for c in candidates], float),
        axes=np.array([[repr(c.axes.get(name)) for name in axes] for c in candidates]).reshape(len(candidates), -1),
        training=np.array([c.training for c in candidates]),
        s=s,
        t=t,
        vetoed=np.zeros(len(candidates), bool),
    )


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
