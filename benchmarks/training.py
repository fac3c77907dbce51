"""Seconds a training step and peak memory, option by option, against a plain loop that does what diffusers'
`train_dreambooth.py` does by default: reads, encodes and embeds every image and prompt in every step, an optimizer that
is not fused, gradients that are filled with zeros. (Against the script itself: benchmarks/against_script.py.) The
U-Net's forward and backward alone, which every loop must compute, say how far caches could get at most.

    python -m benchmarks.training                     the miniature
    python -m benchmarks.training --model sd15 ...    the architecture of Stable Diffusion 1.5 with random weights
    python -m benchmarks.training --trials 2 ...      trainings at once, a thread each (cpu_trials=2), beside one plain
                                                      loop that has all the threads; times are per step of any of them

Every line runs in a process of its own. Ratios are of processor time for one training on a CPU, which other processes
disturb little, and of wall time for several and on a GPU.
"""

import argparse
import copy
import math
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from sweeper.engine.local import ALLOCATOR
from trainers.images import instance_images, load_image, resize
from trainers.spec import ModelSpec, PriorSpec, SubjectSpec, TrainerSpec, TrainSpec

MINIATURE = Path(__file__).resolve().parent.parent / "miniature" / "weights" / "pipeline"
MB = 1024**2
PHOTOGRAPHS = "photographs of 3 megapixels"  # rather than PNGs of the model's size
OPTIONS: dict[str, dict] = {
    "as it comes": {},
    PHOTOGRAPHS: {},
    "cache_latents=false": {"trainer": {"cache_latents": False}},
    "cache_text=false": {"trainer": {"cache_text": False}},
    "neither cache": {"trainer": {"cache_latents": False, "cache_text": False}},
    "gradient_checkpointing=true": {"gradient_checkpointing": True},
    "use_8bit_adam=true": {"use_8bit_adam": True},
    "channels_last=true": {"trainer": {"channels_last": True}},
    "compile=true": {"trainer": {"compile": True}},
    "train_text_encoder=true": {"train_text_encoder": True},
    "trainer=dreambooth_lora": {"trainer": {"name": "dreambooth_lora"}},
    "trainer=textual_inversion": {"trainer": {"name": "textual_inversion"}},
    "mixed_precision=bf16": {"mixed_precision": "bf16"},
    "prior_preservation=true": {"prior": PriorSpec(num_class_images=8)},
}
PLAIN = ("as it comes", PHOTOGRAPHS, "mixed_precision=bf16", "prior_preservation=true")  # measured as a plain loop too


def spec_of(options: dict, model: ModelSpec, images: str, batch_size: int) -> TrainSpec:
    fields = {"lr": 1e-6, **options, "trainer": TrainerSpec(**options.get("trainer", {}))}
    subject = SubjectSpec("benchmark", "dog", images=images)
    return TrainSpec(model, subject, batch_size=batch_size, **fields)


def ours(spec: TrainSpec, steps: int, clock) -> list[float]:
    """Seconds of each step after the first, by `clock`."""
    from trainers.loop import train

    ticks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        list(
            train(
                spec,
                [steps + 1],
                Path(folder),
                class_images=Path(spec.subject.images),
                progress=lambda step, loss: ticks.append(clock()),
            )
        )
    return [b - a for a, b in zip(ticks, ticks[1:], strict=False)]


