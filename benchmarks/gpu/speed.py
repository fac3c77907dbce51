"""How much of what the card can do a training step gets out of it, and how fast images are sampled."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.lines import Line, attempted, judged, skipped
from benchmarks.gpu.setup import GB, Setup, one_process
from benchmarks.training import plain
from trainers.device import phase
from trainers.families import family_of
from trainers.loop import LEARNERS, train
from trainers.memory import MARGIN, estimate
from trainers.optimizers import make_optimizer
from trainers.precision import DTYPES
from trainers.spec import PriorSpec, SampleSpec, TrainSpec

# Of the speed of what every loop must compute, the optimizer's step too: AdamW reads and writes 28 bytes for each
# weight, which in Stable Diffusion 1.5 are 24 GB: on a card with 1 TB/s 24 ms of a step that has about 70 without.
SHARE = 0.9
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
        images = Path(spec.subject.images)
        keeps = {"precision": "fp16", "goes_on": lambda: False}  # as little as can be is written
        list(train(spec, [clock.last], Path(folder), class_images=images, progress=clock, **keeps))
    return clock.seconds


def bare(spec: TrainSpec, steps: int, moves: bool) -> float:
    """Seconds of forward and backward, on inputs that never change: what every loop must compute. moves: with the
    gradient's norm and the optimizer's step."""
    with phase(tf32=spec.trainer.tf32):
        return _bare(spec, steps, moves)


def _bare(spec: TrainSpec, steps: int, moves: bool) -> float:
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
    weights = list(learner.learned().values())
    optimizer = make_optimizer(spec, learner.parameter_groups())
    clock = StepClock(steps)
    for step in range(1, clock.last + 1):
        with torch.autocast(device, DTYPES[spec.mixed_precision], enabled=spec.mixed_precision != "no"):
            predicted = learner(noisy, timesteps, text, rows)
        torch.nn.functional.mse_loss(predicted.float(), noisy).backward()
        if moves:
            torch.nn.utils.clip_grad_norm_(weights, spec.trainer.max_grad_norm)
            optimizer.step()
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
    moving: float  # of these with the optimizer's step
    peak: int  # bytes of tensors on the card, at most
    product: float | None  # see share_of_product


def measure(spec: TrainSpec, steps: int) -> Measured:
    seconds = ours(spec, steps)
    gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if gpu else 0
    still = bare(spec, steps, moves=False)
    moving = bare(spec, steps, moves=True)
    return Measured(seconds, still, moving, peak, share_of_product(spec, seconds) if gpu else None)


def training_lines(setup: Setup) -> Iterator[Line]:
    """Of each set of options its speed and its memory."""
    with one_process() as run:
        for name, spec in option_sets(setup).items():
            yield from attempted(name, partial(lines_of, name, spec, setup, run))


def lines_of(name: str, spec: TrainSpec, setup: Setup, run: Callable[..., Measured]) -> Iterator[Line]:
    guess = estimate(spec, "cuda") if setup.gpu else None
    if guess and guess.total > setup.memory:
        yield skipped(name, f"needs {guess}, and the card has {setup.memory / GB:.2f} GB")
        return
    found = run(measure, spec, setup.steps)
    share = found.moving / found.seconds
    figure = f"{1 / found.seconds:.2f} steps/s, {share:.0%} of forward, backward and the optimizer's step alone"
    figure += f" ({found.bare / found.seconds:.0%} of forward and backward)"
    if guess is None or found.product is None:
        yield Line(name, figure)
        return
    figure += f", {found.product:.0%} of a large matrix product"
    yield judged(name, figure, f"{SHARE:.0%} with the optimizer's step, or better", share >= SHARE)
    yield memory_line(name, guess.tensors, found.peak)


def memory_line(name: str, guess: int, peak: int) -> Line:
    off = guess / peak - 1
    figure = f"{peak / GB:.2f} GB at the peak, {guess / GB:.2f} GB estimated ({off:+.0%})"
    return judged(f"memory: {name}", figure, f"within {MARGIN - 1:.0%}", abs(off) <= MARGIN - 1)


def plain_lines(setup: Setup) -> Iterator[Line]:
    with one_process() as run:
        for batch_size in (1, 4):
            name = f"beside a plain loop, U-Net, {setup.half}, batch {batch_size}"
            yield from attempted(name, partial(_beside_plain, name, batch_size, setup, run))


def _beside_plain(name: str, batch_size: int, setup: Setup, run: Callable[..., float]) -> Iterator[Line]:
    spec = setup.spec(batch_size, mixed_precision=setup.half)
    mine = run(ours, spec, setup.steps)
    yield Line(name, f"{run(plain_loop, spec, setup.steps) / mine:.2f} times as fast")


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
    with one_process() as run:
        for precision in DTYPES:
            name = f"sampling {SAMPLED} images at once, {'fp32' if precision == 'no' else precision}"
            if setup.samples_in(precision):
                yield Line(name, f"{run(sampled, setup.spec(), precision):.1f} denoising steps of an image a second")
            else:
                yield skipped(name, "not on this device")


@phase()
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
