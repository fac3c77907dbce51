"""What is measured on: the card, and a model of full size with random weights."""

import gc
import multiprocessing
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers.memory import capability
from trainers.spec import ModelSpec, SubjectSpec, TrainerSpec, TrainSpec
from trainers.validate import AMPERE

GB = 1024**3


@dataclass(frozen=True)
class Setup:
    repo: str  # a diffusers folder
    images: str  # a folder of photographs, which serve as class images too
    resolution: int  # pixels
    folder: Path  # for what is written on the way
    steps: int  # optimizer steps that are timed

    @property
    def gpu(self) -> bool:
        return torch.cuda.is_available()

    @property
    def device(self) -> str:
        return "cuda" if self.gpu else "cpu"

    @property
    def card(self) -> str:
        return torch.cuda.get_device_name() if self.gpu else f"no GPU ({platform.machine()})"

    @property
    def memory(self) -> int:
        """Bytes of the card."""
        return int(torch.cuda.get_device_properties(0).total_memory)

    @property
    def capability(self) -> tuple[int, int]:
        return capability(torch.device(self.device))

    @property
    def has_bf16(self) -> bool:
        return self.capability >= AMPERE

    @property
    def half(self) -> str:
        """The precision to train with: bf16 where the card computes in it."""
        return "bf16" if self.has_bf16 else "fp16"

    def samples_in(self, precision: str) -> bool:
        """Whether the device has arithmetic for it."""
        return {"no": True, "fp16": self.gpu, "bf16": self.has_bf16}[precision]

    @property
    def lower(self) -> str:
        """What models ask for by default: fp16, which a CPU does not compute in."""
        return "fp16" if self.gpu else "bf16"

    def spec(self, batch_size: int = 1, **fields: Any) -> TrainSpec:
        """trainer: settings of the trainer, as a dictionary."""
        trainer = TrainerSpec(**fields.pop("trainer", {}))
        model = ModelSpec("benchmark", repo=self.repo, resolution=self.resolution)
        subject = SubjectSpec("benchmark", "dog", images=self.images)
        return TrainSpec(model, subject, trainer, lr=1e-6, batch_size=batch_size, **fields)


@contextmanager
def one_process() -> Iterator[Callable[..., Any]]:
    """Yields what calls a function with arguments: on a GPU in one other process, which has no memory of the card when
    a call begins. To start one takes seconds."""
    if not torch.cuda.is_available():
        yield _called
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        yield lambda *call: pool.submit(_called, *call).result()


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    gc.collect()  # what ran out of memory before
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return function(*arguments)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns, in a process that nothing else has used."""
    with one_process() as run:
        return run(function, *arguments)
