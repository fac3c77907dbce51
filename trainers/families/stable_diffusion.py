"""Stable Diffusion 1.x and 2.x: latent diffusion with one CLIP text encoder, predicting the noise or v.

Sizes, scaling and prediction type come from the pipeline's own configuration, never from here.
"""

import copy
import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from trainers.batches import sliced
from trainers.errors import SpecError
from trainers.families.base import Components, Conditioning, Device, Family, Images
from trainers.families.diffusion import Diffusion
from trainers.families.hub import configuration_of, folder_of, quiet
from trainers.families.tokens import EMBEDDINGS_FILE, save_tokens, with_aliases, with_tokens
from trainers.precision import DTYPES
from trainers.schedulers import make_scheduler
from trainers.spec import ModelSpec, SampleSpec

LORA_FILE = "pytorch_lora_weights.safetensors"  # the name diffusers looks for
NETWORK, ENCODER = "unet", "text_encoder"  # the names in diffusers' pipeline


class StableDiffusion(Family):
    name = "stable_diffusion"
    trainable_encoders = (ENCODER,)

    # --- weights ---

    def load(self, model: ModelSpec) -> Components:
        return replace(_load(folder_of(model), model.repo), model=model)

    def blank(self, model: ModelSpec) -> Components:
        quiet()
        folder, revision = configuration_of(model)
        configs = {
            name: kind.load_config(folder, subfolder=name, revision=revision)
            for name, kind in ((NETWORK, UNet2DConditionModel), ("vae", AutoencoderKL), ("scheduler", DDPMScheduler))
        }
        text_config = CLIPTextConfig.from_pretrained(folder, subfolder=ENCODER, revision=revision)
        text_config.dtype = torch.float32
        parts = {
            NETWORK: UNet2DConditionModel.from_config(configs[NETWORK]),
            ENCODER: CLIPTextModel(text_config),
            "vae": AutoencoderKL.from_config(configs["vae"]),
        }
        return Components(
            model=model,
            parts={name: part.requires_grad_(False) for name, part in parts.items()},
            network_name=NETWORK,
            tokenizers={ENCODER: CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", revision=revision)},
            scheduler_config=configs["scheduler"],
        )

    def with_checkpoint(self, components: Components, folder: Path) -> Components:
        parts: dict[str, nn.Module] = {}
        if (folder / NETWORK).is_dir():
            parts[NETWORK] = UNet2DConditionModel.from_pretrained(folder / NETWORK, use_safetensors=True).float()
        if (folder / ENCODER).is_dir():
            parts[ENCODER] = CLIPTextModel.from_pretrained(folder / ENCODER, use_safetensors=True, dtype=torch.float32)
        tuned = components.with_parts(parts)
        if (folder / LORA_FILE).exists():
            tuned = _with_lora(tuned, folder / LORA_FILE)
        if (folder / EMBEDDINGS_FILE).exists():
            tuned = with_tokens(tuned, {ENCODER: load_file(folder / EMBEDDINGS_FILE)})
        for name in (NETWORK, ENCODER):
            tuned.parts[name].eval().requires_grad_(False)
        return tuned

    def save_lora(self, folder: Path, network: nn.Module, encoders: Mapping[str, nn.Module]) -> None:
        given: dict[str, Any] = {}
        for name, module in {NETWORK: network, **encoders}.items():
            given[f"{name}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(module))
            adapters: Any = module.peft_config
            given[f"{name}_lora_adapter_metadata"] = adapters["default"].to_dict()
        StableDiffusionPipeline.save_lora_weights(folder, **given)

    def save_tokens(self, folder: Path, learned: Mapping[str, Mapping[str, Tensor]]) -> None:
        save_tokens(folder / EMBEDDINGS_FILE, learned[ENCODER])

    def save_pipeline(self, components: Components, folder: Path, scheduler: str | None = None) -> None:
        _pipeline(components, scheduler or self.defaults.scheduler).save_pretrained(folder, safe_serialization=True)

    # --- images ---

    def latent_shape(self, components: Components, resolution: int) -> tuple[int, ...]:
        """(channels, height, width)"""
        config: Any = components.autoencoder.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        return config.latent_channels, resolution // factor, resolution // factor

    def encode_images(self, autoencoder: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        vae: Any = autoencoder
        posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
        scale = vae.config.scaling_factor
        return posterior.mean.float() * scale, posterior.std.float() * scale

    @torch.no_grad()
    def sample(
        self,
        components: Components,
        prompts: Sequence[str],
        latents: Tensor,
        spec: SampleSpec,
        generators: list[torch.Generator],
        device: Device = "cpu",
    ) -> Images:
        placed = components.to(device, spec.precision)
        pipeline = _pipeline(placed, spec.scheduler)
        if sliced(device):
            pipeline.vae.enable_slicing()
        states = _text_states(pipeline, [with_aliases(components, prompt) for prompt in prompts] + [""] * len(prompts))
        images: Tensor = pipeline(
            prompt_embeds=states[: len(prompts)],
            negative_prompt_embeds=states[len(prompts) :],
            latents=latents.to(device, DTYPES[spec.precision]),
            height=latents.shape[-2] * pipeline.vae_scale_factor,
            width=latents.shape[-1] * pipeline.vae_scale_factor,
            num_inference_steps=spec.inference_steps,
            guidance_scale=spec.guidance_scale,
            generator=generators,
            output_type="latent",
        ).images
        rounded: Images = np.round(_decoded(pipeline, images, components.model.revision) * 255).astype(np.uint8)
        return rounded

    # --- text ---

    def tokenize(self, components: Components, prompts: Sequence[str]) -> Conditioning:
        """`ids` [N, L], L the tokenizer's own length."""
        tokenizer = components.tokenizers[ENCODER]
        texts = [with_aliases(components, prompt) for prompt in prompts]
        texts = TextualInversionLoaderMixin().maybe_convert_prompt(texts, tokenizer)
        length = tokenizer.model_max_length
        ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        return Conditioning({"ids": ids})

    def encode_text(self, encoders: Mapping[str, nn.Module], tokens: Conditioning) -> Conditioning:
        """`states` [N, L, D], what the U-Net attends to."""
        return Conditioning({"states": encoders[ENCODER](tokens.tensors["ids"])[0]})

    def blank_text(self, components: Components, count: int, encoded: bool) -> Conditioning:
        length = components.tokenizers[ENCODER].model_max_length
        if not encoded:
            return Conditioning({"ids": torch.empty(count, length, dtype=torch.long)})
        config: Any = components.network.config
        return Conditioning({"states": torch.empty(count, length, config.cross_attention_dim)})

    # --- training ---

    def forward_process(self, components: Components, device: Device = "cpu") -> Diffusion:
        return Diffusion(components.scheduler_config, device)

    def predict(self, network: nn.Module, noisy: Tensor, timesteps: Tensor, text: Conditioning) -> Tensor:
        predicted: Tensor = network(noisy, timesteps, text.tensors["states"]).sample
        return predicted


@functools.lru_cache(maxsize=1)
def _load(folder: str, repo: str) -> Components:
    quiet()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            use_safetensors=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise SpecError(
            f"model.repo={repo} cannot be loaded: it must be Stable Diffusion 1.x or 2.x in a diffusers folder with "
            f"safetensors weights ({first_line})"
        ) from error
    if pipeline.unet.config.in_channels != pipeline.vae.config.latent_channels:
        raise SpecError(
            f"model.repo={repo} is no text-to-image model: its U-Net takes {pipeline.unet.config.in_channels} channels"
        )
    parts = {NETWORK: pipeline.unet, ENCODER: pipeline.text_encoder, "vae": pipeline.vae}
    for module in parts.values():
        module.eval().requires_grad_(False)
    return Components(
        model=ModelSpec(revision=""),
        parts=parts,
        network_name=NETWORK,
        tokenizers={ENCODER: pipeline.tokenizer},
        scheduler_config=dict(pipeline.scheduler.config),
    )


def _pipeline(components: Components, scheduler: str) -> Any:
    absent: Any = None  # allowed, though the types of diffusers do not say so
    parts: dict[str, Any] = {name: components.parts[name] for name in (NETWORK, ENCODER, "vae")}
    pipeline = StableDiffusionPipeline(
        **parts,
        tokenizer=components.tokenizers[ENCODER],
        scheduler=make_scheduler(scheduler, components.scheduler_config),
        safety_checker=absent,
        feature_extractor=absent,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# Revisions of models whose autoencoder overflowed in fp16, in this process.
OVERFLOWED: set[str] = set()


def _decoded(pipeline: Any, latents: Tensor, revision: str) -> np.ndarray:
    """Images [N, H, W, 3] in [0, 1] of sampled latents. In fp32 where the autoencoder overflows in fp16: its
    configuration says so (as that of SDXL does), or it has done so before."""
    in_half = latents.dtype == torch.float16
    upcast = in_half and (_says_that_it_overflows(pipeline.vae) or revision in OVERFLOWED)
    decoder: Any = copy.deepcopy(pipeline.vae).float() if upcast else pipeline.vae
    images = decoder.decode(latents.to(decoder.dtype) / decoder.config.scaling_factor, return_dict=False)[0]
    if in_half and not upcast and latents.isfinite().all() and not images.isfinite().all():
        OVERFLOWED.add(revision)
        logging.getLogger(__name__).warning("the autoencoder overflows in fp16: from here on it decodes in fp32")
        return _decoded(pipeline, latents, revision)
    pixels: np.ndarray = pipeline.image_processor.postprocess(images, output_type="np")
    return pixels


def _says_that_it_overflows(vae: Any) -> bool:
    """Whether `force_upcast` stands in the configuration. Where it does not (Stable Diffusion 1.x and 2.x) diffusers
    fills in true."""
    return bool(vae.config.force_upcast) and "force_upcast" not in vae.config.get("_use_default_values", ())


def _with_lora(components: Components, file: Path) -> Components:
    """LoRA layers merged into copies of the networks."""
    copied = components.with_parts({name: copy.deepcopy(components.parts[name]) for name in (NETWORK, ENCODER)})
    pipeline = _pipeline(copied, "pndm")  # any: nothing is sampled
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    return copied.with_parts({NETWORK: pipeline.unet, ENCODER: pipeline.text_encoder})


def _text_states(pipeline: Any, texts: list[str]) -> Tensor:
    """What the U-Net attends to, [N, L, D]; each distinct text is encoded once."""
    distinct = list(dict.fromkeys(texts))
    states: Tensor
    states, _ = pipeline.encode_prompt(distinct, pipeline.device, 1, False)
    return states[[distinct.index(text) for text in texts]]
