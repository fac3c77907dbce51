"""Training seeds that some points lack: filled in as the seeds of the others say, so that a comparison stays paired."""

import numpy as np

from evaluation.bootstrap import average, ratio

ROUNDS = 50  # of alternating means; they converge long before


def filled(values: np.ndarray) -> np.ndarray:
    """[G, R, U] with every training that a point lacks at the mean of those it has, moved by how the seeds differ.

    A point of one good seed beside points of three would otherwise look better than it is. How the seeds differ is
    estimated over the points that have several, and counts as far as it is more than noise. Points without any value
    stay as they are.
    """
    of_training = average(values)
    present = np.isfinite(of_training)
    if present.shape[1] < 2 or (present | ~present.any(1, keepdims=True)).all():
        return values
    seeds = seed_effects(of_training, present)[None, :, None]
    own = average(np.swapaxes(values - seeds, 1, 2))[:, None]
    return np.where(present[:, :, None], values, own + seeds)


def seed_effects(means: np.ndarray, present: np.ndarray) -> np.ndarray:
    """What each training seed adds to every point [R], of means [G, R]: two-way, shrunk by the noise in it."""
    seeds = np.zeros(means.shape[1])
    known = np.where(present, means, 0.0)
    count = present.sum(0)
    for _ in range(ROUNDS):
        points = ratio(np.where(present, known - seeds, 0.0).sum(1), present.sum(1))
        seeds = np.nan_to_num(ratio(np.where(present, known - np.nan_to_num(points)[:, None], 0.0).sum(0), count))
        seeds -= seeds[count > 0].mean()
    residual = np.where(present, known - np.nan_to_num(points)[:, None] - seeds, 0.0)
    freedom = present.sum() - present.any(1).sum() - (count > 0).sum() + 1
    if freedom < 1:
        return np.zeros_like(seeds)
    noise = (residual**2).sum() / freedom
    between = (count * seeds**2).sum() / max((count > 0).sum() - 1, 1)
    return seeds * (max(0.0, 1 - noise / between) if between > 0 else 0.0)
