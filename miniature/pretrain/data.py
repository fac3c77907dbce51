"""Renders for training: made once, seeded one by one, kept on disk."""

import pickle
import random
from pathlib import Path

import numpy as np
import torch
from tqdm import trange

from miniature.world import SIZE, render, sample_scene

HELD_OUT_SEED = 10**9
"""Scenes for judging are drawn from seeds at and above this one; training never reaches it."""


def scene_from_seed(seed, **fixed):
    """The random scene number `seed`; `fixed` as in `sample_scene`."""
    return sample_scene(random.Random(seed), **fixed)


def render_all(scenes):
    """Images of `scenes` as uint8 [N, 64, 64, 3]."""
    return np.stack([np.asarray(render(scene)) for scene in scenes])


def cached_renders(folder, count):
    """(`count` scenes, their images as a uint8 memory map [count, 64, 64, 3]), rendered into `folder` if not there."""
    folder = Path(folder)
    images_path, scenes_path = folder / f"renders-{count}.npy", folder / f"scenes-{count}.pkl"
    if not scenes_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scenes = [scene_from_seed(seed) for seed in range(count)]
        images = np.lib.format.open_memmap(images_path, "w+", np.uint8, (count, SIZE, SIZE, 3))
        for index in trange(count, desc="rendering", unit="image"):
            images[index] = np.asarray(render(scenes[index]))
        images.flush()
        scenes_path.write_bytes(pickle.dumps(scenes))
    return pickle.loads(scenes_path.read_bytes()), np.load(images_path, mmap_mode="r")


def to_tensor(images, device="cpu"):
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] in -1..1."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels):
    """float [N, 3, H, W] in -1..1 -> uint8 [N, H, W, 3]."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
