"""When overfitting began on a curve. Pure functions over arrays."""

import numpy as np

from evaluation.bootstrap import lower
from evaluation.fidelity import Fidelity

RISE = 0.05  # of s, that counts as learning more of the subject
Onsets = dict[str, int | None]  # curve -> step at which overfitting begins


def overfit_onset(steps: np.ndarray, curve: Fidelity) -> int | None:
    """The first step at which t is significantly below its best so far while s, once learned, rises no more.

    curve: the points of one curve in order of step. None if that does not happen.
    """
    there = np.isfinite(curve.score)
    steps = steps[there]
    curve = curve.take(there)
    learned = lower(curve.s_draws) > 0
    for i in range(1, len(steps)):
        best_s = curve.s[:i].argmax()
        best_t = curve.t[:i].argmax()
        if (
            learned[best_s]
            and lower(curve.t_draws[best_t] - curve.t_draws[i]) > 0
            and not lower(curve.s_draws[i] - curve.s_draws[best_s]) > RISE
            and not (lower(curve.s_draws[i + 1 :] - curve.s_draws[i]) > RISE).any()
        ):
            return int(steps[i])
    return None
