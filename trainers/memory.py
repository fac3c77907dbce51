"""How much memory a training needs, known before it starts.

One step's forward and backward pass is run on tensors that have shapes but no data, and what is alive at once is
counted; the states of the optimizer are added from what is known of it. Takes seconds, and no weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import psutil
import torch

from trainers.errors import DoesNotFit
from trainers.families import family_of
from trainers.learner import Learner
from trainers.lighter import lighter
from trainers.live_bytes import LiveBytes, normalise_as_on_cuda, parameter_bytes, without_data
from trainers.loop import LEARNERS
from trainers.loss import denoising_losses
from trainers.machine import cores
from trainers.precision import DTYPES
from trainers.sampling_memory import sampling_memory
from trainers.sizes import OPTIMIZER_BYTES
from trainers.spec import ModelSpec, SampleSpec, TrainSpec
from trainers.textual_inversion import TEMPLATES
from trainers.validate import OF_OTHERS

GB = 1024**3
# Measured on a CPU as what is above the tensors of the miniature, whatever the options; on a GPU assumed: the context.
LIBRARIES = {"cpu": 40 * 1024**2, "cuda": 600 * 1024**2}
# On a CPU, holes in the heap: what is allocated and freed in a step, layer by layer where activations are not kept,
# leaves about half as much again: docs/log.md, "Memory estimate: holes in the heap". Large tensors are kept apart.
HOLES, MOST_HOLES = 0.5, 64 * 1024**2
# Of `torch.compile` while it compiles and its cache is empty, for each operation of a step: 14 to 19 KB on nine
# combinations of the miniature: docs/log.md, "Memory estimate: the compiler". With a GPU it is the processor's memory.
COMPILER = {"cpu": 16 * 1024, "cuda": 0}
MARGIN = 1.15  # the estimate is held to be within 15 % of what is needed


@dataclass(frozen=True)
class Beside:
    """What is computed on the device while a training lies there: the evaluation of its checkpoints."""

    samples: tuple[SampleSpec, ...] = ()
    encoders: int = 0  # bytes of the networks that measure


@dataclass(frozen=True)
class Memory:
    """Bytes on the device."""

    weights: int  # what learns and what is frozen beside it
    state: int  # of the optimizer, and the moving average; with several processes the buckets that gradients lie in
    step: int  # gradients, activations, copies in half precision: the most that is alive at once
    libraries: int  # what is not tensors: of the libraries, of the compiler, and holes in the heap
    evaluation: int = 0  # of a checkpoint: its weights, one image at a time
    class_images: int = 0  # before the training: the untuned model, one image at a time
    encoders: int = 0  # that measure; they stay once they are there

    @property
    def tensors(self) -> int:
        """Of the training."""
        return self.weights + self.state + self.step

    @property
    def total(self) -> int:
        """The most that is alive at once: of the training, of the evaluation beside it, of sampling class images."""
        most = max(self.tensors, self.weights + self.state + self.evaluation, self.class_images)
        return self.libraries + self.encoders + most

    def __str__(self) -> str:
        names: tuple[str, ...] = ("weights", "state", "step")
        most = self.total - self.libraries - self.encoders
        if most > self.tensors:
            names = ("weights", "state", "evaluation")
            if most > self.weights + self.state + self.evaluation:
                names = ("class_images",)
        names += ("encoders", "libraries") if self.encoders else ("libraries",)
        parts = ", ".join(f"{name.replace('_', ' ')} {getattr(self, name) / GB:.2f}" for name in names)
        return f"{self.total / GB:.2f} GB ({parts})"


@lru_cache(maxsize=64)
def estimate(spec: TrainSpec, device: str = "cpu", processes: int = 1, beside: Beside = Beside()) -> Memory:
    """What one process of a training needs on its device, beyond what importing torch takes.

    On a CPU the untuned weights stay in the same memory, which counts; sampling, which shares it with what a step has
    freed, does not. A GPU samples as many images at once as fit, so one is counted.
    """
    with torch.device("meta"):
        components = family_of(spec.model).blank(spec.model)
        learner = LEARNERS[spec.trainer.name](components, spec)
    step, operations = _step(learner, spec, device, processes)
    learned = list(learner.learned().values())
    state = _state(spec, learned)
    on_cpu = device == "cpu"
    gradients = sum(weight.numel() * weight.element_size() for weight in learned)
    if processes > 1:
        state += gradients
        step -= gradients if spec.gradient_accumulation_steps == 1 else 0  # they lie in the buckets
    if spec.trainer.ema_decay and not on_cpu:
        step = max(step, gradients)  # as large as what the moving average is moved by, of all weights at once
    weights = parameter_bytes(learner, *(components.parts.values() if on_cpu else [components.autoencoder]))
    libraries = LIBRARIES[device] + (COMPILER[device] * operations if spec.trainer.compile else 0)
    if on_cpu:
        kept = replace(spec, gradient_checkpointing=False)
        freed = step if kept == spec else estimate(kept, device, processes).step
        libraries += min(int(HOLES * freed), MOST_HOLES)
        return Memory(weights, state, step, libraries)
    evaluation = _evaluation(spec.model, beside.samples)
    return Memory(weights, state, step, libraries, evaluation, _class_images(spec), beside.encoders)


def _state(spec: TrainSpec, learned: Sequence[torch.nn.Parameter]) -> int:
    """Bytes of the optimizer's state and of the moving average."""
    optimizer = "adamw8bit" if spec.use_8bit_adam else spec.trainer.optimizer
    count = sum(weight.numel() for weight in learned)
    if optimizer == "adafactor":
        own = 4 * sum(_rows_and_columns(weight.shape) for weight in learned)
    else:
        own = int(OPTIMIZER_BYTES[optimizer] * count)
    return own + (4 * count if spec.trainer.ema_decay else 0)


