"""Scenes by number, their images, and the images kept on disk."""

import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from miniature.world import SIZE, Scene, render, sample_scene

Images = npt.NDArray[np.uint8]
"""RGB images [..., height, width, 3] in 0..255."""

HELD_OUT_SEED = 10**9
"""Scenes for measuring come from seeds at and above this one; training uses smaller seeds only."""


def scene_from_seed(seed: int, noun: str | None = None, context: str | None = None, style: str | None = None) -> Scene:
    """Random scene number `seed`; a class, context or style that is given is not drawn."""
    return sample_scene(random.Random(seed), noun, context, style)


def render_all(scenes: Sequence[Scene]) -> Images:
    """Images of `scenes` as uint8 [N, 64, 64, 3]."""
    return np.stack([np.asarray(render(scene)) for scene in scenes])


def cached_renders(scenes: Sequence[Scene], path: Path) -> Images:
    """Images of `scenes` as a memory map, uint8 [N, 64, 64, 3]; rendered into the file `path` if it does not exist.

    Nothing but its name tells what is in the file: delete it after a change to how scenes are drawn.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".aside")
        images = np.lib.format.open_memmap(aside, "w+", np.uint8, (len(scenes), SIZE, SIZE, 3))
        for index, scene in enumerate(tqdm(scenes, desc="rendering", unit="image")):
            images[index] = np.asarray(render(scene))
        images.flush()
        os.replace(aside, path)
    kept: Images = np.load(path, mmap_mode="r")
    return kept


def to_tensor(images: Images, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] in -1..1."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> Images:
    """float [N, 3, H, W] in -1..1 -> uint8 [N, H, W, 3]."""
    scaled = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte()
    images: Images = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return images
