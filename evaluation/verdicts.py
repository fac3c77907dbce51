"""What can be said of the checkpoints as a whole: none, single, flat, edge or region. Pure functions over arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation import words
from evaluation.fidelity import Fidelity, Points
from evaluation.onset import Onsets
from evaluation.vetoes import VETOES

EDGE = 2 / 3  # chance that the best point lies at the end of an axis, from which on the grid ends too early
LITTLE = 0.05  # of the score, that does not matter
FOUND = 0.5  # of the score, that a checkpoint surely has to be recommended
OUTERMOST = 20  # points at either end whose differences are looked at: they hold the largest


def decide_verdict(
    fidelity: Fidelity, allowed: np.ndarray, points: Points, onset: Onsets, p_best: np.ndarray
) -> tuple[str, str, list[str]]:
    """The verdict, what to try next, and at which ends of the grid (see `grid_edges`). p_best: of each point [G]."""
    if len(points.keys) == 1:
        return "single", words.SINGLE, []
    if is_flat(fidelity, allowed):
        return "flat", words.FLAT, []
    directions = grid_edges(points, onset, p_best)
    return "edge" if directions else "region", words.extend(directions, points.steps, points.lrs), directions


def why_none(
    fidelity: Fidelity, allowed: np.ndarray, points: Points, vetoes: Sequence[Mapping[str, str]]
) -> tuple[str, str] | None:
    """Why no checkpoint can be recommended, and what to try; None if one can.

    fidelity, allowed: of every checkpoint by itself, as another training seed would change none of them.
    """
    there = np.isfinite(fidelity.score)
    if not above_zero(fidelity.s[there], fidelity.s_draws[there]):
        return words.NOTHING_LEARNED, words.more(points.steps, points.lrs)
    if not above_zero(fidelity.s[allowed], fidelity.s_draws[allowed]):
        names = [name for held in vetoes for name in held]
        commonest = max(VETOES, key=names.count)
        return words.RULED_OUT.format(words.VETOED[commonest]), f"Try {VETOES[commonest].advice}."
    if not above_zero(fidelity.score[allowed], fidelity.score_draws[allowed]):
        return words.PROMPTS_LOST, words.less(points.steps, points.lrs)
    return None


def above_zero(level: np.ndarray, draws: np.ndarray) -> bool:
    """Whether the best of several points is above zero by more than chance gives the best of so many (95 %)."""
    return len(level) > 0 and bool(level.max() > np.nanquantile((draws - level[:, None]).max(0), 0.95))


def too_weak(
    words_of_it: str, fidelity: Mapping[str, tuple[float, float, float]], steps: np.ndarray, lrs: np.ndarray
) -> tuple[str, str] | None:
    """Why the chosen checkpoint is no sweet spot, and what to try; None if its score is surely above FOUND.

    fidelity: mean, low and high of s, t and score; of the fresh images where there are any.
    """
    score, low, high = fidelity["score"]
    if low > FOUND:
        return None
    advice = words.more if fidelity["s"][0] < fidelity["t"][0] else words.less
    return words.WEAK.format(words_of_it, score, low, high, FOUND), advice(steps, lrs)


def is_flat(fidelity: Fidelity, allowed: np.ndarray) -> bool:
    """Whether all scores surely lie within LITTLE of each other: an equivalence test of each difference at 5 %, and so
    of all at once."""
    if not allowed.all():
        return False
    score = fidelity.score
    draws = fidelity.score_draws
    low, high = np.quantile(draws - draws.mean(0), (0.05, 0.95), axis=1)
    top = np.argsort(high)[-OUTERMOST:]
    bottom = np.argsort(low)[:OUTERMOST]
    apart = draws[top, None] - draws[bottom]
    largest = np.where(top[:, None] == bottom, -np.inf, np.quantile(apart, 0.95, axis=2))
    return bool(np.ptp(score) < LITTLE and largest.max() < LITTLE)


def grid_edges(points: Points, onset: Onsets, p_best: np.ndarray) -> list[str]:
    """The ends of the grid at which the best point probably lies: more steps, fewer steps, higher lr, lower lr."""
    ends = {name: np.zeros(len(points.keys), bool) for name in ("more steps", "fewer steps", "higher lr", "lower lr")}
    for curve, on in points.curves.items():
        if len(on) > 1:
            ends["more steps"][on[-1]] = onset[curve] is None
            ends["fewer steps"][on[0]] = True
    if points.lrs.min() < points.lrs.max():
        ends["higher lr"] = points.lrs == points.lrs.max()
        ends["lower lr"] = points.lrs == points.lrs.min()
    return [name for name, at in ends.items() if p_best[at].sum() > EDGE]
