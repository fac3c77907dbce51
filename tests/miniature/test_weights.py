"""The shipped weights: they load as any pipeline does, take any prompt, and are as good as the model card says."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file
from transformers import AutoModel, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from miniature import judge, model_card, sampling
from miniature.captions import PLACES
from miniature.pretrain import clip, identity, vae
from miniature.pretrain.data import HELD_OUT_SEED, render_all, scene_from_seed, to_tensor
from miniature.pretrain.export import WEIGHTS
from tests.suites import some_of

SCHEDULERS = (
    PNDMScheduler,
    LMSDiscreteScheduler,
    DDIMScheduler,
    EulerDiscreteScheduler,
    DPMSolverMultistepScheduler,
)


@pytest.fixture(scope="module")
def pipeline():
    loaded = StableDiffusionPipeline.from_pretrained(WEIGHTS / "pipeline")
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def scenes():
    return [scene_from_seed(HELD_OUT_SEED + 5000 + index) for index in range(150)]


@pytest.fixture(scope="module")
def images(scenes):
    return render_all(scenes)


def test_weights_are_safetensors_of_at_most_20_megabytes():
    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".safetensors", ".json"}
    assert sum(file.stat().st_size for file in files) <= 20e6


def test_the_pipeline_is_a_stable_diffusion_in_float32(pipeline):
    assert pipeline.safety_checker is None
    assert type(pipeline.scheduler) is PNDMScheduler
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.float32}
    assert pipeline.tokenizer.model_max_length == pipeline.text_encoder.config.max_position_embeddings == 32


@pytest.mark.parametrize("scheduler", some_of(SCHEDULERS, [PNDMScheduler, DDIMScheduler]))
def test_every_scheduler_gives_what_was_asked_for(pipeline, scheduler):
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    prompts = [f"a photo of a tree {PLACES[context][0]}" for context in ("snow", "night", "beach")]
    read = judge.read(sampling.sample(pipeline, prompts, steps=25))
    # One image may fail; noise would fail them all.
    assert sum(noun == "tree" for noun in read["class"]) >= 2
    assert sum(got == want for got, want in zip(read["context"], ("snow", "night", "beach"), strict=True)) >= 2


def test_unknown_words_and_long_prompts_still_give_an_image(pipeline):
    prompts = ["Zürich 猫 antidisestablishmentarianism?", "", "sks " * 100]
    images = sampling.sample(pipeline, prompts, steps=3)
    assert images.shape == (3, 64, 64, 3)
    assert all(image.std() > 1 for image in images)


def test_reconstructions_are_sharp_and_latents_of_unit_scale(pipeline, scenes, images):
    photos = np.array([scene.style == "photo" for scene in scenes])
    assert vae.psnr(pipeline.vae, images).mean() > 29
    assert vae.psnr(pipeline.vae, images[photos]).mean() > 31
    with torch.no_grad():
        latents = pipeline.vae.encode(to_tensor(images)).latent_dist.mode() * pipeline.vae.config.scaling_factor
    assert latents.std((0, 2, 3)).sub(1).abs().max() < 0.1
    assert latents.mean((0, 2, 3)).abs().max() < 0.1


def test_clip_knows_class_context_and_color(scenes, images):
    model = CLIPModel.from_pretrained(WEIGHTS / "clip").eval()
    right = clip.zero_shot(model, CLIPTokenizer.from_pretrained(WEIGHTS / "clip"), scenes, images)
    assert min(right.values()) > 0.93, right


def test_the_text_encoder_of_clip_is_the_pipelines():
    shared = load_file(WEIGHTS / "pipeline" / "text_encoder" / "model.safetensors")
    whole = load_file(WEIGHTS / "clip" / "model.safetensors")
    for name, tensor in shared.items():
        assert torch.equal(tensor, whole[f"text_model.{name}"])


def test_the_identity_encoder_finds_the_same_object():
    encoder = AutoModel.from_pretrained(WEIGHTS / "identity").eval()
    assert identity.retrieval_accuracy(encoder, HELD_OUT_SEED + 9 * 10**6) >= 0.9


def test_image_processors_give_the_encoders_what_they_were_trained_on(images):
    for part in ("clip", "identity"):
        processor = CLIPImageProcessorPil.from_pretrained(WEIGHTS / part)
        fed = processor(list(images[:2]), return_tensors="pt").pixel_values
        assert torch.allclose(fed, to_tensor(images[:2]), atol=1e-3)


def test_the_judge_reads_renders(scenes, images):
    right = model_card.judge_accuracy(scenes, images)
    assert right["class"] > 0.97
    assert right["context"] > 0.97
    assert right["attributes"] > 0.85
