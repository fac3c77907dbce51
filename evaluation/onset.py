"""When overfitting began on a curve. Pure functions over arrays."""

from collections.abc import Iterable

import numpy as np

from evaluation.bootstrap import lower
from evaluation.fidelity import Fidelity, Points
from evaluation.spec import ONSET_UNITS

FALL = 0.05  # of t below its best, that counts as losing the prompts
RISE = 0.05  # of s, that counts as learning more of the subject
SIMULTANEOUS = 0.95  # of the bands over the steps of a curve
Onsets = dict[str, int | None]  # curve -> step at which overfitting begins


def onsets(points: Points, fidelity: Fidelity, units: int, good: Iterable[int] = ()) -> Onsets:
    """The onset of each curve; none where there are too few units to claim one.

    good: points that are called as good as the best. Overfitting is not said to begin before the last of them.
    """
    if units < ONSET_UNITS:
        return dict.fromkeys(points.curves)
    as_good = np.isin(np.arange(len(points.keys)), list(good))
    return {
        curve: overfit_onset(points.steps[on], fidelity.take(on), after=int(np.flatnonzero(as_good[on]).max(initial=0)))
        for curve, on in points.curves.items()
    }


def overfit_onset(steps: np.ndarray, curve: Fidelity, after: int = 0) -> int | None:
    """The first step at which t is surely more than FALL below its best so far while s, once learned, rises no more.

    "Surely" is by simultaneous bands: of all falls from an earlier step, chance alone shows one as large in 5 % of
    curves on which t does not fall. curve: the points of one curve in order of step; `after`: the position of the last
    one at which nothing is claimed. None if it does not happen.
    """
    there = np.isfinite(curve.score)
    place = np.flatnonzero(there)
    curve = curve.take(there)
    if len(place) < 2:
        return None
    fall = falls(curve.t) - np.quantile(falls(curve.t_draws - curve.t[:, None]).max(0), SIMULTANEOUS)
    learned = lower(curve.s_draws) > 0
    for i in np.flatnonzero(fall > FALL).tolist():
        best = int(curve.s[:i].argmax())
        if place[i] > after and learned[best] and not still_rising(curve, best, i):
            return int(steps[place[i]])
    return None


def falls(t: np.ndarray) -> np.ndarray:
    """How far t lies below its best at an earlier step: [G, ...], below 0 where it is higher; the first is -inf."""
    best = np.maximum.accumulate(t, axis=0)
    return np.concatenate([np.full((1, *t.shape[1:]), -np.inf), best[:-1] - t[1:]])


def still_rising(curve: Fidelity, best: int, i: int) -> bool:
    """Whether s at step `i` is surely above its best before, or a later one surely above that, by more than RISE."""
    gains = [curve.s_draws[i] - curve.s_draws[best], *(curve.s_draws[i + 1 :] - curve.s_draws[i])]
    return bool((lower(np.stack(gains)) > RISE).any())
