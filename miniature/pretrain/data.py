"""Renders for training: made once, seeded one by one, kept on disk."""

import os
import random

import numpy as np
import torch
from tqdm import tqdm

from miniature.world import SIZE, render, sample_scene

HELD_OUT_SEED = 10**9
"""Scenes for judging are drawn from seeds at and above this one; training never reaches it."""


def scene_from_seed(seed, **fixed):
    """The random scene number `seed`; `fixed` as in `sample_scene`."""
    return sample_scene(random.Random(seed), **fixed)


def render_all(scenes):
    """Images of `scenes` as uint8 [N, 64, 64, 3]."""
    return np.stack([np.asarray(render(scene)) for scene in scenes])


def cached_renders(scenes, path):
    """Images of `scenes` as a memory map, uint8 [N, 64, 64, 3]; rendered into the file `path` if it does not exist.

    The name is all that tells one file from another: delete it after a change to how scenes are drawn.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".aside")
        images = np.lib.format.open_memmap(aside, "w+", np.uint8, (len(scenes), SIZE, SIZE, 3))
        for index, scene in enumerate(tqdm(scenes, desc="rendering", unit="image")):
            images[index] = np.asarray(render(scene))
        images.flush()
        os.replace(aside, path)
    return np.load(path, mmap_mode="r")


def to_tensor(images, device="cpu"):
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] in -1..1."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels):
    """float [N, 3, H, W] in -1..1 -> uint8 [N, H, W, 3]."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
