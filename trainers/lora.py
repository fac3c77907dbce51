"""DreamBooth with low-rank adapters on the attention projections (LoRA, arXiv:2106.09685)."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn

from trainers.errors import SpecError
from trainers.learner import Learner, checkpoint_activations
from trainers.precision import DTYPES
from trainers.spec import TrainSpec


class Lora(Learner):
    def __init__(self, components: Any, spec: TrainSpec):
        super().__init__(components, spec)
        self.text_learns = spec.train_text_encoder
        self.unet = self._adapted(components.unet, spec.trainer.lora_targets)
        if spec.train_text_encoder:
            self.text_encoder = self._adapted(components.text_encoder, spec.trainer.lora_text_targets)
        else:
            self.text_encoder = self.frozen_text_encoder()

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = [{"params": _learning(self.unet), "lr": self.spec.effective_lr}]
        if self.spec.train_text_encoder:
            groups.append({"params": _learning(self.text_encoder), "lr": self.spec.effective_text_encoder_lr})
        return groups

    def write(self, folder: Path) -> None:
        text_encoder = self.text_encoder if self.spec.train_text_encoder else None
        self.family.save_lora(folder, self.unet, text_encoder)

    def _adapted(self, module: nn.Module, targets: tuple[str, ...]) -> nn.Module:
        """A frozen copy in the precision of the computation, with adapters in fp32 that learn."""
        trainer = self.spec.trainer
        config = LoraConfig(
            r=trainer.lora_rank,
            lora_alpha=trainer.lora_rank if trainer.lora_alpha is None else trainer.lora_alpha,
            target_modules=list(targets),
            init_lora_weights="gaussian",
        )
        adapted = self.frozen(module, DTYPES[self.spec.mixed_precision])
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
        return adapted.train()


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.requires_grad]
