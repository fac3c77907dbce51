"""How much memory a training needs, known before it starts.

One step's forward and backward pass is run on tensors that have shapes but no data, and what is alive at once is
counted; the states of the optimizer are added from what is known of it. Takes seconds, and no weights.
"""

import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import psutil
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.errors import SpecError
from trainers.families import family_of
from trainers.learner import Learner
from trainers.loop import LEARNERS
from trainers.loss import denoising_losses
from trainers.precision import DTYPES
from trainers.spec import TrainSpec
from trainers.textual_inversion import TEMPLATES
from trainers.validate import complaints

GB = 1024**3
# Measured on a CPU as what is above the tensors of the miniature, whatever the options; on a GPU assumed: the context.
LIBRARIES = {"cpu": 40 * 1024**2, "cuda": 600 * 1024**2}
# On a CPU, holes in the heap: what is allocated and freed in a step, layer by layer where activations are not kept,
# leaves about half as much again: docs/log.md, "Memory estimate: holes in the heap". Large tensors are kept apart.
HOLES, MOST_HOLES = 0.5, 64 * 1024**2
# Of `torch.compile` while it compiles and its cache is empty, for each operation of a step: 14 to 19 KB on nine
# combinations of the miniature: docs/log.md, "Memory estimate: the compiler". With a GPU it is the processor's memory.
COMPILER = {"cpu": 16 * 1024, "cuda": 0}
# Bytes of optimizer state for each weight that learns: two moments in fp32; in 8 bits; two moments, the start and the
# sum of gradients; Adafactor keeps a row and a column.
STATE_BYTES = {"adamw": 8, "adamw8bit": 2.05, "prodigy": 16, "adafactor": 0.1}
MARGIN = 1.15  # the estimate is held to be within 15 % of what is needed


@dataclass(frozen=True)
class Memory:
    """Bytes on the device."""

    weights: int  # what learns and what is frozen beside it
    state: int  # of the optimizer, and the moving average
    step: int  # gradients, activations, copies in half precision: the most that is alive at once
    libraries: int  # what is not tensors: of the libraries, of the compiler, and holes in the heap

    @property
    def tensors(self) -> int:
        return self.weights + self.state + self.step

    @property
    def total(self) -> int:
        return self.tensors + self.libraries

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {getattr(self, name) / GB:.2f}" for name in ("weights", "state", "step", "libraries")
        )
        return f"{self.total / GB:.2f} GB ({parts})"


@lru_cache(maxsize=64)
def estimate(spec: TrainSpec, device: str = "cpu", processes: int = 1) -> Memory:
    """What one process of a training needs on its device, beyond what importing torch takes.

    On a CPU the untuned weights stay in the same memory, which counts.
    """
    with torch.device("meta"):
        components = family_of(spec.model).blank(spec.model)
        learner = LEARNERS[spec.trainer.name](components, spec)
    step, operations = _step(learner, spec, processes)
    learned = sum(weight.numel() for weight in learner.learned().values())
    optimizer = "adamw8bit" if spec.use_8bit_adam else spec.trainer.optimizer
    state = STATE_BYTES[optimizer] + (4 if spec.trainer.ema_decay else 0)
    beside = components.parts.values() if device == "cpu" else [components.autoencoder]
    weights = _bytes(learner) + sum(_bytes(part) for part in beside)
    libraries = LIBRARIES[device] + (COMPILER[device] * operations if spec.trainer.compile else 0)
    if device == "cpu":
        kept = replace(spec, gradient_checkpointing=False)
        freed = step if kept == spec else estimate(kept, device, processes).step
        libraries += min(int(HOLES * freed), MOST_HOLES)
    return Memory(weights, int(learned * state), step, libraries)


def _bytes(module: nn.Module) -> int:
    return sum(w.numel() * w.element_size() for w in module.parameters())


