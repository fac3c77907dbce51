"""The points that no other point beats in both subject and prompt fidelity."""

import numpy as np

from evaluation.fidelity import Fidelity


def pareto_set(fidelity: Fidelity, allowed: np.ndarray) -> np.ndarray:
    """Indices of the allowed points that no other allowed point beats in one of s and t and equals in the other."""
    order = [g for g in np.lexsort((-fidelity.t, -fidelity.s)) if allowed[g]]
    kept: list[int] = []
    highest = -np.inf
    for g in order:
        if fidelity.t[g] > highest or (kept and (fidelity.s[g], fidelity.t[g]) == (fidelity.s[kept[-1]], highest)):
            kept.append(g)
            highest = fidelity.t[g]
    return np.array(sorted(kept), dtype=int)


def knee(fidelity: Fidelity, pareto: np.ndarray) -> int | None:
    """The point of the Pareto set farthest above the line between its ends; None under three points."""
    if len(pareto) < 3:
        return None
    s = fidelity.s[pareto]
    t = fidelity.t[pareto]
    if np.ptp(s) == 0 or np.ptp(t) == 0:
        return None
    return int(pareto[np.argmax((s - s.min()) / np.ptp(s) + (t - t.min()) / np.ptp(t))])
