"""Gaussian diffusion in discrete timesteps, for every family whose network predicts the noise or v (DDPM's process)."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from trainers.errors import SpecError
from trainers.families.base import Device, ForwardProcess
from trainers.loss import min_snr_weights


class Diffusion(ForwardProcess):
    def __init__(self, scheduler_config: Mapping[str, Any], device: Device = "cpu"):
        known = {name: value for name, value in scheduler_config.items() if not name.startswith("_")}
        self.scheduler = DDPMScheduler.from_config(known)
        self.alphas_cumprod: Tensor = self.scheduler.alphas_cumprod.to(device)
        self.scheduler.alphas_cumprod = self.alphas_cumprod
        self.prediction: str = self.scheduler.config.prediction_type
        if self.prediction not in ("epsilon", "v_prediction"):
            raise SpecError(f"prediction_type={self.prediction} is unknown; epsilon or v_prediction")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform over the training timesteps."""
        return torch.randint(0, len(self.alphas_cumprod), (count,), generator=generator)

    def at(self, fraction: float, count: int) -> Tensor:
        return torch.full((count,), int(fraction * len(self.alphas_cumprod)), device=self.alphas_cumprod.device)

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        noised: Tensor = self.scheduler.add_noise(latents, noise, timesteps)
        return noised

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            return noise
        velocity: Tensor = self.scheduler.get_velocity(latents, noise, timesteps)
        return velocity

    def weights(self, timesteps: Tensor, min_snr_gamma: float | None) -> Tensor | None:
        """Min-SNR weights (arXiv:2303.09556), where a gamma is given."""
        if min_snr_gamma is None:
            return None
        return min_snr_weights(self.snr(timesteps), min_snr_gamma, self.prediction)

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio [N]: alpha_bar / (1 - alpha_bar)."""
        alpha_bar = self.alphas_cumprod[timesteps]
        return alpha_bar / (1 - alpha_bar)
