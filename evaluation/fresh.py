"""What an answer scores on images on which nothing was chosen, with Student's t intervals over their prompts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from evaluation.fidelity import Scale, harmonic

Floats = NDArray[np.float64]

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; NaN where a single unit leaves nothing to tell it from."""

    mean: float
    low: float
    high: float


def fresh_fidelity(dino: Floats, clip_t: Floats, scale: Scale) -> dict[str, Estimate]:
    """s, t and score from values [U] of one checkpoint, by prompt, and the baselines of the same units.

    Units may be NaN. Ratios and the harmonic mean to first order, the baselines' own error included.
    """
    there = np.isfinite(dino) & np.isfinite(clip_t) & np.isfinite(scale.s0) & np.isfinite(scale.t0)
    s, moved_s = linear(dino[there], scale.s0[there], np.full(int(there.sum()), scale.sr))
    t, moved_t = linear(clip_t[there], scale.tc[there], scale.t0[there])
    score = float(harmonic(np.array(s), np.array(t)))
    low_s, low_t = np.clip([s, t], 0, 1)
    total = max(low_s + low_t, 1e-9)
    moved = 2 * (low_t**2 * moved_s + low_s**2 * moved_t) / total**2
    return {"s": estimate(s, moved_s), "t": estimate(t, moved_t), "score": estimate(score, moved)}


def linear(values: Floats, zero: Floats, one: Floats) -> tuple[float, Floats]:
    """(mean - zero) / (one - zero), and how far each unit moves it."""
    length = one.mean() - zero.mean()
    level = float((values.mean() - zero.mean()) / length)
    return level, ((values - zero) - level * (one - zero)) / length


def estimate(mean: float, moved: Floats) -> Estimate:
    """moved [U]: of mean zero, each unit's share of the deviation."""
    if len(moved) < 2:
        return Estimate(mean, np.nan, np.nan)
    width = student.ppf((1 + LEVEL) / 2, len(moved) - 1) * moved.std(ddof=1) / np.sqrt(len(moved))
    return Estimate(mean, float(mean - width), float(mean + width))
