"""Writes the trained parts into the folders that ship, in the formats that `from_pretrained` reads."""

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Dinov2Model,
    PreTrainedModel,
)

from miniature.pretrain.unet import NOISE_SCHEDULE

WEIGHTS = Path(__file__).parents[1] / "weights"


def write_tensors(model: torch.nn.Module, path: Path) -> None:
    """Write the weights in float16; whole numbers keep their type."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def save_transformers_model(model: PreTrainedModel, folder: Path) -> None:
    """Write weights and config. The config says float32, so that the model loads in float32 unless told otherwise."""
    model.config.dtype = torch.float32
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    write_tensors(model, folder / "model.safetensors")


def save_diffusers_model(model: ModelMixin, folder: Path) -> None:
    """Write weights and config."""
    model.save_config(folder)
    write_tensors(model, folder / "diffusion_pytorch_model.safetensors")


def image_processor() -> CLIPImageProcessorPil:
    """Resizes and crops to 64 x 64 pixels in -1..1, which both image encoders were trained on."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def text_encoder_of(clip: CLIPModel) -> CLIPTextModel:
    """A CLIPTextModel with the weights of a CLIPModel's text encoder."""
    config = clip.config.text_config
    assert isinstance(config, CLIPTextConfig)
    model = CLIPTextModel(config)
    model.load_state_dict(clip.text_model.state_dict())
    model.eval()
    return model


def export_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write CLIP with its tokenizer and image processor."""
    save_transformers_model(clip, folder)
    tokenizer.save_pretrained(folder)
    image_processor().save_pretrained(folder)


def export_identity(encoder: Dinov2Model, folder: Path) -> None:
    """Write the identity encoder with its image processor."""
    save_transformers_model(encoder, folder)
    image_processor().save_pretrained(folder)


def export_pipeline(
    vae: AutoencoderKL, clip: CLIPModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel, folder: Path
) -> None:
    """Write a StableDiffusionPipeline without a safety checker; its scheduler is PNDM, as in Stable Diffusion v1."""
    save_diffusers_model(vae, folder / "vae")
    save_diffusers_model(unet, folder / "unet")
    save_transformers_model(text_encoder_of(clip), folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = PNDMScheduler(**NOISE_SCHEDULE, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    # PNDM has no such setting, but without it DDIM would clip the latents when it is made from this config.
    scheduler.register_to_config(clip_sample=False)
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(MODEL_INDEX)


MODEL_INDEX = """{
  "_class_name": "StableDiffusionPipeline",
  "_diffusers_version": "0.42.1",
  "safety_checker": [null, null],
  "feature_extractor": [null, null],
  "image_encoder": [null, null],
  "requires_safety_checker": false,
  "scheduler": ["diffusers", "PNDMScheduler"],
  "text_encoder": ["transformers", "CLIPTextModel"],
  "tokenizer": ["transformers", "CLIPTokenizer"],
  "unet": ["diffusers", "UNet2DConditionModel"],
  "vae": ["diffusers", "AutoencoderKL"]
}
"""
