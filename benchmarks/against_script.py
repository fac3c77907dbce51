"""Losses, weights and speed of diffusers' own `train_dreambooth.py` beside ours: same images, noise and timesteps.

    python -m benchmarks.against_script --script PATH              8 images of 64 px
    python -m benchmarks.against_script --script PATH --images DIR photographs, cropped at their centres

The script runs as it is, on one thread of the CPU; only what it draws at random (order of the images, latents, noise,
timesteps) is what our training draws instead. It needs torchvision, which this project does not.
"""

import argparse
import importlib.util
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.training import MINIATURE, photographs, spec_of
from trainers.data import class_prompt, generator, instance_prompt, order
from trainers.families import family_of
from trainers.images import instance_images
from trainers.spec import ModelSpec, PriorSpec, TrainSpec

LR = 3e-4  # what 2e-6 is on the miniature
CLASS_IMAGES = 7  # coprime to the number of instance images, so that one index of the script's chooses any pair
PRIOR = PriorSpec(num_class_images=CLASS_IMAGES)
# name -> batch size, our options, the script's flags
CASES: dict[str, tuple[int, dict[str, Any], str]] = {
    "batch 1": (1, {}, ""),
    "batch 2": (2, {}, ""),
    "batch 4": (4, {}, ""),
    "prior": (2, {"prior": PRIOR}, ""),
    "text encoder": (2, {"train_text_encoder": True}, "--train_text_encoder"),
    "text encoder, prior": (1, {"train_text_encoder": True, "prior": PRIOR}, "--train_text_encoder"),
    "accumulation": (2, {"gradient_accumulation_steps": 2}, "--gradient_accumulation_steps=2"),
    "checkpointing": (2, {"gradient_checkpointing": True}, "--gradient_checkpointing"),
    "warm-up": (
        2,
        {"trainer": {"lr_schedule": "constant_with_warmup", "lr_warmup_steps": 5}},
        "--lr_scheduler=constant_with_warmup --lr_warmup_steps=5",
    ),
    "offset noise": (2, {"trainer": {"offset_noise": 0.1}}, "--offset_noise"),
    "min-SNR": (2, {"trainer": {"min_snr_gamma": 5.0}}, "--snr_gamma=5.0"),
    "8-bit Adam": (2, {"use_8bit_adam": True}, "--use_8bit_adam"),
    "several at once": (
        2,
        {
            "prior": PRIOR,
            "train_text_encoder": True,
            "gradient_checkpointing": True,
            "gradient_accumulation_steps": 2,
            "trainer": {"lr_schedule": "constant_with_warmup", "lr_warmup_steps": 3, "offset_noise": 0.1},
        },
        "--train_text_encoder --gradient_checkpointing --gradient_accumulation_steps=2 --offset_noise "
        "--lr_scheduler=constant_with_warmup --lr_warmup_steps=3",
    ),
}


@dataclass(frozen=True)
class Result:
    losses: list[float]  # of each accumulation step; ours are of each optimizer step
    seconds: float  # of processor time, the median accumulation step
    weights: dict[str, Tensor]


class Draws:
    """What our training draws, in the order in which the script asks for it; stands in for the script's `torch`."""

    def __init__(self, spec: TrainSpec):
        family = family_of(spec.model)
        self.spec, self.shape = spec, family.latent_shape(family.load(spec.model), spec.model.resolution)
        self.position = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def posterior(self, *_: Any, **__: Any) -> Tensor:
        """The first that the script draws in an accumulation step."""
        self.position += 1
        parts = [self._half(half) for half in ["instance", *["class"] * bool(self.spec.prior)]]
        self.timesteps, self.noise, posterior, self.shift = (torch.cat(p) for p in zip(*parts, strict=True))
        return posterior

    def _half(self, half: str) -> tuple[Tensor, ...]:
        size, draws = self.spec.batch_size, generator(self.spec.seed, half, self.position)
        timesteps = torch.randint(0, 1000, (size,), generator=draws)
        noise, posterior = (torch.randn(size, *self.shape, generator=draws) for _ in range(2))
        torch.rand(size, 4, generator=draws)  # crop, flip and prompt
        return timesteps, noise, posterior, torch.randn(size, self.shape[0], 1, 1, generator=draws)

    def randn_like(self, _: Tensor) -> Tensor:
        return self.noise

    def randn(self, *_: Any, **__: Any) -> Tensor:
        return self.shift

    def randint(self, *_: Any, **__: Any) -> Tensor:
        return self.timesteps


class Ordered(torch.utils.data.Dataset):
    """The script's dataset in the order of our stream."""

    def __init__(self, dataset: Any, spec: TrainSpec, count: int):
        self.dataset = dataset
        dataset.instance_images_path = instance_images(dataset.instance_data_root)
        self.instances = order(spec.seed, "instance", dataset.num_instance_images, 0, count)
        self.classes: list[int] = []
        if spec.prior:
            dataset.class_images_path = instance_images(dataset.class_data_root)
            self.classes = order(spec.seed, "class", dataset.num_class_images, 0, count)

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, k: int) -> Any:
        if not self.classes:
            return self.dataset[self.instances[k]]
        ours, theirs = self.dataset.num_instance_images, self.dataset.num_class_images
        pairs = range(self.instances[k], ours * theirs, ours)
        return self.dataset[next(j for j in pairs if j % theirs == self.classes[k])]


