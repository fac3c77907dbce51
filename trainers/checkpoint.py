"""What a training leaves on disk: checkpoints to sample from, and the state to go on from. Layout: trainers/files.py.

A checkpoint is what was learned, as diffusers loads it, with `ema/` in it where there is a moving average. A training
that is asked for more steps goes on from its latest state.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainers.errors import TrainingDiverged
from trainers.families import family_of
from trainers.families.base import Components
from trainers.files import (
    checkpoint_folder,
    complete_folder,
    is_complete,
    loss_file,
    read_json,
    remove_states,
    saved_step,
    serves,
    state_folder,
    write_json,
)
from trainers.learner import Learner
from trainers.precision import DTYPES, FP32
from trainers.provenance import provenance
from trainers.spec import ModelSpec, TrainSpec

STATE = "state.pt"


@dataclass(frozen=True)
class Checkpoint:
    """The learned weights after `step` optimizer steps, in `folder`."""

    training: Path
    step: int
    model: ModelSpec
    untuned: Components | None = field(default=None, repr=False, compare=False)  # None: as the family loads them

    @property
    def folder(self) -> Path:
        return checkpoint_folder(self.training, self.step)

    @property
    def complete(self) -> bool:
        return is_complete(self.folder)

    def serves(self, precision: str) -> bool:
        return serves(self.folder, precision)

    def components(self, ema: bool = False, precision: str = FP32) -> Components:
        """The model with the learned weights, or with their moving average, on the CPU in fp32, ready to sample from.

        precision: what the weights are rounded to, which makes no difference where they are stored so.
        """
        family = family_of(self.model)
        untuned = self.untuned if self.untuned is not None else family.load(self.model)
        tuned = family.with_checkpoint(untuned, self.folder / "ema" if ema else self.folder)
        if precision != FP32:
            for name, part in tuned.parts.items():
                if part is not untuned.parts[name]:
                    part.to(DTYPES[precision]).float()  # in place: it was made for this checkpoint
        return tuned


@contextmanager
def rounded(learner: Learner, precision: str) -> Iterator[None]:
    """Holds what is learned in the host's memory, rounded to `precision`, to be written; puts it back afterwards."""
    if precision == FP32:
        yield
        return
    before = {weight: weight.data for weight in learner.learned().values()}
    try:
        for weight in before:
            weight.data = weight.data.to("cpu", DTYPES[precision])
        yield
    finally:
        for weight, data in before.items():
            weight.data = data


@dataclass
class TrainState:
    """Everything that changes while training. What the data and the noise are depends on `step` alone."""

    learner: Learner
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: GradScaler | None  # of fp16
    ema: EMAModel | None
    step: int = 0
    losses: list[float] = field(default_factory=list)
    unsaved: float = 0.0  # seconds of training since the last state
    unread: list[Tensor] = field(default_factory=list)  # [loss, gradient norm] of the latest steps, on the device

    def read_losses(self) -> None:
        """Brings `losses` up to this step, for which it waits for the device.

        Raises:
            TrainingDiverged: a loss is NaN or infinite, or the norm of its gradient is; names the first such step.
        """
        pairs = torch.stack(self.unread).tolist() if self.unread else []
        self.unread.clear()
        for loss, norm in pairs:
            self.losses.append(loss)
            if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler):  # the scaler skips such a step
                raise TrainingDiverged(len(self.losses), loss, norm, _settings(self.learner.spec))

    def save_checkpoint(self, checkpoint: Checkpoint, precision: str = FP32) -> None:
        """The weights as they are, or rounded to `precision`.

        Raises:
            TrainingDiverged: nothing is written then, here and in `save`.
        """
        self.read_losses()
        weights = list(self.learner.learned().values())
        made_by = provenance(str(weights[0].device))
        self._save_losses(checkpoint.training)
        manifest = {"step": self.step, "loss": self.losses[-1:], "provenance": made_by.to_json()}
        manifest |= {"precision": precision} if precision != FP32 else {}
        with complete_folder(checkpoint.folder, manifest) as folder:
            with rounded(self.learner, precision):
                self.learner.write(folder)
            if self.ema is not None:
                self.ema.store(weights)
                self.ema.copy_to(weights)
                with rounded(self.learner, precision):
                    self.learner.write(folder / "ema")
                self.ema.restore(weights)

    def save(self, training: Path) -> None:
        """Becomes the latest state, unless that is a later one already."""
        self.read_losses()
        self.unsaved = 0.0
        if saved_step(training) >= self.step:
            return
        self._save_losses(training)  # first: a complete state is enough to go on from
        manifest = {"step": self.step}
        with complete_folder(state_folder(training, self.step), manifest) as folder, open(folder / STATE, "wb") as file:
            torch.save(
                {
                    "weights": {name: weight.detach() for name, weight in self.learner.learned().items()},
                    "optimizer": self.optimizer.state_dict(),
                    "schedule": self.schedule.state_dict(),
                    "scaler": self.scaler.state_dict() if self.scaler else {},
                    "ema": self.ema.state_dict() if self.ema else {},
                    "step": self.step,
                    "losses": self.losses,
                },
                file,  # torch reports a full disk only for an open file
            )
        remove_states(training, but=self.step)  # last: at every moment there is a complete state

    def _save_losses(self, training: Path) -> None:
        """Unless those of more steps are there."""
        path = loss_file(training)
        if not path.exists() or len(read_json(path)["loss"]) < self.step:
            write_json(path, {"loss": self.losses})

    def load(self, training: Path) -> None:
        file = state_folder(training, saved_step(training)) / STATE
        # Read as it goes to a GPU, rather than as 10 GB of the machine's memory. On a CPU it would stay in use there
        # while training, and another machine may delete it.
        mapped = next(iter(self.learner.learned().values())).device.type != "cpu"
        saved = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
        with torch.no_grad():
            for name, weight in self.learner.learned().items():
                weight.copy_(saved["weights"][name])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        if self.scaler:
            self.scaler.load_state_dict(saved["scaler"])
        if self.ema:
            self.ema.load_state_dict(saved["ema"])
            self.ema.to(weight.device)
        self.step = saved["step"]
        self.losses = saved["losses"]


def _settings(spec: TrainSpec) -> str:
    """What makes a training diverge."""
    return f"trainer={spec.trainer.name} lr={spec.lr} mixed_precision={spec.mixed_precision} seed={spec.seed}"