def _step(learner: Learner, spec: TrainSpec, processes: int) -> tuple[int, int]:
    """The most bytes alive in a step, and the operations of one forward and backward pass."""
    family, components = learner.family, learner.components
    size = spec.per_process(processes) * (2 if spec.prior else 1)
    prompts = 2 if spec.prior else 1
    if spec.trainer.name == "textual_inversion":
        prompts = min(size, len(TEMPLATES[spec.trainer.templates]))
    process = family.forward_process(components)
    with FakeTensorMode():
        _without_data(learner)
        noisy = torch.empty(size, *family.latent_shape(components, spec.model.resolution))
        rows = torch.empty(size, dtype=torch.long)
        timesteps = process.at(0.5, size)
        text = family.blank_text(components, prompts, encoded=not learner.held_encoders)
        passes = min(2, spec.gradient_accumulation_steps)  # in the second there are gradients already
        with LiveBytes() as live:
            for _ in range(passes):
                with torch.autocast("cpu", DTYPES[spec.mixed_precision], enabled=spec.mixed_precision != "no"):
                    prediction = learner(noisy, timesteps, text, rows)
                denoising_losses(prediction, noisy).mean().backward()
                del prediction
    return live.peak, live.operations // passes


def _without_data(learner: Learner) -> None:
    """Puts tensors of the current mode in place of the learner's weights, shared ones shared."""
    made: dict[int, nn.Parameter] = {}
    for module in learner.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                blank = nn.Parameter(torch.empty(weight.shape, dtype=weight.dtype), requires_grad=weight.requires_grad)
                module._parameters[name] = made.setdefault(id(weight), blank)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of what is allocated inside it and alive at once (`peak` is the most), and the operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.now = self.peak = self.operations = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operations += 1
        result = function(*args, **(kwargs or {}))
        known = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and id(tensor.untyped_storage()) not in known:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


def capacity(device: torch.device) -> int:
    """Bytes that this process can have on `device`: all of a GPU; of the machine's memory as much as of its cores."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    cores = max(1, len(os.sched_getaffinity(0)))
    return int(psutil.virtual_memory().total) * min(torch.get_num_threads(), cores) // cores


def check_fits(spec: TrainSpec, available: int, device: str = "cuda", processes: int = 1) -> str:
    """A warning where the estimate is above `available` bytes by less than it may be wrong; "" where it is below.

    Raises:
        SpecError: the training needs clearly more; the message says which options would make it fit.
    """
    spec = replace(spec, lr=1e-6, seed=0)  # neither changes the memory, so a sweep over them computes this once
    needed = estimate(spec, device, processes)
    about = f"this training needs {needed} and the device has {available / GB:.2f} GB"
    if needed.total <= available:
        return ""
    if needed.total <= MARGIN * available:
        return f"{about}: it may run out of memory"
    options = lighter(spec, processes)
    fitting = next((text for text, other in options if estimate(other, device, processes).total <= available), "")
    advice = f"it fits with {fitting}" if fitting else "no option makes it fit: take a larger device"
    raise SpecError(f"{about}; {advice}")


def lighter(spec: TrainSpec, processes: int = 1) -> Iterator[tuple[str, TrainSpec]]:
    """Ways to need less memory, each on top of the ones before, as they would be typed."""
    typed: list[str] = []
    steps = spec.batch_size * spec.gradient_accumulation_steps // processes
    options = (
        ("gradient_checkpointing=true", {"gradient_checkpointing": True}),
        ("use_8bit_adam=true", {"use_8bit_adam": True}),
        ("mixed_precision=bf16", {"mixed_precision": "bf16" if spec.mixed_precision == "no" else spec.mixed_precision}),
        (
            f"batch_size={processes} gradient_accumulation_steps={steps}",
            {"batch_size": processes, "gradient_accumulation_steps": steps},
        ),
        ("trainer=dreambooth_lora", {"trainer": replace(spec.trainer, name="dreambooth_lora")}),
    )
    for text, change in options:
        changed = replace(spec, **change)
        if changed != spec and not any(complaints(changed)):
            spec = changed
            typed.append(text)
            yield " ".join(typed), spec
