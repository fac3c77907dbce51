"""Optimizers and learning-rate schedules, all from libraries, by the names that are typed."""

from typing import Any

import torch
from diffusers.optimization import get_scheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainers.spec import TrainSpec


def make_optimizer(spec: TrainSpec, groups: list[dict[str, Any]]) -> Optimizer:
    """The optimizer over parameter groups, each with its own `lr`. The default rate, which the polynomial schedule
    starts from, is that of the network."""
    trainer = spec.trainer
    name = "adamw8bit" if spec.use_8bit_adam else trainer.optimizer
    lr = spec.effective_lr
    decay = trainer.weight_decay
    eps = trainer.adam_epsilon
    betas = (trainer.adam_beta1, trainer.adam_beta2)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=betas, weight_decay=decay, eps=eps, fused=True)
    if name == "adamw8bit":
        from bitsandbytes.optim.adamw import AdamW8bit

        return AdamW8bit(groups, lr=lr, betas=betas, weight_decay=decay, eps=eps)
    if name == "prodigy":
        from prodigyopt import Prodigy

        prodigy: Optimizer = Prodigy(groups, lr=lr, betas=betas, weight_decay=decay, eps=eps)
        return prodigy
    from transformers.optimization import Adafactor

    return Adafactor(groups, lr=lr, weight_decay=decay, scale_parameter=False, relative_step=False, warmup_init=False)


def make_schedule(spec: TrainSpec, optimizer: Optimizer) -> LRScheduler:
    """Counted in optimizer steps, whatever the accumulation and the number of processes."""
    trainer = spec.trainer
    schedule: LRScheduler = get_scheduler(
        trainer.lr_schedule,
        optimizer,
        num_warmup_steps=trainer.lr_warmup_steps,
        num_training_steps=spec.horizon,
        num_cycles=trainer.lr_cycles,
        power=trainer.lr_power,
    )
    return schedule
