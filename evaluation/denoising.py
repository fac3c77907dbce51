"""The denoising loss on frozen images, noise and timesteps."""

import numpy as np
import torch

from trainers.families import family_of
from trainers.families.base import Components

TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the training timesteps


@torch.inference_mode()
def denoising_losses(
    components: Components, pixels: np.ndarray, prompt: str, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Squared error of the prediction, mean over a latent: uint8 images [N, H, W, 3] -> [N, timesteps].

    The noise depends on the image's position and the timestep only, so checkpoints differ by their weights alone.
    """
    family = family_of(components.model)
    components = components.to(device)
    process = family.forward_process(components, device)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device) / 127.5 - 1
    latents, _ = family.encode_images(components.autoencoder, images)
    text = family.condition(components, [prompt])[torch.zeros(len(latents), dtype=torch.long)]
    rows = []
    for index, fraction in enumerate(TIMESTEPS):
        timesteps = process.at(fraction, len(latents))
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(index)).to(device)
        noisy = process.noised(latents, noise, timesteps)
        predicted = family.predict(components.network, noisy, timesteps, text)
        target = process.target(latents, noise, timesteps)
        rows.append((predicted - target).pow(2).flatten(1).mean(1))
    return torch.stack(rows, dim=1).double().cpu().numpy()
