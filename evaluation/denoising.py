"""The denoising loss on frozen images, noise and timesteps."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainers.batches import in_batches, sliced
from trainers.families import family_of
from trainers.families.base import Components
from trainers.sampling_memory import images_at_once
from trainers.spec import SampleSpec

TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the training timesteps
UNGUIDED = SampleSpec(guidance_scale=1.0)


@torch.inference_mode()
def denoising_losses(
    components: Components, pixels: np.ndarray, prompt: str, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Squared error of the prediction, mean over a latent: uint8 images [N, H, W, 3] -> [N, timesteps].

    The noise depends on the image's position and the timestep only, so checkpoints differ by their weights alone.
    On a GPU the photographs pass the autoencoder one by one, and the network as many at once as fit.
    """
    family = family_of(components.model)
    components = components.to(device)
    process = family.forward_process(components, device)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device) / 127.5 - 1
    parts = images.split(1 if sliced(device) else len(images))
    latents = torch.cat([family.encode_images(components.autoencoder, part)[0] for part in parts])
    text = family.condition(components, [prompt])
    most = images_at_once(components, UNGUIDED, device, len(latents))
    kind = "losses", str(device), components.model.family, components.model.resolution
    rows = []
    for index, fraction in enumerate(TIMESTEPS):
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(index)).to(device)

        def losses(batch: Sequence[int], fraction: float = fraction, noise: Tensor = noise) -> Tensor:
            chosen = slice(batch[0], batch[-1] + 1)
            timesteps = process.at(fraction, len(batch))
            noisy = process.noised(latents[chosen], noise[chosen], timesteps)
            repeated = text[torch.zeros(len(batch), dtype=torch.long)]
            predicted = family.predict(components.network, noisy, timesteps, repeated)
            target = process.target(latents[chosen], noise[chosen], timesteps)
            return (predicted - target).pow(2).flatten(1).mean(1)

        rows.append(torch.cat(list(in_batches(range(len(latents)), most, kind, losses))))
    return torch.stack(rows, dim=1).double().cpu().numpy()
