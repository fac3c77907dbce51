"""Samples from the shipped pipeline, and grids of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image

from miniature.pretrain import export
from miniature.pretrain.data import Images

STEPS = 25
GUIDANCE = 5.0


def load_pipeline(folder: Path = export.WEIGHTS / "pipeline") -> StableDiffusionPipeline:
    """The shipped pipeline, with a DDIM scheduler and without a progress bar."""
    pipeline: StableDiffusionPipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    seed: int = 0,
    guidance: float = GUIDANCE,
    steps: int = STEPS,
    batch: int = 50,
) -> Images:
    """One image for each prompt, uint8 [N, 64, 64, 3]. The noise of an image depends on `seed` and its position."""
    images = []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        noise = [torch.Generator().manual_seed(seed * 1_000_003 + start + i) for i in range(len(part))]
        sampled = pipeline(part, num_inference_steps=steps, guidance_scale=guidance, generator=noise, output_type="np")
        images.append(sampled.images)
    return (np.concatenate(images) * 255).round().astype(np.uint8)


def save_grid(images: Images, columns: int, path: Path, zoom: int = 2) -> None:
    """Images [N, H, W, 3] row by row in one PNG, enlarged `zoom` times."""
    rows = [np.concatenate(images[start : start + columns], axis=1) for start in range(0, len(images), columns)]
    grid = np.concatenate(rows, axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).resize((grid.shape[1] * zoom, grid.shape[0] * zoom), Image.Resampling.NEAREST).save(path)
