"""Images sampled from the shipped pipeline, and many of them in one picture."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from miniature.pretrain import export

STEPS, GUIDANCE = 25, 5.0


def load_pipeline(folder=export.WEIGHTS / "pipeline"):
    """The shipped pipeline with a DDIM scheduler and no progress bar."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline, prompts, seed=0, guidance=GUIDANCE, steps=STEPS, batch=50):
    """One image a prompt, its noise from (seed, position): uint8 [N, 64, 64, 3]."""
    images = []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        noise = [torch.Generator().manual_seed(seed * 1_000_003 + start + i) for i in range(len(part))]
        images.append(
            pipeline(part, num_inference_steps=steps, guidance_scale=guidance, generator=noise, output_type="np").images
        )
    return (np.concatenate(images) * 255).round().astype(np.uint8)


def save_grid(images, columns, path, zoom=2):
    """Images uint8 [N, H, W, 3] side by side, row by row, as one PNG."""
    rows = [np.concatenate(images[start : start + columns], axis=1) for start in range(0, len(images), columns)]
    grid = np.concatenate(rows, axis=0)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).resize((grid.shape[1] * zoom, grid.shape[0] * zoom), Image.Resampling.NEAREST).save(path)
