"""What is measured on: the card, and a model of full size with random weights."""

import multiprocessing
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers.spec import ModelSpec, SubjectSpec, TrainerSpec, TrainSpec

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
    def has_bf16(self) -> bool:
        return not self.gpu or torch.cuda.get_device_capability()[0] >= 8

    @property
    def half(self) -> str:
        """The precision to train with: bf16 where the card computes in it."""
        return "bf16" if self.has_bf16 else "fp16"

    def spec(self, batch_size: int = 1, **fields: Any) -> TrainSpec:
        """trainer: settings of the trainer, as a dictionary."""
        trainer = TrainerSpec(**fields.pop("trainer", {}))
        model = ModelSpec("benchmark", repo=self.repo, resolution=self.resolution)
        subject = SubjectSpec("benchmark", "dog", images=self.images)
        return TrainSpec(model, subject, trainer, lr=1e-6, batch_size=batch_size, **fields)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns: on a GPU in a process of its own, whose memory nothing else has touched."""
    if not torch.cuda.is_available():
        return function(*arguments)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()
