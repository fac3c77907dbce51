"""The networks of one training: what the trainers have in common."""

import copy
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PretrainedConfig

from trainers.device import moved
from trainers.families import family_of
from trainers.families.base import Components, Conditioning
from trainers.precision import DTYPES
from trainers.spec import TrainSpec


class Learner(nn.Module, ABC):
    """Which weights learn, and how they are stored; a trainer is one concrete subclass.

    What learns is fp32, whatever the precision of the computation. Networks are held under their names in the pipeline,
    which begin the names of their weights in a training state. The text encoders are held only where they are needed in
    every step, and frozen in part or entirely where gradients are not promised.
    """

    def __init__(self, components: Components, spec: TrainSpec):
        super().__init__()
        self.components = components
        self.spec = spec
        self.family = family_of(spec.model)
        self.held_encoders: tuple[str, ...] = ()  # by name; none where texts are encoded once (`ConditioningCache`)
        self.text_learns = False
        self.text_stopped = False  # by trainer.text_encoder_stop_step

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer moves, in groups with a `lr` each."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """The learned weights, as `Family.with_checkpoint` reads them."""

    @property
    def network(self) -> nn.Module:
        return self.get_submodule(self.components.network_name)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The text encoders that are held, by name."""
        return {name: self.get_submodule(name) for name in self.held_encoders}

    def hold_network(self, network: nn.Module) -> None:
        self.add_module(self.components.network_name, network)

    def hold_encoder(self, name: str, encoder: nn.Module) -> None:
        self.add_module(name, encoder)
        self.held_encoders += (name,)

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Conditioning, rows: Tensor) -> Tensor:
        """The prediction, shaped as `noisy` [N, ...]. `text`: distinct prompts, tokenized where the text encoders are
        held, else encoded; `rows` [N] says which of them each sample has."""
        if self.held_encoders:
            with torch.set_grad_enabled(self.text_learns and not self.text_stopped and torch.is_grad_enabled()):
                text = self.family.encode_text(self.encoders, text)
        return self.family.predict(self.network, noisy, timesteps, text[rows])

    def learned(self) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def frozen(self, module: nn.Module, dtype: torch.dtype) -> nn.Module:
        """A copy that does not learn, in the precision of the computation."""
        return copy.deepcopy(module).to(dtype).requires_grad_(False).eval()

    def trainable(self, module: nn.Module) -> nn.Module:
        """A copy that learns. (The copy of a frozen module is frozen: it must be thawed.)"""
        thawed = copy.deepcopy(module).float().requires_grad_(True).train()
        if self.spec.gradient_checkpointing:
            checkpoint_activations(thawed)
        return thawed

    def hold_frozen_encoder(self, name: str) -> None:
        self.hold_encoder(name, self.frozen(self.components.parts[name], DTYPES[self.spec.mixed_precision]))

    def hold_frozen_encoders(self) -> None:
        """All of them, unless texts are encoded once."""
        if not self.spec.trainer.cache_text:
            for name in self.components.encoders:
                self.hold_frozen_encoder(name)

    def configure(self) -> None:
        """The options of speed, which change no result but its rounding."""
        if self.spec.trainer.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.spec.trainer.compile:
            # torch 2.13's layout optimization gave small adapters wrong gradients: see docs/log.md, "torch.compile gave
            # wrong gradients for LoRA". channels_last does the same where it is wanted.
            self.network.compile(options={"layout_optimization": False})


def checkpoint_activations(module: Any) -> None:
    """Gradient checkpointing, by diffusers' name for it or by transformers'."""
    if hasattr(module, "enable_gradient_checkpointing"):
        module.enable_gradient_checkpointing()
    else:
        module.gradient_checkpointing_enable({"use_reentrant": False})


def has_dropout(learner: nn.Module) -> bool:
    """Whether anything in it drops values: layers say so themselves, transformers' attention in its configuration."""
    return any(_drops(module) for module in learner.modules())


def _drops(module: Any) -> bool:
    if isinstance(module, _DropoutNd):
        return module.p > 0
    config = getattr(module, "config", None)
    configured = config.to_dict() if isinstance(config, PretrainedConfig) else {}
    return any(value for name, value in configured.items() if "dropout" in name)


class ConditioningCache:
    """The prompts of a batch, each distinct one once: tokenized where the text encoders are in the learner, else as the
    untuned text encoders encode them. Each prompt is processed on first use."""

    def __init__(self, learner: Learner, device: torch.device):
        self.learner = learner
        self.device = device
        self.known: dict[str, Conditioning] = {}

    def __call__(self, prompts: list[str]) -> tuple[Conditioning, Tensor]:
        """(text with U rows, rows [N]) for `Learner.forward`."""
        distinct = list(dict.fromkeys(prompts))
        for prompt in distinct:
            if prompt not in self.known:
                self.known[prompt] = self._of(prompt).to(self.device)
        rows = moved(torch.tensor([distinct.index(prompt) for prompt in prompts]), self.device)
        return Conditioning.cat([self.known[prompt] for prompt in distinct]), rows

    @torch.no_grad()
    def _of(self, prompt: str) -> Conditioning:
        family = self.learner.family
        components = self.learner.components
        if self.learner.held_encoders:
            return family.tokenize(components, [prompt])
        return family.condition(components, [prompt])
