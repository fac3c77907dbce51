"""The configuration files of Stable Diffusion 1.5 and 2.1, without weights: what the memory estimate reads."""

import json
import shutil
from pathlib import Path

from trainers.spec import ModelSpec

TOKENIZER = Path(__file__).resolve().parents[2] / "miniature" / "weights" / "pipeline" / "tokenizer"


def stable_diffusion_15(folder: Path) -> ModelSpec:
    return _model(folder, 512, 768, 12, {"attention_head_dim": 8}, "epsilon")


def stable_diffusion_21(folder: Path) -> ModelSpec:
    heads = {"attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
    return _model(folder, 768, 1024, 23, heads, "v_prediction")


def _model(folder: Path, resolution: int, width: int, layers: int, heads: dict, prediction: str) -> ModelSpec:
    write(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    write(
        folder / "unet" / "config.json",
        {
            "_class_name": "UNet2DConditionModel",
            "sample_size": resolution // 8,
            "block_out_channels": [320, 640, 1280, 1280],
            "cross_attention_dim": width,
            "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
            **heads,
        },
    )
    write(
        folder / "vae" / "config.json",
        {
            "_class_name": "AutoencoderKL",
            "block_out_channels": [128, 256, 512, 512],
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "layers_per_block": 2,
            "sample_size": resolution,
        },
    )
    write(
        folder / "text_encoder" / "config.json",
        {
            "model_type": "clip_text_model",
            "vocab_size": 49408,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "max_position_embeddings": 77,
        },
    )
    write(
        folder / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "PNDMScheduler",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "prediction_type": prediction,
        },
    )
    shutil.copytree(TOKENIZER, folder / "tokenizer")
    settings = folder / "tokenizer" / "tokenizer_config.json"
    write(settings, {**json.loads(settings.read_text()), "model_max_length": 77})
    return ModelSpec(revision=folder.name, repo=str(folder), resolution=resolution)


def write(file: Path, content: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
