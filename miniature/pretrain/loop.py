"""The one training loop of all parts: seeded by step, averaged, checkpointed, resumable."""

import copy
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from miniature.pretrain.muon import make_optimizers

SECONDS_BETWEEN_CHECKPOINTS = 120


def device():
    """The accelerator at hand, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cosine(progress):
    """The learning rate's share of its peak after `progress` (0..1) of the steps; by step, never by the clock."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def trapezoid(progress, fall=0.25):
    """Constant, then straight down over the last `fall` of the steps: what precedes the fall serves any horizon."""
    return min(1.0, max(0.01, (1 - progress) / fall))


def learning_rate(step, total, peak, schedule, warmup=100):
    return peak * min(1.0, (step + 1) / warmup) * schedule(step / total)


def fit(name, module, loss_of, *, steps, lr, folder, seed=0, ema=0.998, schedule=cosine):
    """Train `module` for `steps` steps and return its exponential moving average, in eval mode.

    `loss_of(module, rng, step)` returns (scalar loss, dict of numbers to show); `rng` is a NumPy generator of (seed,
    step) alone, so a resumed training sees what an uninterrupted one would. State is kept in `folder`/`name`.pt.
    """
    path = Path(folder) / f"{name}.pt"
    module.train()
    average = copy.deepcopy(module).eval().requires_grad_(False)
    optimizers = make_optimizers(module, lr)
    start = restore(path, module, average, optimizers)
    saved = time.monotonic()
    with tqdm(total=steps, initial=start, desc=name, mininterval=10) as progress:
        for step in range(start, steps):
            torch.manual_seed(seed * 1_000_003 + step)
            loss, shown = loss_of(module, np.random.default_rng((seed, step)), step)
            take_step(module, optimizers, loss, learning_rate(step, steps, lr, schedule))
            update_average(average, module, min(ema, (1 + step) / (10 + step)))
            progress.set_postfix(shown, refresh=False)
            progress.update()
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS or step + 1 == steps:
                save(path, step + 1, module, average, optimizers)
                saved = time.monotonic()
    return average


def take_step(module, optimizers, loss, lr):
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()


@torch.no_grad()
def update_average(average, module, decay):
    """Move the moving average towards the module; buffers are copied."""
    for kept, new in zip(average.parameters(), module.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for kept, new in zip(average.buffers(), module.buffers(), strict=True):
        kept.copy_(new)


def save(path, step, module, average, optimizers):
    state = {"step": step, "module": module.state_dict(), "average": average.state_dict()}
    state["solvers"] = [optimizer.state_dict() for optimizer in optimizers]
    aside = path.with_suffix(".aside")
    torch.save(state, aside)
    os.replace(aside, path)


def restore(path, module, average, optimizers):
    """Load what `save` wrote, if anything; returns the step to go on from."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=next(module.parameters()).device, weights_only=True)
    module.load_state_dict(state["module"])
    average.load_state_dict(state["average"])
    for optimizer, saved in zip(optimizers, state["solvers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"]
