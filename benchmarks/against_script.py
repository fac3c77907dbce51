"""Losses, weights and speed of diffusers' own scripts beside ours: same images, prompts, noise and timesteps.

    python -m benchmarks.against_script --script PATH              8 images of 64 px
    python -m benchmarks.against_script --script PATH --images DIR photographs, cropped at their centres

PATH is `train_dreambooth.py`, `train_dreambooth_lora.py` or `textual_inversion.py`, told apart by name. The script runs
as it is, on one thread of the CPU; only what it draws at random (order of the images, templates, latents, noise,
timesteps, first adapters) is what our training draws instead. It needs torchvision, which this project does not.
"""

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.script_draws import Draws, Ordered
from benchmarks.training import MINIATURE, photographs, spec_of
from sweeper.engine.local import ALLOCATOR
from trainers.prompts import class_prompt, instance_prompt
from trainers.spec import ModelSpec, PriorSpec, TrainSpec
from trainers.textual_inversion import placeholder

LR = 3e-4  # what 2e-6 is on the miniature
CLASS_IMAGES = 7  # coprime to the number of instance images, so that one index of the script's chooses any pair
PRIOR = PriorSpec(num_class_images=CLASS_IMAGES)
TEXT = ({"train_text_encoder": True}, "--train_text_encoder")
ACCUMULATION = ({"gradient_accumulation_steps": 2}, "--gradient_accumulation_steps=2")
CHECKPOINTING = ({"gradient_checkpointing": True}, "--gradient_checkpointing")
WARM_UP = (
    {"trainer": {"lr_schedule": "constant_with_warmup", "lr_warmup_steps": 5}},
    "--lr_scheduler=constant_with_warmup --lr_warmup_steps=5",
)
# name -> batch size, our options, the script's flags
SHARED: dict[str, tuple[int, dict[str, Any], str]] = {
    "batch 1": (1, {}, ""),
    "batch 2": (2, {}, ""),
    "batch 4": (4, {}, ""),
    "accumulation": (2, *ACCUMULATION),
    "checkpointing": (2, *CHECKPOINTING),
    "warm-up": (2, *WARM_UP),
}
DREAMBOOTH = {
    **SHARED,
    "prior": (2, {"prior": PRIOR}, ""),
    "text encoder": (2, *TEXT),
    "text encoder, prior": (1, {**TEXT[0], "prior": PRIOR}, TEXT[1]),
    "8-bit Adam": (2, {"use_8bit_adam": True}, "--use_8bit_adam"),
    "several at once": (
        2,
        {"prior": PRIOR, **TEXT[0], **CHECKPOINTING[0], **ACCUMULATION[0], **WARM_UP[0]},
        " ".join(flags for _, flags in (TEXT, CHECKPOINTING, ACCUMULATION, WARM_UP)),
    ),
}
CASES = {
    "dreambooth": {
        **DREAMBOOTH,
        "offset noise": (2, {"trainer": {"offset_noise": 0.1}}, "--offset_noise"),
        "min-SNR": (2, {"trainer": {"min_snr_gamma": 5.0}}, "--snr_gamma=5.0"),
    },
    "dreambooth_lora": {**DREAMBOOTH, "rank 8": (2, {"trainer": {"lora_rank": 8}}, "--rank=8")},
    "textual_inversion": {
        **SHARED,
        "three vectors": (2, {"trainer": {"vectors": 3}}, "--num_vectors=3"),
        "a style": (2, {"trainer": {"templates": "style"}}, "--learnable_property=style"),
    },
}
FILES = {  # what is learned, in the script's folder and in a checkpoint's
    "dreambooth": ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"),
    "dreambooth_lora": ("pytorch_lora_weights.safetensors",),
    "textual_inversion": ("learned_embeds.safetensors",),
}


@dataclass(frozen=True)
class Result:
    losses: list[float]  # of each accumulation step; ours are of each optimizer step
    seconds: float  # of processor time, the median accumulation step
    weights: dict[str, Tensor]
    first: dict[str, Tensor] = field(default_factory=dict)  # before the first step


def theirs(script: Path, spec: TrainSpec, class_images: str, steps: int, flags: str) -> Result:
    from accelerate import Accelerator
    from diffusers.models.autoencoders import vae
    from peft import LoraConfig

    torch.set_num_threads(1)
    module = _module(script)
    losses = []
    ticks = []

    class Loader(torch.utils.data.DataLoader):
        def __init__(self, dataset: Any, batch_size: int, collate_fn: Any = None, **_: Any):
            count = steps * spec.gradient_accumulation_steps * spec.batch_size
            super().__init__(Ordered(dataset, spec, count), batch_size=batch_size, collate_fn=collate_fn)

    def log(_: Any, values: dict[str, float], **__: Any) -> None:
        losses.append(values["loss"])
        ticks.append(time.process_time())

    def adapters(**settings: Any) -> LoraConfig:
        torch.manual_seed(spec.seed)  # ours are drawn so, each network's
        return LoraConfig(**settings)

    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        command = _command(spec, class_images, steps, folder, flags)
        draws = Draws(spec)
        for target, name, value in (
            (torch.utils.data, "DataLoader", Loader),
            (vae, "randn_tensor", draws.posterior),
            (Accelerator, "log", log),
            (Accelerator, "init_trackers", lambda *_, **__: None),
            (module, "torch", draws),
            (sys, "argv", [str(script), *command]),
        ):
            patches.enter_context(patch.object(target, name, value))
        if spec.trainer.name == "dreambooth_lora":
            patches.enter_context(patch.object(module, "LoraConfig", adapters))
        if spec.trainer.name == "textual_inversion":
            module.main()
        else:
            module.main(module.parse_args())
        return Result(losses, _median(ticks), _weights(Path(folder), spec))


