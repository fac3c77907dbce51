"""Stable Diffusion 1.x and 2.x: latent diffusion with one CLIP text encoder, predicting the noise or v.

Sizes, scaling and prediction type come from the pipeline's own configuration, never from here.
"""

import copy
import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import TextualInversionLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers
from diffusers.utils import logging as diffusers_logging
from peft import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from trainers.errors import SpecError
from trainers.families.tokens import EMBEDDINGS_FILE, with_aliases, with_new_tokens
from trainers.precision import DTYPES
from trainers.schedulers import make_scheduler
from trainers.spec import ModelSpec, SampleSpec

LORA_FILE = "pytorch_lora_weights.safetensors"  # the name diffusers looks for


@dataclass(frozen=True, eq=False)
class Components:
    """The parts of a pipeline. Shared between trainings, so nothing here is ever changed in place."""

    model: ModelSpec
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    scheduler_config: dict[str, Any]
    aliases: tuple[tuple[str, str], ...] = ()  # (word in a prompt, learned token that stands for it)

    def to(self, device: torch.device | str, precision: str = "no") -> "Components":
        """Copies on `device` in fp32, fp16 or bf16; a part that is there already is not copied."""
        device, dtype = torch.device(device), DTYPES[precision]
        parts = {name: _placed(getattr(self, name), device, dtype) for name in ("unet", "text_encoder", "vae")}
        return replace(self, **parts)


def _placed(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    weight = next(module.parameters())
    if weight.dtype == dtype and weight.device.type == device.type and device.index in (None, weight.device.index):
        return module
    return copy.deepcopy(module).to(device, dtype)


def load(model: ModelSpec) -> Components:
    """The untuned model on the CPU in fp32, in eval mode, without gradients; the last one loaded stays at hand.

    Raises:
        SpecError: `model.repo` is no diffusers folder, and neither in the local cache nor to be downloaded.
    """
    return replace(_load(model.repo, _hub_revision(model)), model=model)


def _hub_revision(model: ModelSpec) -> str | None:
    return model.revision.split("@", 1)[1] if "@" in model.revision and not Path(model.repo).is_dir() else None


@functools.lru_cache(maxsize=1)
def _load(repo: str, revision: str | None) -> Components:
    quiet()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            repo,
            revision=revision,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            use_safetensors=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise SpecError(
            f"model.repo={repo} cannot be loaded: it must be a diffusers folder with safetensors weights, or a hub id "
            f"that is in the local cache or can be downloaded; model=miniature needs neither ({first_line})"
        ) from error
    if pipeline.unet.config.in_channels != pipeline.vae.config.latent_channels:
        raise SpecError(
            f"model.repo={repo} is no text-to-image model: its U-Net takes {pipeline.unet.config.in_channels} channels"
        )
    for module in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        module.eval().requires_grad_(False)
    return Components(
        model=ModelSpec(revision=""),
        unet=pipeline.unet,
        text_encoder=pipeline.text_encoder,
        vae=pipeline.vae,
        tokenizer=pipeline.tokenizer,
        scheduler_config=dict(pipeline.scheduler.config),
    )


def blank(model: ModelSpec) -> Components:
    """The architecture of `model` from its configuration files, its weights not loaded."""
    quiet()
    revision = _hub_revision(model)
    configs = {
        name: kind.load_config(model.repo, subfolder=name, revision=revision)
        for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("scheduler", DDPMScheduler))
    }
    text_config = CLIPTextConfig.from_pretrained(model.repo, subfolder="text_encoder", revision=revision)
    text_config.dtype = torch.float32
    return Components(
        model=model,
        unet=UNet2DConditionModel.from_config(configs["unet"]).requires_grad_(False),
        text_encoder=CLIPTextModel(text_config).requires_grad_(False),
        vae=AutoencoderKL.from_config(configs["vae"]).requires_grad_(False),
        tokenizer=CLIPTokenizer.from_pretrained(model.repo, subfolder="tokenizer", revision=revision),
        scheduler_config=configs["scheduler"],
    )


