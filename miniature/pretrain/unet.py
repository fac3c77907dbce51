"""The U-Net. As in Stable Diffusion it predicts the noise in latents and attends to the caption's tokens."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from miniature.captions import caption
from miniature.pretrain import tokenizer as tokens
from miniature.pretrain.data import Images, to_tensor
from miniature.pretrain.loop import default_device, fit, on_device, trapezoid
from miniature.pretrain.vae import batches
from miniature.world import Scene

NOISE_SCHEDULE: dict[str, float | str] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
"""Arguments of diffusers' schedulers; those of Stable Diffusion v1."""
SNR_CEILING = 5.0
EMPTY_CAPTIONS = 0.1
"""Share of captions that are left empty, for classifier-free guidance."""


def build(text_width: int = 128) -> UNet2DConditionModel:
    """An untrained UNet2DConditionModel (4.0 M parameters) for latents of 16 x 16 x 8."""
    model: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=text_width,
        # Despite its name this is the number of attention heads.
        attention_head_dim=4,
    )
    return model


@torch.no_grad()
def cached_latents(vae: AutoencoderKL, images: Images, folder: Path) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of each image's latents, both fp16 [N, 8, 16, 16]; they are kept in `folder`."""
    path = folder / f"latents-{len(images)}.pt"
    if not path.exists():
        device = default_device()
        vae = on_device(vae)
        parts = [
            vae.encode(to_tensor(part, device)).latent_dist for part in tqdm(batches(images, 100), desc="encoding")
        ]
        moments = [torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts])]
        torch.save([moment.half().cpu() for moment in moments], path)
    means, deviations = torch.load(path, weights_only=True)
    return means, deviations


def spread_timesteps(rng: np.random.Generator, count: int, total: int = 1000) -> Tensor:
    """Random timesteps [count], one from each of `count` equal parts of 0..total.

    The loss varies less with them than with independent timesteps.
    """
    order = rng.permutation(count)
    within = rng.random(count)
    return torch.from_numpy(((order + within) / count * total).astype(np.int64))


def min_snr_weights(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """Min-SNR weights [B] for epsilon prediction (Hang et al., 2023, arXiv:2303.09556)."""
    snr = alphas_cumprod[timesteps] / (1 - alphas_cumprod[timesteps])
    return snr.clamp(max=SNR_CEILING) / snr


def train(
    scenes: Sequence[Scene],
    latents: tuple[Tensor, Tensor],
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    batch: int = 64,
    lr: float = 2.5e-3,
) -> UNet2DConditionModel:
    """Train on what `cached_latents` gives for `scenes`, with new captions in every step; returns averaged weights."""
    device = default_device()
    torch.manual_seed(0)
    text_encoder = on_device(text_encoder).eval().requires_grad_(False)
    noising = DDPMScheduler(**NOISE_SCHEDULE)
    alphas = noising.alphas_cumprod.to(device)
    means, deviations = (part.to(device) for part in latents)
    model = on_device(build())
    # On a CPU a U-Net this small trains faster with plain attention than with SDPA.
    model.set_attn_processor(AttnProcessor())

    def random_caption(scene: Scene, caption_rng: random.Random) -> str:
        leave_empty = caption_rng.random() < EMPTY_CAPTIONS
        return "" if leave_empty else caption(scene, caption_rng)

    def loss_of(model: UNet2DConditionModel, rng: np.random.Generator) -> tuple[Tensor, dict[str, str]]:
        chosen = torch.from_numpy(rng.integers(len(scenes), size=batch)).to(device)
        caption_rng = random.Random(int(rng.integers(2**31)))
        texts = [random_caption(scenes[i], caption_rng) for i in chosen.tolist()]
        mean = means[chosen].float()
        clean = mean + deviations[chosen] * torch.randn_like(mean)
        noise = torch.randn_like(clean)
        timesteps = spread_timesteps(rng, batch).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                text_states = text_encoder(tokens.encode(tokenizer, texts, "max_length").to(device))[0]
            predicted = model(noising.add_noise(clean, noise, timesteps), timesteps, text_states).sample
        errors = (predicted.float() - noise).square().mean((1, 2, 3))
        loss = (errors * min_snr_weights(alphas, timesteps)).mean()
        return loss, {"loss": f"{loss.item():.4f}", "mse": f"{errors.mean().item():.4f}"}

    fitted = fit("unet", model, loss_of, steps=steps, lr=lr, folder=folder, schedule=trapezoid)
    fitted.set_default_attn_processor()
    return fitted.cpu()
