"""What the images say of each candidate, and how sure: means and the covariance of their error.

All candidates share their prompts and initial noise. A hard prompt therefore moves every candidate: by the same amount
(level) or along an axis (tilt). Such common noise cancels in a plain comparison only in part, so it is estimated from
the differences between prompts and kept in the covariance. What is left is each candidate's own noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma

Floats = NDArray[np.float64]

IMAGE_SD = 0.08  # of s and t; stands in where one image a candidate leaves nothing to estimate it from
LEAST = 1e-10  # least variance
ENOUGH = 8  # candidates, from which their own variances are told apart
ROUNDS = 100  # of alternating means, at most; one is exact where nothing is missing


@dataclass(frozen=True)
class Measured:
    """Means of C candidates with their error: own variance [C], and L directions [C, L] that share their errors."""

    mean: Floats
    own: Floats
    directions: Floats
    shared: Floats  # [L, L] covariance of the directions' errors

    @property
    def covariance(self) -> Floats:
        return self.directions @ self.shared @ self.directions.T + np.diag(self.own)


def summarise(values: Floats, positions: Floats) -> Measured:
    """Means and error covariance of `values` [C, P, K] (prompts, images; NaN where missing; a value for everybody).

    positions: [C, L] coordinates along which the effect of a prompt may change, each of mean zero; may be empty.
    """
    candidates, prompts, images = values.shape
    flat = values.reshape(candidates, -1)
    present = np.isfinite(flat)
    mean, common, residual = two_way(flat, present)
    if candidates < 2 * (1 + positions.shape[1]):  # too few to tell a tilt from their own noise
        positions = positions[:, :0]
    directions = np.column_stack([np.ones(candidates), positions])
    tilts = coefficients(residual, present, directions)
    residual = np.where(present, residual - directions @ tilts, 0.0)
    kept = max(1 - directions.shape[1] / candidates, 0.0)  # what is left of each candidate's degrees of freedom
    own = own_variance(residual, present, prompts, images, kept)
    tilts[0] += common
    shared = shared_error(tilts, prompts, images, float((own * present.sum(1)).mean()), directions)
    return Measured(mean, own, directions, shared)


def coefficients(residual: Floats, present: NDArray[np.bool_], directions: Floats) -> Floats:
    """How each column of the residuals follows the directions: [L, columns], least squares over what is there."""
    if present.all():
        return np.asarray(np.linalg.pinv(directions) @ residual)
    columns = [
        np.linalg.pinv(directions * there[:, None]) @ column
        for there, column in zip(present.T, residual.T, strict=True)
    ]
    return np.column_stack(columns)


def shared_error(effects: Floats, prompts: int, images: int, variance: float, directions: Floats) -> Floats:
    """Covariance [L, L] of the mean effect of a prompt, from the effects [L, prompts * images] of those that were used.

    What the images' own noise adds to the spread among prompts is taken off. The directions' errors count as
    independent: so few prompts say nothing of their correlations.
    """
    count, size = (prompts, images) if prompts > 1 else (images, 1)
    by_prompt = effects.reshape(len(effects), count, size).mean(2)
    if count < 2:
        return np.zeros((len(effects), len(effects)))
    noise = variance / size * np.linalg.pinv(directions.T @ directions)
    spread = np.maximum(by_prompt.var(axis=1, ddof=1) - np.diag(noise), 0)
    return np.diag(spread / count)


def two_way(flat: Floats, present: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Means of rows, effects of columns (of mean zero) and the rest, zero where missing: least squares."""
    filled = np.where(present, flat, 0.0)
    rows = present.sum(1)
    columns = np.maximum(present.sum(0), 1)
    effects = np.zeros(flat.shape[1])
    for _ in range(1 if present.all() else ROUNDS):
        means = (filled - present * effects).sum(1) / rows
        moved = (filled - present * means[:, None]).sum(0) / columns
        moved = moved - moved.mean()
        done = np.abs(moved - effects).max() < 1e-12
        effects = moved
        if done:
            break
    means = (filled - present * effects).sum(1) / rows
    return means, effects, np.where(present, flat - means[:, None] - effects, 0.0)


def own_variance(residual: Floats, present: NDArray[np.bool_], prompts: int, images: int, kept: float) -> Floats:
    """Variance [C] of each mean by itself: images of one prompt may resemble each other; variances shrunk together."""
    candidates = len(residual)
    counts = present.sum(1)
    columns = int(present.any(0).sum())
    freedom = (counts - 1) * kept
    squares = (residual**2).sum(1)
    if freedom.sum() < 1:
        alone: Floats = IMAGE_SD**2 / counts
        return alone
    pooled = max(float(squares.sum() / freedom.sum()), LEAST)
    variance = shrunk(squares, freedom, pooled) if candidates >= ENOUGH and columns > 1 else np.full(candidates, pooled)
    own = variance * alike_within_prompts(residual, present, prompts, images, kept, pooled) / counts
    floored: Floats = np.maximum(own, LEAST)
    return floored


def alike_within_prompts(
    residual: Floats, present: NDArray[np.bool_], prompts: int, images: int, kept: float, pooled: float
) -> float:
    """By how much the variance of a mean over prompts exceeds that of as many independent images; 1 at least."""
    if prompts < 2 or images < 2:
        return 1.0
    shape = (len(residual), prompts, images)
    sums = residual.reshape(shape).sum(2)
    counts = present.reshape(shape).sum(2)
    blocks = (counts > 0).sum(1)
    freedom = ((blocks - 1) * kept).sum()
    if freedom < 1:
        return 1.0
    between = float((sums**2 / np.maximum(counts, 1)).sum() / freedom)
    return max(between / pooled, 1.0)


def shrunk(squares: Floats, freedom: Floats, pooled: float) -> Floats:
    """Variances drawn to the pooled one as far as chance explains their spread (Smyth 2004, moments of the log)."""
    usable = (freedom > 0) & (squares > 0)
    if usable.sum() < ENOUGH:
        return np.full(len(squares), pooled)
    logs = np.log(squares[usable] / freedom[usable])
    excess = float(logs.var(ddof=1) - polygamma(1, freedom[usable] / 2).mean())
    if excess <= 0:
        return np.full(len(squares), pooled)
    prior = 2 * inverse_trigamma(excess)
    variance: Floats = (prior * pooled + squares) / (prior + freedom)
    return variance


def inverse_trigamma(value: float) -> float:
    """The x > 0 at which the trigamma function is `value`: Newton's method on its reciprocal (Smyth 2004)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x
