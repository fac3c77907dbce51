"""The U-Net: predicts the noise in latents, given a caption through cross-attention, as in Stable Diffusion."""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tqdm import tqdm

from miniature.captions import caption
from miniature.pretrain import tokenizer as tokens
from miniature.pretrain.data import to_tensor
from miniature.pretrain.loop import device, fit, trapezoid
from miniature.pretrain.vae import batches

NOISE_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
SNR_CEILING = 5.0
EMPTY_CAPTIONS = 0.1


def build(text_width=128):
    """An untrained UNet2DConditionModel (4.0 M parameters) for latents of 16 x 16 x 8."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=text_width,
        # In diffusers this is the number of heads, not their width.
        attention_head_dim=4,
    )


@torch.no_grad()
def cached_latents(vae, images, folder):
    """Each image's latent distribution: (means, deviations), both fp16 [N, 8, 16, 16]; kept in `folder`."""
    path = Path(folder) / f"latents-{len(images)}.pt"
    if not path.exists():
        where = device()
        vae = vae.to(where)
        parts = [vae.encode(to_tensor(part, where)).latent_dist for part in tqdm(batches(images, 100), desc="encoding")]
        moments = [torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts])]
        torch.save([moment.half().cpu() for moment in moments], path)
    return torch.load(path, weights_only=True)


def spread_timesteps(rng, count, total=1000):
    """`count` timesteps, one from each equal part of 0..total: less noise in the loss than independent draws."""
    return torch.from_numpy(((rng.permutation(count) + rng.random(count)) / count * total).astype(np.int64))


def min_snr_weights(alphas_cumprod, timesteps):
    """Min-SNR weights [B] for epsilon prediction (Hang et al., 2023, arXiv:2303.09556)."""
    snr = alphas_cumprod[timesteps] / (1 - alphas_cumprod[timesteps])
    return snr.clamp(max=SNR_CEILING) / snr


def train(scenes, latents, text_encoder, tokenizer, folder, steps, batch=64, lr=2.5e-3):
    """Train on cached `latents` of `scenes`, captioned anew each step; returns the averaged UNet2DConditionModel."""
    where = device()
    torch.manual_seed(0)
    text_encoder = text_encoder.to(where).eval().requires_grad_(False)
    noising = DDPMScheduler(**NOISE_SCHEDULE)
    alphas = noising.alphas_cumprod.to(where)
    means, deviations = (part.to(where) for part in latents)
    model = build().to(where)
    # Plain attention: on a CPU it trains a U-Net this small faster than SDPA.
    model.set_attn_processor(AttnProcessor())

    def loss_of(model, rng, step):
        chosen = torch.from_numpy(rng.integers(len(scenes), size=batch)).to(where)
        words = random.Random(int(rng.integers(2**31)))
        texts = ["" if words.random() < EMPTY_CAPTIONS else caption(scenes[i], words) for i in chosen.tolist()]
        clean = means[chosen].float()
        clean = clean + deviations[chosen] * torch.randn_like(clean)
        noise, timesteps = torch.randn_like(clean), spread_timesteps(rng, batch).to(where)
        with torch.autocast(where.type, torch.bfloat16):
            with torch.no_grad():
                said = text_encoder(tokens.encode(tokenizer, texts, "max_length").to(where))[0]
            predicted = model(noising.add_noise(clean, noise, timesteps), timesteps, said).sample
        errors = (predicted.float() - noise).square().mean((1, 2, 3))
        loss = (errors * min_snr_weights(alphas, timesteps)).mean()
        return loss, {"loss": f"{loss.item():.4f}", "mse": f"{errors.mean().item():.4f}"}

    fitted = fit("unet", model, loss_of, steps=steps, lr=lr, folder=folder, schedule=trapezoid)
    fitted.set_default_attn_processor()
    return fitted.cpu()