def quiet() -> None:
    """Keeps the libraries' progress bars and remarks off the user's terminal."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


# --- what a checkpoint holds -------------------------------------------------------------------------------------


def with_checkpoint(components: Components, folder: Path) -> Components:
    """The tuned weights in `folder` put over the untuned ones: whole networks, LoRA layers, learned tokens."""
    parts: dict[str, Any] = {}
    if (folder / "unet").is_dir():
        parts["unet"] = UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True)
    if (folder / "text_encoder").is_dir():
        parts["text_encoder"] = CLIPTextModel.from_pretrained(
            folder / "text_encoder", use_safetensors=True, dtype=torch.float32
        )
    tuned = replace(components, **parts)
    if (folder / LORA_FILE).exists():
        tuned = _with_lora(tuned, folder / LORA_FILE)
    if (folder / EMBEDDINGS_FILE).exists():
        tuned = _with_tokens(tuned, load_file(folder / EMBEDDINGS_FILE))
    for module in (tuned.unet, tuned.text_encoder):
        module.eval().requires_grad_(False)
    return tuned


def _with_lora(components: Components, file: Path) -> Components:
    """LoRA layers merged into copies of the networks."""
    copied = replace(
        components, unet=copy.deepcopy(components.unet), text_encoder=copy.deepcopy(components.text_encoder)
    )
    pipeline = _pipeline(copied)
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    return replace(copied, unet=pipeline.unet, text_encoder=pipeline.text_encoder)


def _with_tokens(components: Components, learned: dict[str, Tensor]) -> Components:
    """New tokens with their vectors. `learned`: {placeholder token: [vectors, width]}."""
    tokenizer, text_encoder = components.tokenizer, copy.deepcopy(components.text_encoder)
    aliases = components.aliases
    for token, vectors in learned.items():
        tokenizer, ids = with_new_tokens(tokenizer, token, len(vectors))
        if max(ids) >= text_encoder.get_input_embeddings().num_embeddings:
            text_encoder.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
        text_encoder.get_input_embeddings().weight.data[ids] = vectors
        aliases += ((token.strip("<>"), token),)
    return replace(components, tokenizer=tokenizer, text_encoder=text_encoder, aliases=aliases)


def save_lora(folder: Path, unet: nn.Module, text_encoder: nn.Module | None) -> None:
    """The adapters, as `load_lora_weights` of diffusers reads them."""
    trained = {"unet": unet} | ({"text_encoder": text_encoder} if text_encoder is not None else {})
    given = {}
    for name, module in trained.items():
        given[f"{name}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(module))
        given[f"{name}_lora_adapter_metadata"] = module.peft_config["default"].to_dict()
    StableDiffusionPipeline.save_lora_weights(folder, **given)


def _pipeline(components: Components, scheduler: str = "pndm") -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline(
        vae=components.vae,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        unet=components.unet,
        scheduler=make_scheduler(scheduler, components.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(components: Components, folder: Path, scheduler: str = "pndm") -> None:
    """A diffusers folder that `DiffusionPipeline.from_pretrained` loads."""
    _pipeline(components, scheduler).save_pretrained(folder, safe_serialization=True)


# --- sampling ----------------------------------------------------------------------------------------------------


def latent_shape(components: Components, resolution: int) -> tuple[int, int, int]:
    """(channels, height, width) of the latents of square images of `resolution` pixels."""
    factor = 2 ** (len(components.vae.config.block_out_channels) - 1)
    return components.vae.config.latent_channels, resolution // factor, resolution // factor


@torch.no_grad()
def sample(
    components: Components,
    prompts: list[str],
    latents: Tensor,
    spec: SampleSpec,
    generators: list[torch.Generator],
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Images [N, H, W, 3] uint8 from `latents` [N, C, h, w], unit normal; a generator per image for the noise
    that some schedulers add. Place the components once with `.to(device, precision)` when sampling many batches."""
    placed = components.to(device, spec.precision)
    pipeline = _pipeline(placed, spec.scheduler)
    states = text_states(pipeline, [with_aliases(components, prompt) for prompt in prompts] + [""] * len(prompts))
    images = pipeline(
        prompt_embeds=states[: len(prompts)],
        negative_prompt_embeds=states[len(prompts) :],
        latents=latents.to(device, DTYPES[spec.precision]),
        height=latents.shape[-2] * pipeline.vae_scale_factor,
        width=latents.shape[-1] * pipeline.vae_scale_factor,
        num_inference_steps=spec.inference_steps,
        guidance_scale=spec.guidance_scale,
        generator=generators,
        output_type="np",
    ).images
    return np.round(images * 255).astype(np.uint8)


def text_states(pipeline: StableDiffusionPipeline, texts: list[str]) -> Tensor:
    """What the U-Net attends to, [N, L, D]; each distinct text is encoded once."""
    distinct = list(dict.fromkeys(texts))
    states, _ = pipeline.encode_prompt(distinct, pipeline.device, 1, False)
    return states[[distinct.index(text) for text in texts]]


# --- training ----------------------------------------------------------------------------------------------------


def tokenize(components: Components, prompts: list[str]) -> Tensor:
    """Token ids [N, L], L the tokenizer's own length; longer prompts are cut."""
    texts = [with_aliases(components, prompt) for prompt in prompts]
    texts = TextualInversionLoaderMixin().maybe_convert_prompt(texts, components.tokenizer)
    length = components.tokenizer.model_max_length
    return components.tokenizer(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids


def encode_text(text_encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """What the U-Net attends to, [N, L, D], of token ids [N, L]."""
    return text_encoder(ids)[0]


def encode_images(vae: AutoencoderKL, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the scaled latents, each [N, C, h, w], of pixels [N, 3, H, W] in [-1, 1]."""
    posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
    scale = vae.config.scaling_factor
    return posterior.mean.float() * scale, posterior.std.float() * scale


class Noising:
    """The forward process: which timesteps, what the noisy latents are, what is to be predicted from them."""

    def __init__(self, components: Components, device: torch.device | str = "cpu"):
        known = {k: v for k, v in components.scheduler_config.items() if not k.startswith("_")}
        self.scheduler = DDPMScheduler.from_config(known)
        self.alphas_cumprod = self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.to(device)
        self.prediction = self.scheduler.config.prediction_type
        if self.prediction not in ("epsilon", "v_prediction"):
            raise SpecError(f"prediction_type={self.prediction} is unknown; epsilon or v_prediction")

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """[count], uniform over the training timesteps, on the CPU."""
        return torch.randint(0, self.scheduler.config.num_train_timesteps, (count,), generator=generator)

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            return noise
        return self.scheduler.get_velocity(latents, noise, timesteps)

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio [N]: alpha_bar / (1 - alpha_bar)."""
        alpha_bar = self.alphas_cumprod[timesteps]
        return alpha_bar / (1 - alpha_bar)


def predict(unet: UNet2DConditionModel, noisy: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
    """The U-Net's prediction [N, C, h, w] from noisy latents, timesteps [N] and text states [N, L, D]."""
    return unet(noisy, timesteps, states).sample
