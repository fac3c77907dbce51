"""The three baselines that cost no training: the untuned model, the photographs, and the copy machine.

They make subjects comparable: see `sweetspot.py` for what is done with them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics import Reference, noise_level
from trainers.images import instance_images, load_image, resize


def read_photographs(folder: Path | str, resolution: int) -> np.ndarray:
    """The instance images as the training sees them, cropped to the centre: uint8 [N, resolution, resolution, 3]."""
    return np.stack([centre(np.asarray(resize(load_image(p), resolution))) for p in instance_images(folder)])


def centre(image: np.ndarray) -> np.ndarray:
    """The middle square of [H, W, 3]."""
    side = min(image.shape[:2])
    top = (image.shape[0] - side) // 2
    left = (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]


def photograph_values(reference: Reference) -> dict[str, np.ndarray]:
    """The photographs against each other, leave-one-out, and as a copy machine would offer them for the prompts.

    dino, clip_i, copying, noise: [N], a value a photograph (a lone photograph has only itself: 1). clip_t: [P, N].
    """
    photographs = reference.photographs
    return {
        "dino": others(photographs.dino, np.mean),
        "clip_i": others(photographs.clip, np.mean),
        "copying": others(photographs.clip, np.max),
        "noise": noise_level(photographs.pixels),
        "clip_t": reference.texts @ photographs.clip.T,
    }


def others(features: np.ndarray, reduce: Callable[[np.ndarray], np.floating[Any]]) -> np.ndarray:
    """`reduce` of each image's cosines to the other images: [N, D] -> [N]."""
    cosines = features @ features.T
    if len(cosines) == 1:
        return cosines[0]
    apart = ~np.eye(len(cosines), dtype=bool)
    return np.array([reduce(row[mask]) for row, mask in zip(cosines, apart, strict=True)])
