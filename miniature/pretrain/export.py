"""Trained parts -> the folders that ship, in the formats that `from_pretrained` reads."""

from pathlib import Path

import torch
from diffusers import PNDMScheduler
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPTextModel

from miniature.pretrain.unet import NOISE_SCHEDULE

WEIGHTS = Path(__file__).parents[1] / "weights"


def write_tensors(model, path):
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def save_transformer(model, folder):
    """Weights in fp16; the config says float32, so that loading without a dtype gives float32."""
    model.config.dtype = torch.float32
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    write_tensors(model, Path(folder) / "model.safetensors")


def save_diffuser(model, folder):
    model.save_config(folder)
    write_tensors(model, Path(folder) / "diffusion_pytorch_model.safetensors")


def image_processor():
    """Resize and crop to 64 x 64, to -1..1: what both image towers were trained on."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def text_encoder_of(clip):
    """A CLIPTextModel with the weights of a CLIPModel's text tower."""
    model = CLIPTextModel(clip.config.text_config)
    model.load_state_dict(clip.text_model.state_dict())
    return model.eval()


def export_clip(clip, tokenizer, folder=WEIGHTS / "clip"):
    save_transformer(clip, folder)
    tokenizer.save_pretrained(folder)
    image_processor().save_pretrained(folder)


def export_identity(encoder, folder=WEIGHTS / "identity"):
    save_transformer(encoder, folder)
    image_processor().save_pretrained(folder)


def export_pipeline(vae, clip, tokenizer, unet, folder=WEIGHTS / "pipeline"):
    """A StableDiffusionPipeline without safety checker, its scheduler PNDM as in Stable Diffusion v1."""
    folder = Path(folder)
    save_diffuser(vae, folder / "vae")
    save_diffuser(unet, folder / "unet")
    save_transformer(text_encoder_of(clip), folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = PNDMScheduler(**NOISE_SCHEDULE, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    # PNDM has no such setting, but DDIM made from this config would clip the latents without it.
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