def plain(spec: TrainSpec, steps: int, clock) -> list[float]:
    """The same training as diffusers' script writes it: no caches, optimizer and gradients as torch has them."""
    import torch
    from diffusers import DDPMScheduler

    from trainers.families import family_of

    device = "cuda" if torch.cuda.is_available() else "cpu"
    untuned = family_of(spec.model).load(spec.model)
    unet = copy.deepcopy(untuned.network).requires_grad_(True).train().to(device)
    vae = untuned.autoencoder.to(device)
    text_encoder = untuned.encoders["text_encoder"].to(device)
    noising = DDPMScheduler.from_config(dict(untuned.scheduler_config))
    optimizer = torch.optim.AdamW(unet.parameters(), lr=spec.effective_lr)
    tokenizer = untuned.tokenizers["text_encoder"]
    paths = instance_images(spec.subject.images)
    batch = spec.batch_size * (2 if spec.prior else 1)
    ticks = []

    def example(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels [3, H, W] and token ids [1, L], as the script's dataset makes them for every image it is asked for."""
        image = np.asarray(resize(load_image(paths[index % len(paths)]), spec.model.resolution))
        square = image[: spec.model.resolution, : spec.model.resolution]
        given = tokenizer("a photo of sks dog", padding="max_length", truncation=True, return_tensors="pt")
        return torch.from_numpy(square.copy()).permute(2, 0, 1).float().div(127.5).sub(1), given.input_ids

    for step in range(steps + 1):
        examples = [example(step + i) for i in range(batch)]
        pixels = torch.stack([p for p, _ in examples]).to(device)
        ids = torch.cat([i for _, i in examples])
        half = torch.bfloat16 if spec.mixed_precision == "bf16" else torch.float32
        with torch.autocast(device, half, enabled=spec.mixed_precision != "no"):
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
                states = text_encoder(ids.to(device))[0]
            noise = torch.randn_like(latents)
            timesteps = torch.randint(0, 1000, (batch,), device=device)
            predicted = unet(noising.add_noise(latents, noise, timesteps), timesteps, states).sample
        loss = torch.nn.functional.mse_loss(predicted.float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        loss.item()
        ticks.append(clock())
    return [b - a for a, b in zip(ticks, ticks[1:], strict=False)]


def unet_alone(spec: TrainSpec, steps: int, clock) -> list[float]:
    """What every loop must compute, whatever is cached: forward and backward, here of a batch that never changes."""
    import torch

    from trainers.families import family_of

    device = "cuda" if torch.cuda.is_available() else "cpu"
    family = family_of(spec.model)
    ticks = []
    untuned = family.load(spec.model)
    unet = copy.deepcopy(untuned.network).requires_grad_(True).train().to(device)
    batch = spec.batch_size * (2 if spec.prior else 1)
    text = family.condition(untuned, ["a photo of sks dog"] * batch).to(device)
    noise = torch.randn(batch, *family.latent_shape(untuned, spec.model.resolution), device=device)
    timesteps = torch.randint(0, 1000, (batch,), device=device)
    for _ in range(steps + 1):
        with torch.autocast(device, torch.bfloat16, enabled=spec.mixed_precision == "bf16"):
            predicted = family.predict(unet, noise, timesteps, text)
        torch.nn.functional.mse_loss(predicted.float(), noise).backward()
        unet.zero_grad()
        ticks.append(clock())
    return [b - a for a, b in zip(ticks, ticks[1:], strict=False)]


def measure(kind: str, spec: TrainSpec, steps: int, threads: int) -> tuple[float, float, float]:
    """Median wall and processor seconds of a step, and MB above what the process took before loading the model."""
    import torch

    import trainers.loop  # noqa: F401, importing is no part of what is measured
    from trainers.families import family_of

    family = family_of(spec.model)
    torch.set_num_threads(threads)
    gpu = torch.cuda.is_available()
    warm = torch.nn.Conv2d(4, 4, 3)  # the libraries' own memory is no part of the training's
    warm(torch.ones(1, 4, 8, 8)).sum().backward()
    if spec.trainer.compile:
        torch.compile(warm)(torch.ones(1, 4, 8, 8)).sum().backward()
    before = torch.cuda.memory_allocated() if gpu else resident()
    wall = []
    processor = []

    def clock() -> float:
        if gpu:
            torch.cuda.synchronize()
        processor.append(time.process_time())
        return time.perf_counter()

    family.load(spec.model)
    wall = {"ours": ours, "plain": plain, "unet": unet_alone}[kind](spec, steps, clock)
    spent = [b - a for a, b in zip(processor, processor[1:], strict=False)]
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return statistics.median(wall), statistics.median(wall if gpu else spent), (peak - before) / MB


def resident() -> int:
    import psutil

    return psutil.Process().memory_info().rss


def in_processes(kind: str, spec: TrainSpec, steps: int, trials: int = 1) -> tuple[float, float, float]:
    """`measure` in processes of their own: ours in `trials` at once, the others in one that has all their threads; the
    plain loop not in the environment of the sweep's workers. Seconds per step of any of them; MB of one."""
    count, threads = (trials, 1) if kind == "ours" else (1, trials)
    variables = {} if kind == "plain" else ALLOCATOR
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as compiled:  # nothing of what another process compiled
        variables = {**variables, "TORCHINDUCTOR_CACHE_DIR": compiled}
        with patch.dict(os.environ, variables), ProcessPoolExecutor(count, mp_context=spawn) as pool:
            running = [pool.submit(measure, kind, spec, steps, threads) for _ in range(count)]
            wall, used, peak = (statistics.mean(column) for column in zip(*(r.result() for r in running), strict=True))
    return wall / count, used, peak


def photographs(folder: Path, count: int = 8, size: int = 64) -> str:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return str(folder)


def large_photographs(folder: Path, count: int = 8, size: tuple[int, int] = (2048, 1536)) -> str:
    """JPEGs as large as photographs: blurred noise, which compresses as they do."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=92)
    return str(folder)


def lines(name: str, spec: TrainSpec, steps: int, trials: int, plain: float) -> tuple[str, float]:
    """What there is to print of an option, and the seconds of the plain loop it was held against: its own, where it has
    one, else `plain`."""
    import torch

    from trainers.memory import estimate

    text = ""
    kinds = {"plain": "plain loop, ", "unet": "U-Net alone, ", "ours": ""} if name in PLAIN else {"ours": ""}
    for kind, prefix in kinds.items():
        wall, used, peak = in_processes(kind, spec, steps, trials)
        seconds = used if trials == 1 else wall
        plain = seconds if kind == "plain" else plain
        text += f"{prefix + name:40}{wall * 1e3:9.0f}{used * 1e3:9.0f}{plain / seconds:9.2f}{peak:8.0f}"
        text += "" if kind == "ours" else "\n"
    guess = (estimate(spec, "cuda").tensors if torch.cuda.is_available() else estimate(spec).total) / MB
    return f"{text}{guess:10.0f}{guess / peak - 1:7.0%}", plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MINIATURE), help="a diffusers folder; sd15 or sd15-half: random weights")
    parser.add_argument("--images", help="a folder of photographs; default: random PNGs of the model's size")
    parser.add_argument("--resolution", type=int, default=64, help="pixels")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--trials", type=int, default=1, help="trainings at once")
    parser.add_argument("--compile", action="store_true", help="every option with compile=true")
    parser.add_argument("--options", nargs="*", default=[name for name in OPTIONS if name != "compile=true"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        squares = arguments.images or photographs(Path(folder) / "images", size=arguments.resolution)
        large = large_photographs(Path(folder) / "large")
        repo = arguments.model
        if repo in ("sd15", "sd15-half"):
            from benchmarks.random_models import stable_diffusion_15

            repo = str(stable_diffusion_15(Path(folder) / "sd15", 2 if repo.endswith("half") else 1))
        model = ModelSpec("benchmark", repo=repo, resolution=arguments.resolution)
        print(f"{'':40}{'ms wall':>9}{'ms used':>9}{'x plain':>9}{'MB':>8}{'estimate':>10}{'off':>7}", flush=True)
        first = float("nan")
        for name in arguments.options:
            images = large if name == PHOTOGRAPHS else squares
            spec = spec_of(OPTIONS[name], model, images, arguments.batch_size)
            if arguments.compile:
                spec = replace(spec, trainer=replace(spec.trainer, compile=True))
            text, held = lines(name, spec, arguments.steps, arguments.trials, first)
            first = held if math.isnan(first) else first
            print(text, flush=True)


if __name__ == "__main__":
    main()
