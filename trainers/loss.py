"""The denoising loss, per sample; how instance and class images make one number."""

import torch
from torch import Tensor


def denoising_losses(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each sample, [N], in fp32 (DDPM's simple loss, arXiv:2006.11239)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def min_snr_weights(snr: Tensor, gamma: float, prediction: str) -> Tensor:
    """min(SNR, gamma) / SNR for noise prediction, min(SNR, gamma) / (SNR + 1) for v (arXiv:2303.09556). [N] -> [N]."""
    return snr.clamp(max=gamma) / (snr if prediction == "epsilon" else snr + 1)


def total(losses: Tensor, instances: int, prior_weight: float) -> Tensor:
    """Scalar: the mean over the first `instances` losses, plus `prior_weight` times the mean over the rest, the class
    images (prior preservation, arXiv:2208.12242); without class images the plain mean."""
    instance = losses[:instances].mean()
    if len(losses) == instances:
        return instance
    return instance + prior_weight * losses[instances:].mean()


def offset_noise(noise: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """`noise` [N, C, h, w] with a constant of its own added to every channel, so that brightness can be learned."""
    return noise + strength * torch.randn(*noise.shape[:2], 1, 1, generator=generator)
