"""DreamBooth with low-rank adapters on the attention projections (LoRA, arXiv:2106.09685)."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn

from trainers.errors import SpecError
from trainers.families.base import Components
from trainers.learner import Learner, checkpoint_activations
from trainers.precision import DTYPES
from trainers.spec import TrainSpec


class Lora(Learner):
    def __init__(self, components: Components, spec: TrainSpec):
        super().__init__(components, spec)
        self.text_learns = spec.train_text_encoder
        self.hold_network(self._adapted(components.network, spec.trainer.lora_targets))
        if not spec.train_text_encoder:
            self.hold_frozen_encoders()
            return
        for name, encoder in components.encoders.items():
            if name in self.family.trainable_encoders:
                self.hold_encoder(name, self._adapted(encoder, spec.trainer.lora_text_targets))
            else:
                self.hold_frozen_encoder(name)

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = [{"params": _learning(self.network), "lr": self.spec.effective_lr}]
        if self.spec.train_text_encoder:
            weights = [weight for encoder in self._adapted_encoders.values() for weight in _learning(encoder)]
            groups.append({"params": weights, "lr": self.spec.effective_text_encoder_lr})
        return groups

    def write(self, folder: Path) -> None:
        self.family.save_lora(folder, self.network, self._adapted_encoders)

    @property
    def _adapted_encoders(self) -> dict[str, nn.Module]:
        names = self.family.trainable_encoders if self.spec.train_text_encoder else ()
        return {name: self.encoders[name] for name in names}

    def _adapted(self, module: nn.Module, targets: tuple[str, ...]) -> nn.Module:
        """A frozen copy in the precision of the computation, with adapters in fp32 that learn."""
        trainer = self.spec.trainer
        alpha: Any = trainer.lora_rank if trainer.lora_alpha is None else trainer.lora_alpha  # peft types an int
        config = LoraConfig(
            r=trainer.lora_rank,
            lora_alpha=alpha,
            target_modules=list(targets),
            init_lora_weights="gaussian",
        )
        adapted: Any = self.frozen(module, DTYPES[self.spec.mixed_precision])
        with torch.random.fork_rng(devices=[]):  # peft draws the adapters from the global generator
            torch.manual_seed(self.spec.seed)
            try:
                adapted.add_adapter(config)
            except ValueError as error:
                name = type(module).__name__
                raise SpecError(f"LoRA targets {', '.join(targets)}: no layer of {name} is called so") from error
        for weight in _learning(adapted):
            weight.data = weight.data.float()
        if self.spec.gradient_checkpointing:
            checkpoint_activations(adapted)
        network: nn.Module = adapted.train()
        return network


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.requires_grad]
