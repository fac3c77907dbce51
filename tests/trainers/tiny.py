"""Random Stable Diffusion pipelines of some thousand weights, saved to disk as real ones are."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from trainers.images import fingerprint
from trainers.spec import ModelSpec, SubjectSpec

RESOLUTION = 16
WORDS = ["a", "photo", "of", "sks", "dog", "cat", "in", "the", "style", "beach", "<", ">"]


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    letters = [chr(c) for c in range(33, 127)]
    merges, vocab = [], {}
    for token in letters + [f"{letter}</w>" for letter in letters] + [str(i) for i in range(10)]:
        vocab.setdefault(token, len(vocab))
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merged = "".join(pieces[:2])
            if merged not in vocab:
                merges.append(" ".join(pieces[:2]))
                vocab[merged] = len(vocab)
            pieces = [merged, *pieces[2:]]
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocab[token] = len(vocab)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16, pad_token="<|endoftext|>"
    )


def make_pipeline(folder: Path, prediction: str = "epsilon", second: bool = False, dropout: float = 0.0) -> Path:
    """A pipeline shaped as Stable Diffusion 1, or 2 (`second`: linear projections, heads by block, gelu text)."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(folder / "vocabulary")
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=16,
            hidden_act="gelu" if second else "quick_gelu",
            attention_dropout=dropout,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        norm_num_groups=4,
        attention_head_dim=(2, 4) if second else 2,
        use_linear_projection=second,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.3,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        skip_prk_steps=True,
        prediction_type=prediction,
    )
    StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(folder)
    return folder


def make_images(folder: Path, count: int = 4, size: tuple[int, int] = (RESOLUTION, RESOLUTION)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(count)
    for i in range(count):
        pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


def model_spec(folder: Path) -> ModelSpec:
    return ModelSpec(revision=str(folder), repo=str(folder), resolution=RESOLUTION)


def subject_spec(folder: Path) -> SubjectSpec:
    return SubjectSpec(fingerprint=fingerprint(folder), class_noun="dog", images=str(folder))
