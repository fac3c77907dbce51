"""DreamBooth: the whole U-Net learns, and the text encoder where asked (arXiv:2208.12242).

`ti_dreambooth` is the same from components that know learned tokens, which every checkpoint then holds too.
"""

from pathlib import Path
from typing import Any

from trainers.families.tokens import learned_tokens, save_tokens
from trainers.learner import Learner
from trainers.spec import TrainSpec


class Full(Learner):
    def __init__(self, components: Any, spec: TrainSpec):
        super().__init__(components, spec)
        self.unet = self.trainable(components.unet)
        self.text_learns = spec.train_text_encoder
        if spec.train_text_encoder:
            self.text_encoder = self.trainable(components.text_encoder)
        else:
            self.text_encoder = self.frozen_text_encoder()

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = [{"params": list(self.unet.parameters()), "lr": self.spec.effective_lr}]
        if self.spec.train_text_encoder:
            lr = self.spec.effective_text_encoder_lr
            groups.append({"params": list(self.text_encoder.parameters()), "lr": lr})
        return groups

    def write(self, folder: Path) -> None:
        self.unet.save_pretrained(folder / "unet", safe_serialization=True)
        if self.spec.train_text_encoder:
            self.text_encoder.save_pretrained(folder / "text_encoder", safe_serialization=True)
        text_encoder = self.text_encoder if self.spec.train_text_encoder else self.components.text_encoder
        save_tokens(folder, learned_tokens(self.components, text_encoder))