def _rows_and_columns(shape: Sequence[int]) -> int:
    """Numbers that transformers' Adafactor keeps of a weight: of each matrix of its last two dimensions the means of
    the rows and of the columns, which of a 3 x 3 convolution is two thirds of it; of a vector all."""
    if len(shape) < 2:
        return math.prod(shape)
    return math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]


def _evaluation(model: ModelSpec, samples: Sequence[SampleSpec]) -> int:
    """Sampling in each of the ways asked for and, after it, the losses in fp32."""
    if not samples:
        return 0
    ways = {(sample.precision, sample.guidance_scale > 1) for sample in samples} | {("no", False)}
    return max(sampling_memory(model, *way).total for way in ways)


def _class_images(spec: TrainSpec) -> int:
    if spec.prior is None or spec.prior.folder:
        return 0
    sample = spec.prior.sample
    return sampling_memory(spec.model, sample.precision, sample.guidance_scale > 1).total


def _step(learner: Learner, spec: TrainSpec, device: str, processes: int) -> tuple[int, int]:
    """The most bytes alive in a step, and the operations of one forward and backward pass."""
    family = learner.family
    components = learner.components
    size = spec.per_process(processes) * (2 if spec.prior else 1)
    prompts = 2 if spec.prior else 1
    if spec.trainer.name == "textual_inversion":
        prompts = min(size, len(TEMPLATES[spec.trainer.templates]))
    process = family.forward_process(components)
    with without_data(learner):
        noisy = torch.empty(size, *family.latent_shape(components, spec.model.resolution))
        rows = torch.empty(size, dtype=torch.long)
        timesteps = process.at(0.5, size)
        text = family.blank_text(components, prompts, encoded=not learner.held_encoders)
        # In the second pass there are gradients already; between several processes they always have their buckets.
        passes = 2 if processes > 1 else min(2, spec.gradient_accumulation_steps)
        if device != "cpu":
            normalise_as_on_cuda(learner)
        with LiveBytes() as live:
            for _ in range(passes):
                with torch.autocast("cpu", DTYPES[spec.mixed_precision], enabled=spec.mixed_precision != "no"):
                    prediction = learner(noisy, timesteps, text, rows)
                denoising_losses(prediction, noisy).mean().backward()
                del prediction
    return live.peak, live.operations // passes


def capacity(device: torch.device) -> int:
    """Bytes that this process can have on `device`: all of a GPU; of the machine's memory as much as of its cores."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total) * min(torch.get_num_threads(), cores()) // cores()


def capability(device: torch.device) -> tuple[int, int]:
    """NVIDIA's compute capability. All else has what it says it has: a CPU, and the GPUs of others."""
    if device.type == "cuda" and not torch.version.hip:
        return torch.cuda.get_device_capability(device)
    return OF_OTHERS


def check_fits(
    spec: TrainSpec,
    available: int,
    device: str = "cuda",
    processes: int = 1,
    beside: Beside = Beside(),
    bf16: bool = True,
) -> str:
    """A warning where the estimate is above `available` bytes by less than it may be wrong; "" where it is below.

    bf16: whether the device has it.

    Raises:
        DoesNotFit: the training needs clearly more; the message says which options would make it fit.
    """
    spec = same_memory(spec)
    needed = estimate(spec, device, processes, beside)
    about = f"this training needs {needed} and the device has {available / GB:.2f} GB"
    if needed.total <= available:
        return ""
    if needed.total <= MARGIN * available:
        return f"{about}: it may run out of memory"
    options = lighter(spec, processes, bf16)
    fitting = (text for text, other in options if estimate(other, device, processes, beside).total <= available)
    found = next(fitting, "")
    advice = f"it fits with {found}" if found else "no option makes it fit: take a larger device"
    raise DoesNotFit(f"{about}; {advice}")


def same_memory(spec: TrainSpec) -> TrainSpec:
    """One training for all that need the same memory, so that a sweep over the rest computes their estimate once."""
    return replace(spec, lr=1e-6, seed=0, horizon=spec.horizon and 1)
