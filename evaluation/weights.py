"""The weights of one checkpoint, while the ways of sampling it are scored one after another."""

import numpy as np

from evaluation.denoising import denoising_losses
from trainers.families.base import Components


class Weights:
    """On a device in one precision at a time; their losses are measured once."""

    def __init__(self, components: Components) -> None:
        """components: on the CPU in fp32."""
        self.components = components
        self._placed: dict[tuple[str, str], Components] = {}
        self._losses: tuple[np.ndarray, str, np.ndarray] | None = None  # photographs, prompt, their losses

    def on(self, device: str, precision: str) -> Components:
        if (device, precision) not in self._placed:
            self._placed.clear()
            self._placed[device, precision] = self.components.to(device, precision)
        return self._placed[device, precision]

    def losses(self, photographs: np.ndarray, prompt: str, device: str) -> np.ndarray:
        """The denoising losses of photographs, in fp32 whatever samples: [N, timesteps]."""
        if self._losses is None or prompt != self._losses[1] or not np.array_equal(photographs, self._losses[0]):
            self._losses = photographs, prompt, denoising_losses(self.on(device, "no"), photographs, prompt, device)
        return self._losses[2]
