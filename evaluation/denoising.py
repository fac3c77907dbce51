"""The denoising loss on frozen images, noise and timesteps."""

import numpy as np
import torch

from trainers.families import family_of

TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the training timesteps


@torch.inference_mode()
def denoising_losses(components, pixels: np.ndarray, prompt: str, device: torch.device | str = "cpu") -> np.ndarray:
    """Squared error of the prediction, mean over a latent: uint8 images [N, H, W, 3] -> [N, timesteps].

    The noise depends on the image's position and the timestep only, so checkpoints differ by their weights alone.
    """
    family, components = family_of(components.model), components.to(device)
    noising = family.Noising(components, device)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device) / 127.5 - 1
    latents, _ = family.encode_images(components.vae, images)
    states = family.encode_text(components.text_encoder, family.tokenize(components, [prompt]).to(device))
    rows = []
    for index, fraction in enumerate(TIMESTEPS):
        steps = torch.full((len(latents),), int(fraction * len(noising.alphas_cumprod)), device=device)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(index)).to(device)
        noisy, target = noising.noised(latents, noise, steps), noising.target(latents, noise, steps)
        predicted = family.predict(components.unet, noisy, steps, states.expand(len(latents), -1, -1))
        rows.append((predicted - target).pow(2).mean((1, 2, 3)))
    return torch.stack(rows, dim=1).double().cpu().numpy()