def _module(script: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _command(spec: TrainSpec, class_images: str, steps: int, folder: str, flags: str) -> list[str]:
    """The script's command line for what `spec` says."""
    values = {
        "pretrained_model_name_or_path": spec.model.repo,
        "resolution": spec.model.resolution,
        "train_batch_size": spec.batch_size,
        "learning_rate": spec.effective_lr,
        "max_train_steps": steps,
        "seed": spec.seed,
        "output_dir": folder,
    }
    if spec.trainer.name == "textual_inversion":
        values |= {"train_data_dir": spec.subject.images, "placeholder_token": placeholder(spec.subject)}
        values |= {"initializer_token": spec.subject.class_noun}
    else:
        values |= {"instance_data_dir": spec.subject.images, "instance_prompt": instance_prompt(spec.subject)}
    if spec.prior:
        flags += f" --with_prior_preservation --num_class_images={CLASS_IMAGES}"
        values |= {"class_data_dir": class_images, "class_prompt": class_prompt(spec.subject)}
    return [f"--{name}={value}" for name, value in values.items()] + ["--center_crop", *flags.split()]


def ours(spec: TrainSpec, class_images: str, steps: int) -> Result:
    from trainers.loop import train

    torch.set_num_threads(1)
    losses = []
    ticks = []

    def progress(_: int, loss: float) -> None:
        losses.append(loss)
        ticks.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = train(spec, [0, steps], Path(folder), class_images=Path(class_images), progress=progress)
        first, last = (_weights(checkpoint.folder, spec) for checkpoint in checkpoints)
        return Result(losses, _median(ticks) / spec.gradient_accumulation_steps, last, first)


def _median(ticks: list[float]) -> float:
    return statistics.median(b - a for a, b in zip(ticks, ticks[1:], strict=False))


def _weights(folder: Path, spec: TrainSpec) -> dict[str, Tensor]:
    files = [file for file in FILES[spec.trainer.name] if (folder / file).exists()]
    return {f"{file}.{name}": w for file in files for name, w in load_file(folder / file).items()}


def compare(one: Result, other: Result, spec: TrainSpec) -> tuple[float, float]:
    """The largest difference of a loss, relative; the difference of the weights relative to how far they moved."""
    every = spec.gradient_accumulation_steps
    means = [statistics.fmean(other.losses[i : i + every]) for i in range(0, len(other.losses), every)]
    loss = max(abs(a - b) / b for a, b in zip(one.losses, means, strict=True))
    moved = sum((one.weights[n] - w).square().sum() for n, w in one.first.items())
    apart = sum((one.weights[n] - other.weights[n]).square().sum() for n in one.first)
    return loss, float((apart / moved).sqrt())


def in_a_process(function: Any, *arguments: Any) -> Result:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--images", help="a folder of photographs; default: random PNGs of 64 px")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cases", nargs="*", metavar="CASE")
    arguments = parser.parse_args()
    trainer = arguments.script.stem.removeprefix("train_")
    if trainer not in CASES or not arguments.script.is_file():
        parser.error(f"--script {arguments.script}: no such file, or not one of those named above")
    for name in set(arguments.cases or ()) - set(CASES[trainer]):
        parser.error(f"--cases {name!r}: there are {', '.join(CASES[trainer])}")
    print(f"{'':22}{'loss off':>10}{'weights off':>13}{'ms script':>11}{'ms ours':>9}{'x script':>10}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        images, classes = (Path(folder) / name for name in ("instance", "class"))
        instance = arguments.images or photographs(images)
        classes = photographs(classes, CLASS_IMAGES)
        model = ModelSpec("benchmark", repo=str(MINIATURE))
        for name, (size, options, flags) in CASES[trainer].items():
            if arguments.cases and name not in arguments.cases:
                continue
            own = {"name": trainer, "center_crop": True, **options.get("trainer", {})}
            if trainer == "textual_inversion":
                own["max_grad_norm"] = 1e9  # the script does not clip
            spec = spec_of({**options, "trainer": own, "lr": LR}, model, instance, size)
            script = in_a_process(theirs, arguments.script, spec, classes, arguments.steps, flags)
            with patch.dict(os.environ, ALLOCATOR):  # as the sweep's workers have it
                here = in_a_process(ours, spec, classes, arguments.steps)
            loss, weights = compare(here, script, spec)
            times = f"{script.seconds * 1e3:11.0f}{here.seconds * 1e3:9.0f}{script.seconds / here.seconds:10.2f}"
            print(f"{name:22}{loss:10.1e}{weights:13.1e}{times}", flush=True)


if __name__ == "__main__":
    main()
