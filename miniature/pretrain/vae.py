"""The autoencoder: 64 x 64 pixels to 16 x 16 latents with 8 channels of unit scale."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from miniature.pretrain.data import Images, to_tensor
from miniature.pretrain.loop import default_device, fit, on_device


def build() -> AutoencoderKL:
    """An untrained AutoencoderKL (0.66 M parameters)."""
    model: AutoencoderKL = AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=8,
        # Few groups: normalization over few channels would remove the flat colours that this world is made of.
        norm_num_groups=2,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=1.0,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("conv2.weight"):
                parameter.mul_(0.1)
    return model


def edges(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbours from left to right, and from top to bottom."""
    return pixels.diff(dim=-1), pixels.diff(dim=-2)


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Weighted sum of the L1, squared and gradient errors of images [B, 3, H, W] in -1..1, as a scalar."""
    across, down = edges(output)
    target_across, target_down = edges(target)
    gradient_error = (across - target_across).abs().mean() + (down - target_down).abs().mean()
    error = output - target
    return 0.5 * error.abs().mean() + 4 * error.square().mean() + 0.25 * gradient_error


def train(images: Images, folder: Path, steps: int, batch: int = 4, kl_weight: float = 3e-4) -> AutoencoderKL:
    """Train on `images` (uint8 [N, 64, 64, 3]); returns the model with averaged weights and standardized latents."""
    device = default_device()
    torch.manual_seed(0)

    def loss_of(model: AutoencoderKL, rng: np.random.Generator) -> tuple[Tensor, dict[str, str]]:
        pixels = to_tensor(images[rng.integers(len(images), size=batch)], device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = model.encode(pixels).latent_dist
            output = model.decode(posterior.sample()).sample
        error = reconstruction_loss(output.float(), pixels)
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).float().mean()
        mse = (output.float() - pixels).square().mean().item() / 4
        return error + kl_weight * kl, {"mse": f"{mse:.5f}", "kl": f"{kl.item():.2f}"}

    model = fit("vae", on_device(build()), loss_of, steps=steps, lr=4e-3, folder=folder).cpu()
    standardize(model, images[:2000])
    return model


@torch.no_grad()
def standardize(model: AutoencoderKL, images: Images) -> None:
    """Change the two 1 x 1 convolutions around the latents so that each channel has mean 0 and deviation 1.

    Decoded images stay the same. A pipeline has one `scaling_factor` for all channels; it is 1 after this.
    """
    latents = torch.cat([model.encode(to_tensor(part)).latent_dist.mode() for part in batches(images, 100)])
    mean = latents.mean((0, 2, 3))
    deviation = latents.std((0, 2, 3))
    before = model.quant_conv
    after = model.post_quant_conv
    assert before is not None
    assert before.bias is not None
    assert after is not None
    assert after.bias is not None
    channels = len(mean)
    # The first half of `before`'s outputs are means, the second half log-variances.
    before.weight[:channels] /= deviation[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) / deviation
    before.bias[channels:] -= 2 * deviation.log()
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= deviation[None, :, None, None]


def batches(images: Images, size: int) -> Iterator[Images]:
    """`images` in consecutive parts of at most `size`."""
    return (images[start : start + size] for start in range(0, len(images), size))


@torch.no_grad()
def psnr(model: AutoencoderKL, images: Images) -> Tensor:
    """PSNR [N] in dB (peak 255) of the reconstructions of images, uint8 [N, 64, 64, 3]; latents are not sampled."""
    values = []
    for part in batches(images, 100):
        pixels = to_tensor(part)
        output = model.decode(model.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        # Pixels span 2, so the squared error is divided by 4 to be a share of the peak's square.
        mse = (output - pixels).square().mean((1, 2, 3)) / 4
        values.append(-10 * mse.log10())
    return torch.cat(values)