def theirs(script: Path, spec: TrainSpec, class_images: str, steps: int, flags: str) -> Result:
    from accelerate import Accelerator
    from diffusers.models.autoencoders import vae

    torch.set_num_threads(1)
    module = _module(script)
    losses, ticks = [], []

    class Loader(torch.utils.data.DataLoader):
        def __init__(self, dataset: Any, batch_size: int, collate_fn: Any, **_: Any):
            count = steps * spec.gradient_accumulation_steps * spec.batch_size
            super().__init__(Ordered(dataset, spec, count), batch_size=batch_size, collate_fn=collate_fn)

    def log(_: Any, values: dict[str, float], **__: Any) -> None:
        losses.append(values["loss"])
        ticks.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        arguments = module.parse_args(_command(spec, class_images, steps, folder, flags))
        arguments.report_to = None
        draws = Draws(spec)
        for target, name, value in (
            (torch.utils.data, "DataLoader", Loader),
            (vae, "randn_tensor", draws.posterior),
            (Accelerator, "log", log),
            (module, "torch", draws),
        ):
            patches.enter_context(patch.object(target, name, value))
        module.main(arguments)
        return Result(losses, _median(ticks), _weights(Path(folder), spec))


def _module(script: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location("train_dreambooth", script)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _command(spec: TrainSpec, class_images: str, steps: int, folder: str, flags: str) -> list[str]:
    """The script's command line for what `spec` says."""
    values = {
        "pretrained_model_name_or_path": spec.model.repo,
        "instance_data_dir": spec.subject.images,
        "instance_prompt": instance_prompt(spec.subject),
        "resolution": spec.model.resolution,
        "train_batch_size": spec.batch_size,
        "learning_rate": spec.effective_lr,
        "max_train_steps": steps,
        "seed": spec.seed,
        "output_dir": folder,
    }
    if spec.prior:
        flags += f" --with_prior_preservation --num_class_images={CLASS_IMAGES}"
        values |= {"class_data_dir": class_images, "class_prompt": class_prompt(spec.subject)}
    return [f"--{name}={value}" for name, value in values.items()] + ["--center_crop", *flags.split()]


def ours(spec: TrainSpec, class_images: str, steps: int) -> Result:
    from trainers.loop import train

    torch.set_num_threads(1)
    losses, ticks = [], []

    def progress(_: int, loss: float) -> None:
        losses.append(loss)
        ticks.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        (checkpoint,) = train(spec, [steps], Path(folder), class_images=Path(class_images), progress=progress)
        return Result(losses, _median(ticks) / spec.gradient_accumulation_steps, _weights(checkpoint.folder, spec))


def _median(ticks: list[float]) -> float:
    return statistics.median(b - a for a, b in zip(ticks, ticks[1:], strict=False))


def _weights(folder: Path, spec: TrainSpec) -> dict[str, Tensor]:
    files = {"unet": "diffusion_pytorch_model.safetensors"}
    if spec.train_text_encoder:
        files["text_encoder"] = "model.safetensors"
    return {f"{p}.{n}": w for p, file in files.items() for n, w in load_file(folder / p / file).items()}


def compare(one: Result, other: Result, spec: TrainSpec) -> tuple[float, float]:
    """The largest difference of a loss, relative; the difference of the weights relative to how far they moved."""
    every = spec.gradient_accumulation_steps
    means = [statistics.fmean(other.losses[i : i + every]) for i in range(0, len(other.losses), every)]
    loss = max(abs(a - b) / b for a, b in zip(one.losses, means, strict=True))
    start = _weights(Path(spec.model.repo), spec)
    moved = sum((other.weights[n] - w).square().sum() for n, w in start.items())
    apart = sum((other.weights[n] - one.weights[n]).square().sum() for n in start)
    return loss, float((apart / moved).sqrt())


def in_a_process(function: Any, *arguments: Any) -> Result:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True, help="diffusers' examples/dreambooth/train_dreambooth.py")
    parser.add_argument("--images", help="a folder of photographs; default: random PNGs of 64 px")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    arguments = parser.parse_args()
    print(f"{'':22}{'loss off':>10}{'weights off':>13}{'ms script':>11}{'ms ours':>9}{'x script':>10}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        images, classes = (Path(folder) / name for name in ("instance", "class"))
        instance = arguments.images or photographs(images)
        classes = photographs(classes, CLASS_IMAGES)
        model = ModelSpec("benchmark", repo=str(MINIATURE))
        for name in arguments.cases:
            size, options, flags = CASES[name]
            trainer = {"center_crop": True, **options.get("trainer", {})}
            spec = spec_of({**options, "trainer": trainer, "lr": LR}, model, instance, size)
            script = in_a_process(theirs, arguments.script, spec, classes, arguments.steps, flags)
            here = in_a_process(ours, spec, classes, arguments.steps)
            loss, weights = compare(here, script, spec)
            times = f"{script.seconds * 1e3:11.0f}{here.seconds * 1e3:9.0f}{script.seconds / here.seconds:10.2f}"
            print(f"{name:22}{loss:10.1e}{weights:13.1e}{times}", flush=True)


if __name__ == "__main__":
    main()
