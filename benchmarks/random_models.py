"""Architectures at full size with random weights: speed and memory do not need trained ones."""

from pathlib import Path

TOKENIZER = Path(__file__).resolve().parent.parent / "miniature" / "weights" / "pipeline" / "tokenizer"


def stable_diffusion_15(folder: Path, part: int = 1) -> Path:
    """A diffusers folder with the architecture of Stable Diffusion 1.5, 1.07 billion weights; `part` 2, 4 or 8 gives a
    half, a quarter or an eighth of the width, for trying things."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768 // part,
            intermediate_size=3072 // part,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=tuple(width // part for width in (320, 640, 1280, 1280)),
        cross_attention_dim=768 // part,
        attention_head_dim=8,
        norm_num_groups=32 // part,
    )
    vae = AutoencoderKL(
        block_out_channels=tuple(width // part for width in (128, 256, 512, 512)),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=32 // part,
        sample_size=512,
        scaling_factor=0.18215,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
    )
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77)
    StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(folder)
    return folder


FAMILIES = {"sd15": (stable_diffusion_15, 512)}  # how to make it; pixels
