"""How much of what the card can do a training step gets out of it, and how fast images are sampled."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.gpu.lines import Line, judged, skipped
from benchmarks.gpu.setup import GB, Setup, alone
from benchmarks.training import plain
from trainers.families import family_of
from trainers.loop import LEARNERS, train
from trainers.memory import MARGIN, estimate
from trainers.precision import DTYPES
from trainers.spec import PriorSpec, SampleSpec, TrainSpec

SHARE = 0.9  # of the speed of forward and backward alone
WARM = 3  # steps before the clock starts
SAMPLED = 4  # images at once


def option_sets(setup: Setup) -> dict[str, TrainSpec]:
    half = {"mixed_precision": setup.half}
    prior = PriorSpec(num_class_images=8)
    sets = {
        "U-Net, fp32": setup.spec(),
        f"U-Net, {setup.half}": setup.spec(**half),
        f"U-Net, {setup.half}, batch 4": setup.spec(4, **half),
        f"U-Net, {setup.half}, prior": setup.spec(prior=prior, **half),
        f"U-Net, {setup.half}, checkpointing": setup.spec(gradient_checkpointing=True, **half),
        f"U-Net, {setup.half}, 8-bit AdamW": setup.spec(use_8bit_adam=True, **half),
        f"with text encoder, {setup.half}": setup.spec(train_text_encoder=True, **half),
        f"LoRA, {setup.half}, batch 4": setup.spec(4, trainer={"name": "dreambooth_lora"}, **half),
    }
    if setup.gpu:
        fp16 = {"mixed_precision": "fp16"}
        sets["U-Net, fp16"] = setup.spec(**fp16)
        sets[f"U-Net, {setup.half}, TF32, channels last"] = setup.spec(
            4, trainer={"tf32": True, "channels_last": True}, **half
        )
        sets[f"U-Net, {setup.half}, compiled"] = setup.spec(4, trainer={"compile": True}, **half)
    return sets


class StepClock:
    """Called after each step; waits for the device only at the first and the last step that count."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.last = WARM + steps
        self._at: dict[int, float] = {}

    def __call__(self, step: int, _loss: float = 0.0) -> None:
        if step in (WARM, self.last):
            self._at[step] = now()

    @property
    def seconds(self) -> float:
        """Of a step."""
        return (self._at[self.last] - self._at[WARM]) / self.steps


def now() -> float:
    """Seconds, once the device has done all that it was asked to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(spec: TrainSpec, steps: int) -> float:
    """Seconds of a step of the project's loop."""
    clock = StepClock(steps)
    with tempfile.TemporaryDirectory() as folder:
        list(train(spec, [clock.last], Path(folder), class_images=Path(spec.subject.images), progress=clock))
    return clock.seconds


def bare(spec: TrainSpec, steps: int) -> float:
    """Seconds of forward and backward alone, on inputs that never change: what every loop must compute."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    family = family_of(spec.model)
    components = family.load(spec.model)
    learner = LEARNERS[spec.trainer.name](components, spec).to(device)
    learner.configure()
    size = spec.batch_size * (2 if spec.prior else 1)
    noisy = torch.randn(size, *family.latent_shape(components, spec.model.resolution), device=device)
    timesteps = torch.full((size,), 500, device=device)
    prompts = ["a photo of sks dog"]
    text = family.tokenize(components, prompts) if learner.held_encoders else family.condition(components, prompts)
    text = text.to(device)
    rows = torch.zeros(size, dtype=torch.long, device=device)
    clock = StepClock(steps)
    for step in range(1, clock.last + 1):
        with torch.autocast(device, DTYPES[spec.mixed_precision], enabled=spec.mixed_precision != "no"):
            predicted = learner(noisy, timesteps, text, rows)
        torch.nn.functional.mse_loss(predicted.float(), noisy).backward()
        learner.zero_grad(set_to_none=True)
        clock(step)
    return clock.seconds


def plain_loop(spec: TrainSpec, steps: int) -> float:
    """Seconds of a step of a loop written as diffusers' script: see benchmarks/training.py."""
    return sum(plain(spec, WARM + steps, now)[-steps:]) / steps


@dataclass(frozen=True)
class Measured:
    seconds: float  # of a step of the project's loop
    bare: float  # of forward and backward alone
    peak: int  # bytes of tensors on the card, at most
    product: float | None  # see share_of_product


