"""Paired two-way bootstrap: the same resampled prompts and training seeds for everything that is compared.

Means over R training seeds and U units (prompts) of G points are drawn B times, seeds and units resampled
independently of each other (the pigeonhole bootstrap, Owen 2007). Images nest in prompts and are averaged before.
"""

from dataclasses import dataclass, replace

import numpy as np

DRAWS = 1000
LEVEL = (0.025, 0.975)  # of the intervals


@dataclass(frozen=True)
class Weights:
    """What each training seed [B, R] and each unit [B, U] weighs in a draw; 1 on average."""

    seeds: np.ndarray
    units: np.ndarray

    @property
    def of_units(self) -> "Weights":
        """The same draws of units for what has no training seed."""
        return replace(self, seeds=np.ones((len(self.seeds), 1)))


def draw_weights(seeds: int, units: int) -> Weights:
    """Always the same for the same sizes, so that an answer does not change when asked again."""
    rng = np.random.default_rng(0)
    return Weights(seeds=resampled(seeds, rng), units=resampled(units, rng))


def resampled(n: int, rng: np.random.Generator) -> np.ndarray:
    """Multinomial counts [B, n], stretched about 1: resampling n values understates their variance by (n - 1) / n."""
    counts = rng.multinomial(n, np.full(n, 1 / n), DRAWS)
    return 1 + (counts - 1) * np.sqrt(n / max(n - 1, 1))


def average(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis over what is not NaN; NaN where nothing is there."""
    present = np.isfinite(values)
    return ratio(np.where(present, values, 0.0).sum(-1), present.sum(-1))


def means(values: np.ndarray) -> np.ndarray:
    """[G, R, U] -> [G]."""
    return average(values.reshape(len(values), -1))


def drawn_means(values: np.ndarray, weights: Weights) -> np.ndarray:
    """Bootstrap draws of `means`: [G, R, U] -> [G, B]. A draw that holds nothing present of a point is NaN there."""
    present = np.isfinite(values)
    total = weighted(np.where(present, values, 0.0), weights)
    if present.all():
        return total / (weights.seeds.sum(1) * weights.units.sum(1))
    return ratio(total, weighted(present.astype(float), weights))


def weighted(values: np.ndarray, weights: Weights) -> np.ndarray:
    return np.einsum("grb,br->gb", values @ weights.units.T, weights.seeds)


def ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    total = np.asarray(total, float)
    count = np.asarray(count)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=np.abs(count) > 1e-9)


def interval(draws: np.ndarray) -> np.ndarray:
    """Percentile interval along the last axis: [..., B] -> [..., 2]; NaN where nothing was drawn."""
    low_high = np.full((*draws.shape[:-1], 2), np.nan)
    whole = np.isfinite(draws).all(-1)
    low_high[whole] = np.quantile(draws[whole], LEVEL, axis=-1).T
    for index in np.argwhere(~whole & np.isfinite(draws).any(-1)):
        low_high[tuple(index)] = np.nanquantile(draws[tuple(index)], LEVEL)
    return low_high


def lower(draws: np.ndarray) -> np.ndarray:
    return interval(draws)[..., 0]
