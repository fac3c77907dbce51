"""DreamBooth: the whole network learns, and the text encoders where asked (arXiv:2208.12242).

`ti_dreambooth` is the same from components that know learned tokens, which every checkpoint then holds too.
"""

from pathlib import Path
from typing import Any

from trainers.families.base import Components
from trainers.families.tokens import learned_tokens
from trainers.learner import Learner
from trainers.spec import TrainSpec


class Full(Learner):
    def __init__(self, components: Components, spec: TrainSpec):
        super().__init__(components, spec)
        self.hold_network(self.trainable(components.network))
        self.text_learns = spec.train_text_encoder
        if not spec.train_text_encoder:
            self.hold_frozen_encoders()
            return
        for name, encoder in components.encoders.items():
            if name in self.family.trainable_encoders:
                self.hold_encoder(name, self.trainable(encoder))
            else:
                self.hold_frozen_encoder(name)

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = [{"params": list(self.network.parameters()), "lr": self.spec.effective_lr}]
        if self.spec.train_text_encoder:
            weights = [weight for name in self._learning for weight in self.encoders[name].parameters()]
            groups.append({"params": weights, "lr": self.spec.effective_text_encoder_lr})
        return groups

    def write(self, folder: Path) -> None:
        network: Any = self.network
        network.save_pretrained(folder / self.components.network_name, safe_serialization=True)
        encoders = {name: self.components.parts[name] for name in self.family.trainable_encoders}
        for name in self._learning:
            encoder: Any = self.encoders[name]
            encoder.save_pretrained(folder / name, safe_serialization=True)
            encoders[name] = encoder
        self.family.save_tokens(folder, learned_tokens(self.components, encoders))

    @property
    def _learning(self) -> tuple[str, ...]:
        """The text encoders that learn, by name."""
        return self.family.trainable_encoders if self.spec.train_text_encoder else ()
