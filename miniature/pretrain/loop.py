"""The training loop of all parts: seeded step by step, averaged, checkpointed, resumable."""

import copy
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from miniature.pretrain.muon import make_optimizers

SECONDS_BETWEEN_CHECKPOINTS = 120

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)
LossOf = Callable[[ModuleT, np.random.Generator], tuple[Tensor, dict[str, str]]]
"""(module, random generator of the step) -> (scalar loss, figures for the progress bar)."""
Schedule = Callable[[float], float]
"""Progress (0..1) of the training -> learning rate as a share of its peak."""


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_device(module: ModuleT) -> ModuleT:
    """`module`, moved to the GPU if there is one."""
    return module.to(default_device())


def cosine(progress: float) -> float:
    """From 1 down to 0.02 along half a cosine."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def trapezoid(progress: float, fall: float = 0.25) -> float:
    """1, then straight down to 0.01 over the last `fall` of the training.

    A training can be made longer from any checkpoint before the fall, since up to there its length does not matter.
    """
    return min(1.0, max(0.01, (1 - progress) / fall))


def learning_rate(step: int, total: int, peak: float, schedule: Schedule, warmup: int = 100) -> float:
    """The learning rate of step `step` (from 0) of `total`; it grows linearly over the first `warmup` steps."""
    return peak * min(1.0, (step + 1) / warmup) * schedule(step / total)


def fit(
    name: str,
    module: ModuleT,
    loss_of: LossOf[ModuleT],
    *,
    steps: int,
    lr: float,
    folder: Path,
    seed: int = 0,
    ema: float = 0.998,
    schedule: Schedule = cosine,
) -> ModuleT:
    """Train `module` for `steps` steps and return the exponential moving average of its weights, in eval mode.

    The state is kept in `folder`/`name`.pt. NumPy's generator and torch's are seeded anew from (seed, step) for every
    step, so a resumed training gives what an uninterrupted one does.
    """
    path = folder / f"{name}.pt"
    module.train()
    average = copy.deepcopy(module).eval().requires_grad_(False)
    optimizers = make_optimizers(module, lr)
    start = restore(path, module, average, optimizers)
    saved = time.monotonic()
    with tqdm(total=steps, initial=start, desc=name, mininterval=10) as progress:
        for step in range(start, steps):
            torch.manual_seed(seed * 1_000_003 + step)
            loss, shown = loss_of(module, np.random.default_rng((seed, step)))
            take_step(module, optimizers, loss, learning_rate(step, steps, lr, schedule))
            update_average(average, module, min(ema, (1 + step) / (10 + step)))
            progress.set_postfix(shown, refresh=False)
            progress.update()
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS or step + 1 == steps:
                save(path, step + 1, module, average, optimizers)
                saved = time.monotonic()
    return average


def take_step(module: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], loss: Tensor, lr: float) -> None:
    """One update of the weights, with gradients clipped to norm 1."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()


@torch.no_grad()
def update_average(average: torch.nn.Module, module: torch.nn.Module, decay: float) -> None:
    """Move the averaged weights towards the module's; buffers are copied."""
    for averaged, new in zip(average.parameters(), module.parameters(), strict=True):
        averaged.lerp_(new, 1 - decay)
    for buffer, new_buffer in zip(average.buffers(), module.buffers(), strict=True):
        buffer.copy_(new_buffer)


def save(
    path: Path,
    step: int,
    module: torch.nn.Module,
    average: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Keep the state after `step` steps; a kill while it is written leaves the previous one."""
    state = {
        "step": step,
        "module": module.state_dict(),
        "average": average.state_dict(),
        # This key is in the states that the shipped weights were exported from.
        "solvers": [optimizer.state_dict() for optimizer in optimizers],
    }
    aside = path.with_suffix(".aside")
    torch.save(state, aside)
    os.replace(aside, path)


def restore(
    path: Path, module: torch.nn.Module, average: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> int:
    """Load what `save` kept; returns the number of steps already done, 0 if nothing was kept."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=next(module.parameters()).device, weights_only=True)
    module.load_state_dict(state["module"])
    average.load_state_dict(state["average"])
    for optimizer, saved in zip(optimizers, state["solvers"], strict=True):
        optimizer.load_state_dict(saved)
    step: int = state["step"]
    return step
