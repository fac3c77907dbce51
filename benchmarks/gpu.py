"""Stable Diffusion 1.5 at full size with random weights on a GPU: speed and peak memory per set of options, held
against the claims of the blog post and against what the card can compute; several trials on one card.

    python -m benchmarks.gpu            one command, under 10 minutes on a 24 GB card or larger
    python -m benchmarks.gpu --small    a quarter of the width at 64 px, also without a GPU: that it runs
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.random_models import stable_diffusion_15
from benchmarks.training import MB, in_processes, photographs, spec_of
from trainers.memory import estimate
from trainers.spec import ModelSpec, PriorSpec, TrainSpec

GB = 1024
FROZEN = {"mixed_precision": "bf16"}
TIGHT = {"mixed_precision": "fp16", "use_8bit_adam": True, "gradient_checkpointing": True}
# name -> (options, batch size, GB that the post names)
SETS: dict[str, tuple[dict, int, float | None]] = {
    "U-Net, fp32": ({}, 1, None),
    "U-Net, bf16": (FROZEN, 1, None),
    "U-Net, bf16, batch 4": (FROZEN, 4, None),
    "U-Net, bf16, TF32, channels last": ({**FROZEN, "trainer": {"tf32": True, "channels_last": True}}, 4, None),
    "U-Net, bf16, compiled": ({**FROZEN, "trainer": {"compile": True}}, 4, None),
    "U-Net, bf16, prior": ({**FROZEN, "prior": PriorSpec(num_class_images=8)}, 1, None),
    "with text encoder, fp16, 24 GB": ({"mixed_precision": "fp16", "train_text_encoder": True}, 1, 24),
    "with text encoder, 8-bit, fp16, accumulation, 16 GB": (
        {**TIGHT, "train_text_encoder": True, "gradient_accumulation_steps": 2},
        1,
        16,
    ),
    "LoRA, bf16": ({**FROZEN, "trainer": {"name": "dreambooth_lora"}}, 4, None),
}
PLAIN = ("U-Net, bf16", "U-Net, bf16, batch 4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    import torch

    gpu = torch.cuda.is_available()
    if not (gpu or arguments.small):
        parser.error("there is no GPU; --small runs without")
    resolution = 64 if arguments.small else 512
    with tempfile.TemporaryDirectory() as folder:
        repo = stable_diffusion_15(Path(folder) / "model", 4 if arguments.small else 1)
        model = ModelSpec("benchmark", repo=str(repo), resolution=resolution)
        images = photographs(Path(folder) / "images", size=resolution)
        specs = {name: spec_of(options, model, images, size) for name, (options, size, _) in SETS.items()}
        if not gpu:  # fp16 needs one
            specs = {n: s for n, s in specs.items() if s.mixed_precision != "fp16" and not s.trainer.compile}
        print(f"{'':54}{'steps/s':>9}{'x plain':>9}{'GB':>7}{'estimate':>10}{'claim':>7}{'x floor':>9}")
        for name, spec in specs.items():
            print(line(name, spec, arguments.steps, gpu), flush=True)
        shared(specs["LoRA, bf16"], arguments.steps)


def line(name: str, spec: TrainSpec, steps: int, gpu: bool) -> str:
    """Speed, its ratio to the plain loop's, peak memory, its estimate, the post's figure, times the floor."""
    seconds, _, peak = in_processes("ours", spec, steps)
    ratio = f"{in_processes('plain', spec, steps)[0] / seconds:9.2f}" if name in PLAIN else " " * 9
    claim = SETS[name][2]
    guess = (estimate(spec, "cuda").tensors if gpu else estimate(spec).total) / MB
    floor = in_floors(seconds, spec) if gpu else float("nan")
    return (
        f"{name:54}{1 / seconds:9.2f}{ratio}{peak / GB:7.2f}{guess / GB:10.2f}"
        f"{f'{claim:7.0f}' if claim else ' ' * 7}{floor:9.2f}"
    )


def in_floors(seconds: float, spec: TrainSpec) -> float:
    """How many times the time of a step's arithmetic at the speed that the card multiplies large matrices with."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from trainers.families import family_of

    family = family_of(spec.model)
    with torch.device("meta"):
        components = family.blank(spec.model)
        size = spec.batch_size * (2 if spec.prior else 1)
        noisy = torch.empty(size, *family.latent_shape(components, spec.model.resolution))
        text = family.blank_text(components, size, encoded=True)
        timesteps = torch.zeros(size, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            family.predict(components.network.requires_grad_(True), noisy, timesteps, text).sum().backward()
    flops = counter.get_total_flops() * spec.gradient_accumulation_steps * (4 / 3 if spec.gradient_checkpointing else 1)
    return seconds / (flops / _rate(spec.mixed_precision))


def _rate(precision: str) -> float:
    """Floating-point operations per second of a large matrix product."""
    import torch

    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    a = torch.randn(8192, 8192, device="cuda", dtype=dtype)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.perf_counter() - start)


def shared(spec: TrainSpec, steps: int) -> None:
    """One, two and four trials on one card at once."""
    alone = None
    for trials in (1, 2, 4):
        rate = 1 / in_processes("ours", spec, steps, trials)[0]
        alone = alone or rate
        print(f"{f'{trials} trials of LoRA on one device':54}{rate:9.2f}   {rate / alone:.2f} times one", flush=True)


if __name__ == "__main__":
    main()
