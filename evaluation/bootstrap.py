"""Intervals from few prompts and training seeds: the same draws for everything that is compared.

A draw moves the mean of R training seeds and U units (prompts) by what Gaussian multipliers of the units and of the
seeds make of their deviations (the multiplier bootstrap), divided by the root of a chi-square over its degrees of
freedom. So the draws of a mean follow Student's t with U - 1 (seeds: R - 1) degrees of freedom, and few units are not
taken for many. What the training seeds differ by and what the images' noise makes them seem to differ by are variance
components, taken apart by the mean squares of the two-way layout. Images nest in prompts and are averaged before.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaincinv

DRAWS = 1000
LEVEL = (0.025, 0.975)  # of the intervals
MIDDLE = (0.1587, 0.8413)  # within one standard error of a normal mean


@dataclass(frozen=True)
class Weights:
    """The multiplier of each training seed [B, R] and of each unit [B, U] in a draw; they add up to 0 in each."""

    seeds: np.ndarray
    units: np.ndarray

    @property
    def of_units(self) -> "Weights":
        """The same draws of units for what has no training seed."""
        return replace(self, seeds=np.zeros((len(self.seeds), 1)))


def draw_weights(seeds: int, units: int) -> Weights:
    """Always the same for the same sizes, so that an answer does not change when asked again."""
    return Weights(
        seeds=multipliers(seeds, np.random.default_rng(1)),
        units=multipliers(units, np.random.default_rng(0)),
    )


def multipliers(n: int, rng: np.random.Generator) -> np.ndarray:
    """[B, n], each draw with its opposite; zero for a single one, whose spread nobody knows."""
    half = DRAWS // 2
    if n < 2:
        return np.zeros((2 * half, n))
    z = rng.standard_normal((half, n))
    z -= z.mean(1, keepdims=True)
    freedom = n - 1
    evenly = (np.arange(half) + 0.5) / half
    chi_square = rng.permutation(2 * gammaincinv(freedom / 2, evenly))
    z *= np.sqrt(freedom / chi_square)[:, None]
    return np.concatenate([z, -z])


def average(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis over what is not NaN; NaN where nothing is there."""
    present = np.isfinite(values)
    return ratio(np.where(present, values, 0.0).sum(-1), present.sum(-1))


def means(values: np.ndarray) -> np.ndarray:
    """[G, R, U] -> [G]."""
    return average(values.reshape(len(values), -1))


def drawn_means(values: np.ndarray, weights: Weights) -> np.ndarray:
    """Draws of `means`, to first order: [G, R, U] -> [G, B]; NaN where nothing of a point is there."""
    of_seed = average(values)
    of_units = unit_deviations(values, of_seed)
    moved = of_units @ weights.units.T
    if values.shape[1] > 1:
        moved = moved + seed_deviations(values, of_seed) @ weights.seeds.T
    return means(values)[:, None] + moved


def unit_deviations(values: np.ndarray, of_seed: np.ndarray) -> np.ndarray:
    """How much each unit moves the mean: [G, U], from its deviations within each training seed."""
    deviation = values - of_seed[:, :, None]
    present = np.isfinite(deviation)
    moved = ratio(np.where(present, deviation, 0.0).sum(1), present.sum((1, 2))[:, None])
    return moved * unbiased(present.any(1))


def seed_deviations(values: np.ndarray, of_seed: np.ndarray) -> np.ndarray:
    """How much each training seed moves the mean: [G, R], without what the images' noise adds to it."""
    count = np.isfinite(values).sum(2)
    deviation = np.where(count > 0, of_seed - means(values)[:, None], 0.0)
    moved = ratio(deviation * count, count.sum(1)[:, None]) * unbiased(count > 0)
    return moved * np.sqrt(share_of_seeds(values, of_seed))[:, None]


def share_of_seeds(values: np.ndarray, of_seed: np.ndarray) -> np.ndarray:
    """The share [G] of the variance between training seeds that is not the images' noise: 1 - 1 / F, at least 0."""
    present = np.isfinite(values)
    of_unit = average(np.swapaxes(values, 1, 2))
    residual = values - of_seed[:, :, None] - of_unit[:, None] + means(values)[:, None, None]
    squares = np.where(present, residual**2, 0.0).sum((1, 2))
    seeds = present.any(2).sum(1)
    units = present.any(1).sum(1)
    noise = ratio(squares, (seeds - 1) * (units - 1))
    deviation = np.where(present.any(2), of_seed - means(values)[:, None], 0.0)
    between = ratio((present.sum(2) * deviation**2).sum(1), seeds - 1)
    return np.clip(1 - np.nan_to_num(ratio(np.nan_to_num(noise), between)), 0, 1)


def unbiased(present: np.ndarray) -> np.ndarray:
    """n / (n - 1) under a root [G, 1], by which the spread of n values about their own mean falls short; 0 for one."""
    n = present.sum(1, keepdims=True)
    return np.sqrt(np.where(n > 1, n / np.maximum(n - 1, 1), 0.0))


def ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    total = np.asarray(total, float)
    count = np.asarray(count)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=np.abs(count) > 1e-9)


def quantiles(draws: np.ndarray, levels: tuple[float, float]) -> np.ndarray:
    """Along the last axis: [..., B] -> [..., 2]; NaN where not all was drawn."""
    found = np.full((*draws.shape[:-1], 2), np.nan)
    whole = np.isfinite(draws).all(-1)
    found[whole] = np.quantile(draws[whole], levels, axis=-1).T
    return found


def interval(draws: np.ndarray) -> np.ndarray:
    """95 % interval along the last axis: [..., B] -> [..., 2]; NaN where nothing was drawn."""
    return quantiles(draws, LEVEL)


def lower(draws: np.ndarray) -> np.ndarray:
    return interval(draws)[..., 0]


def standard_error(draws: np.ndarray) -> np.ndarray:
    """Half of what holds the middle 68 % of the draws [..., B]: Student's t has no variance over few units."""
    low, high = np.moveaxis(quantiles(draws, MIDDLE), -1, 0)
    return np.asarray((high - low) / 2)
