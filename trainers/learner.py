"""The networks of one training: what the trainers have in common."""

import copy
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers.families import family_of
from trainers.precision import DTYPES
from trainers.spec import TrainSpec


class Learner(nn.Module, ABC):
    """Which weights learn, and how they are stored; a trainer is one concrete subclass.

    What learns is fp32, whatever the precision of the computation. `text_encoder` is None where its states are
    computed once (`Texts`), and frozen in part or whole where gradients are not promised.
    """

    def __init__(self, components: Any, spec: TrainSpec):
        super().__init__()
        self.components = components
        self.spec = spec
        self.family = family_of(spec.model)
        self.unet: nn.Module
        self.text_encoder: nn.Module | None
        self.text_learns = False
        self.text_stopped = False  # by trainer.text_encoder_stop_step

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer moves, in groups with a `lr` each."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """The learned weights, as `families.*.with_checkpoint` reads them."""

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Tensor, rows: Tensor) -> Tensor:
        """The prediction [N, C, h, w]. `text`: distinct prompts, as ids [U, L] or states [U, L, D]; `rows` [N] says
        which of them each sample has."""
        if self.text_encoder is not None:
            with torch.set_grad_enabled(self.text_learns and not self.text_stopped and torch.is_grad_enabled()):
                text = self.family.encode_text(self.text_encoder, text)
        return self.family.predict(self.unet, noisy, timesteps, text[rows])

    def learned(self) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def frozen(self, module: nn.Module, dtype: torch.dtype) -> nn.Module:
        """A copy that does not learn, in the precision of the computation."""
        return copy.deepcopy(module).to(dtype).requires_grad_(False).eval()

    def trainable(self, module: nn.Module) -> nn.Module:
        """A copy that learns. (The copy of a frozen module is frozen: thawing it is the point.)"""
        thawed = copy.deepcopy(module).float().requires_grad_(True).train()
        if self.spec.gradient_checkpointing:
            checkpoint_activations(thawed)
        return thawed

    def frozen_text_encoder(self) -> nn.Module | None:
        """None where its states are computed once."""
        if self.spec.trainer.cache_text:
            return None
        return self.frozen(self.components.text_encoder, DTYPES[self.spec.mixed_precision])

    def configure(self) -> None:
        """The options of speed, which change no result but its rounding."""
        if self.spec.trainer.channels_last:
            self.unet.to(memory_format=torch.channels_last)
        if self.spec.trainer.compile:
            # torch 2.13's layout optimization gave gradients of small adapters that were wrong, see docs/log.md;
            # channels_last does the same where it is wanted.
            self.unet.compile(options={"layout_optimization": False})


def checkpoint_activations(module: nn.Module) -> None:
    """Gradient checkpointing, by diffusers' name for it or by transformers'."""
    if hasattr(module, "enable_gradient_checkpointing"):
        module.enable_gradient_checkpointing()
    else:
        module.gradient_checkpointing_enable({"use_reentrant": False})


class Texts:
    """The prompts of a batch, each distinct one once: as ids where the text encoder is in the learner, else as states
    from the untuned text encoder, computed on first use."""

    def __init__(self, learner: Learner, device: torch.device):
        self.learner, self.device = learner, device
        self.known: dict[str, Tensor] = {}

    def __call__(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """(text [U, ...], rows [N]) for `Learner.forward`."""
        distinct = list(dict.fromkeys(prompts))
        for prompt in distinct:
            if prompt not in self.known:
                self.known[prompt] = self._of(prompt).to(self.device)
        rows = torch.tensor([distinct.index(prompt) for prompt in prompts], device=self.device)
        return torch.cat([self.known[prompt] for prompt in distinct]), rows

    @torch.no_grad()
    def _of(self, prompt: str) -> Tensor:
        family, components = self.learner.family, self.learner.components
        ids = family.tokenize(components, [prompt])
        return ids if self.learner.text_encoder is not None else family.encode_text(components.text_encoder, ids)
