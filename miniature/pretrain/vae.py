"""The autoencoder: 64 x 64 pixels to 16 x 16 x 8 latents of unit scale."""

import torch
from diffusers import AutoencoderKL

from miniature.pretrain.data import to_tensor
from miniature.pretrain.loop import device, fit


def build():
    """An untrained AutoencoderKL (0.66 M parameters)."""
    model = AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=8,
        # Few groups: with many, each normalizes away the flat colours that this world is made of.
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


def edges(pixels):
    """Differences to the right and to the bottom neighbour."""
    return pixels.diff(dim=-1), pixels.diff(dim=-2)


def reconstruction_loss(output, target):
    """L1, squared and gradient errors of images [B, 3, H, W] in -1..1, as one scalar."""
    sharpness = sum((a - b).abs().mean() for a, b in zip(edges(output), edges(target), strict=True))
    error = output - target
    return 0.5 * error.abs().mean() + 4 * error.square().mean() + 0.25 * sharpness


def train(images, folder, steps, batch=4, kl_weight=3e-4):
    """Train on `images` (uint8 [N, 64, 64, 3]); returns the averaged model, its latents standardized."""
    where = device()
    torch.manual_seed(0)

    def loss_of(model, rng, step):
        pixels = to_tensor(images[rng.integers(len(images), size=batch)], where)
        with torch.autocast(where.type, torch.bfloat16):
            posterior = model.encode(pixels).latent_dist
            output = model.decode(posterior.sample()).sample
        error = reconstruction_loss(output.float(), pixels)
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).float().mean()
        mse = (output.float() - pixels).square().mean().item() / 4
        return error + kl_weight * kl, {"mse": f"{mse:.5f}", "kl": f"{kl.item():.2f}"}

    model = fit("vae", build().to(where), loss_of, steps=steps, lr=4e-3, folder=folder).cpu()
    standardize(model, images[:2000])
    return model


@torch.no_grad()
def standardize(model, images):
    """Fold the latents' mean and deviation per channel into the two 1 x 1 convolutions around them.

    A pipeline knows one `scaling_factor` only; after this each channel has mean 0 and deviation 1 and the factor is 1.
    """
    latents = torch.cat([model.encode(to_tensor(part)).latent_dist.mode() for part in batches(images, 100)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, out_of = model.quant_conv, model.post_quant_conv
    channels = len(mean)
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    # The second half are log-variances.
    into.bias[channels:] -= 2 * deviation.log()
    out_of.bias += out_of.weight[:, :, 0, 0] @ mean
    out_of.weight *= deviation[None, :, None, None]


def batches(items, size):
    """`items` in consecutive parts of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


@torch.no_grad()
def psnr(model, images):
    """Reconstruction quality of each image (uint8 [N, 64, 64, 3]) in dB, peak 255, through the latents' mean: [N]."""
    values = []
    for part in batches(images, 100):
        pixels = to_tensor(part)
        output = model.decode(model.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        mse = (output - pixels).square().mean((1, 2, 3)) / 4
        values.append(-10 * mse.log10())
    return torch.cat(values)