def measure(spec: TrainSpec, steps: int) -> Measured:
    seconds = ours(spec, steps)
    gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if gpu else 0
    return Measured(seconds, bare(spec, steps), peak, share_of_product(spec, seconds) if gpu else None)


def training_lines(setup: Setup) -> Iterator[Line]:
    """Of each set of options its speed and its memory, measured in one process of its own."""
    for name, spec in option_sets(setup).items():
        found: Measured = alone(measure, spec, setup.steps)
        share = found.bare / found.seconds
        figure = f"{1 / found.seconds:.2f} steps/s, {share:.0%} of forward and backward alone"
        if found.product is None:
            yield Line(name, figure)
            continue
        figure += f", {found.product:.0%} of a large matrix product"
        yield judged(name, figure, f"{SHARE:.0%} of forward and backward or better", share >= SHARE)
        yield memory_line(name, spec, found.peak)


def memory_line(name: str, spec: TrainSpec, peak: int) -> Line:
    guess = estimate(spec, "cuda").tensors
    off = guess / peak - 1
    figure = f"{peak / GB:.2f} GB at the peak, {guess / GB:.2f} GB estimated ({off:+.0%})"
    return judged(f"memory: {name}", figure, f"within {MARGIN - 1:.0%}", abs(off) <= MARGIN - 1)


def plain_lines(setup: Setup) -> Iterator[Line]:
    for batch_size in (1, 4):
        spec = setup.spec(batch_size, mixed_precision=setup.half)
        mine = alone(ours, spec, setup.steps)
        theirs = alone(plain_loop, spec, setup.steps)
        yield Line(
            f"beside a plain loop, U-Net, {setup.half}, batch {batch_size}", f"{theirs / mine:.2f} times as fast"
        )


def share_of_product(spec: TrainSpec, seconds: float) -> float:
    """The arithmetic of a step at the speed of a large matrix product on this card, as a share of `seconds`."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        family = family_of(spec.model)
        components = family.blank(spec.model)
        learner = LEARNERS[spec.trainer.name](components, replace(spec, gradient_checkpointing=False))
        size = spec.batch_size * (2 if spec.prior else 1)
        noisy = torch.empty(size, *family.latent_shape(components, spec.model.resolution))
        text = family.blank_text(components, size, encoded=not learner.held_encoders)
        rows = torch.zeros(size, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            learner(noisy, torch.zeros(size, dtype=torch.long), text, rows).sum().backward()
    again = 4 / 3 if spec.gradient_checkpointing else 1  # the forward pass is computed twice
    return counter.get_total_flops() * again / product_rate(spec.mixed_precision) / seconds


def product_rate(precision: str, side: int = 8192, repeats: int = 10) -> float:
    """Floating-point operations per second of a large matrix product."""
    a = torch.randn(side, side, device="cuda", dtype=DTYPES[precision])
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        a @ a
    torch.cuda.synchronize()
    return repeats * 2 * side**3 / (time.perf_counter() - start)


def sampling_lines(setup: Setup) -> Iterator[Line]:
    for precision in DTYPES:
        name = f"sampling {SAMPLED} images at once, {'fp32' if precision == 'no' else precision}"
        if precision == "fp16" and not setup.gpu or precision == "bf16" and not setup.has_bf16:
            yield skipped(name, "not on this device")
            continue
        yield Line(name, f"{alone(sampled, setup.spec(), precision):.1f} denoising steps of an image a second")


def sampled(spec: TrainSpec, precision: str) -> float:
    """Denoising steps of one image a second, with guidance."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    family = family_of(spec.model)
    components = family.load(spec.model).to(device, precision)
    shape = family.latent_shape(components, spec.model.resolution)

    def seconds(inference_steps: int) -> float:
        generators = [torch.Generator().manual_seed(i) for i in range(SAMPLED)]
        latents = torch.stack([torch.randn(shape, generator=g) for g in generators])
        start = now()
        way = SampleSpec("ddim", inference_steps, precision=precision)
        family.sample(components, ["a photo of a dog"] * SAMPLED, latents, way, generators, device)
        return now() - start

    seconds(2)  # warm
    return SAMPLED * 10 / (seconds(12) - seconds(2))  # without the text and the decoding
