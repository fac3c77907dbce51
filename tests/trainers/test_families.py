"""What a model family must provide, asked of every one."""

import math

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline

from tests.trainers import tiny
from trainers.errors import SpecError
from trainers.families import FAMILIES, family_of
from trainers.schedulers import SCHEDULER_CLASSES, make_scheduler
from trainers.spec import SCHEDULERS, ModelSpec, SampleSpec

KINDS = {"epsilon": "stable_diffusion", "v_prediction": "stable_diffusion"}  # tiny pipeline -> its family
PROMPTS = ["a photo of sks dog", "a photo of a cat on the beach"]


def test_every_family_is_asked():
    assert set(KINDS.values()) == set(FAMILIES)


@pytest.fixture(params=KINDS)
def components(request, pipelines):
    model = tiny.model_spec(pipelines[request.param])
    return family_of(model).load(model)


@pytest.fixture
def family(components):
    return family_of(components.model)


def draw(family, components, count=2, seed=0):
    shape = family.latent_shape(components, tiny.RESOLUTION)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return torch.stack([torch.randn(shape, generator=g) for g in generators]), generators


def test_load_is_frozen_and_at_hand(family, components):
    again = family.load(components.model)
    assert again.unet is components.unet
    for module in (components.unet, components.text_encoder, components.vae):
        assert not module.training
        assert all(w.dtype == torch.float32 and not w.requires_grad for w in module.parameters())


def test_latents_are_scaled_and_as_large_as_said(family, components):
    pixels = torch.rand(2, 3, tiny.RESOLUTION, tiny.RESOLUTION) * 2 - 1
    mean, std = family.encode_images(components.vae, pixels)
    assert mean.shape == std.shape == (2, *family.latent_shape(components, tiny.RESOLUTION))
    posterior = components.vae.encode(pixels).latent_dist
    draws = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    expected = posterior.sample(torch.Generator().manual_seed(0)) * components.vae.config.scaling_factor
    assert torch.allclose(mean + std * draws, expected, atol=1e-6)


def test_noising_follows_the_formulas(family, components):
    noising = family.Noising(components)
    latents, _ = draw(family, components, 3)
    noise, timesteps = torch.randn_like(latents), torch.tensor([0, 400, 999])
    alpha_bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)[timesteps]
    a, b = alpha_bar.sqrt()[:, None, None, None], (1 - alpha_bar).sqrt()[:, None, None, None]
    assert torch.allclose(noising.noised(latents, noise, timesteps), a * latents + b * noise, atol=1e-5)
    target = noise if noising.prediction == "epsilon" else a * noise - b * latents
    assert torch.allclose(noising.target(latents, noise, timesteps), target, atol=1e-5)
    assert torch.allclose(noising.snr(timesteps), alpha_bar / (1 - alpha_bar), rtol=1e-4)


def test_timesteps_are_uniform_and_repeatable(family, components):
    noising = family.Noising(components)
    drawn = noising.draw_timesteps(100_000, torch.Generator().manual_seed(0))
    assert drawn.min() == 0
    assert drawn.max() == 999
    assert float(drawn.float().mean()) == pytest.approx(499.5, abs=5 * math.sqrt(1000**2 / 12 / 100_000))
    assert torch.equal(drawn, noising.draw_timesteps(100_000, torch.Generator().manual_seed(0)))


def test_prediction_depends_on_the_prompt_alone_of_its_row(family, components):
    latents, _ = draw(family, components)
    states = family.encode_text(components.text_encoder, family.tokenize(components, PROMPTS))
    together = family.predict(components.unet, latents, torch.tensor([10, 900]), states)
    alone = family.predict(components.unet, latents[1:], torch.tensor([900]), states[1:])
    assert torch.allclose(together[1:], alone, atol=1e-5)
    other = family.predict(components.unet, latents[1:], torch.tensor([900]), states[:1])
    assert not torch.allclose(alone, other, atol=1e-4)


def test_samples_are_the_pipelines_own(family, components):
    """Against diffusers' pipeline loaded from disk, called the ordinary way."""
    spec = SampleSpec("ddim", inference_steps=3, guidance_scale=5.0)
    latents, generators = draw(family, components)
    images = family.sample(components, PROMPTS, latents, spec, generators)
    assert images.shape == (2, tiny.RESOLUTION, tiny.RESOLUTION, 3)
    assert images.dtype == np.uint8
    pipeline = StableDiffusionPipeline.from_pretrained(components.model.repo)
    pipeline.scheduler = make_scheduler("ddim", dict(pipeline.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    own = pipeline(
        PROMPTS, latents=latents, num_inference_steps=3, guidance_scale=5.0, output_type="pil",
        height=tiny.RESOLUTION, width=tiny.RESOLUTION,
    ).images  # fmt: skip
    assert np.abs(images.astype(int) - np.stack([np.asarray(image) for image in own])).max() <= 1


def test_each_text_is_encoded_once_and_the_images_stay_the_same_bits(family, components):
    """Against the pipeline that encodes every row of the batch, and the empty prompt as often."""
    prompts, spec = [PROMPTS[0], *PROMPTS, PROMPTS[0]], SampleSpec("euler_a", inference_steps=3)
    latents, generators = draw(family, components, 4)
    pipeline = StableDiffusionPipeline.from_pretrained(components.model.repo)
    pipeline.scheduler = make_scheduler("euler_a", dict(pipeline.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    own = pipeline(
        prompts, latents=latents, num_inference_steps=3, generator=generators, output_type="np",
        height=tiny.RESOLUTION, width=tiny.RESOLUTION,
    ).images  # fmt: skip
    encoded, (latents, generators) = [], draw(family, components, 4)
    hook = components.text_encoder.register_forward_pre_hook(lambda _, args: encoded.append(len(args[0])))
    images = family.sample(components, prompts, latents, spec, generators)
    hook.remove()
    assert sum(encoded) == 3  # the two prompts and the empty one
    assert np.array_equal(images, np.round(own * 255).astype(np.uint8))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_sample_each_image_for_itself(scheduler, family, components):
    """The same image whatever else is in the batch, also where the scheduler adds noise; no global randomness."""
    spec = SampleSpec(scheduler, inference_steps=4)
    latents, generators = draw(family, components)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    together = family.sample(components, PROMPTS, latents, spec, generators)
    assert torch.equal(state, torch.random.get_rng_state())
    latents, generators = draw(family, components)
    alone = family.sample(components, PROMPTS[1:], latents[1:], spec, generators[1:])
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    config = make_scheduler(scheduler, components.scheduler_config).config
    assert config.prediction_type == components.scheduler_config["prediction_type"]
    assert config.beta_schedule == "scaled_linear"


def test_scheduler_names_agree():
    assert set(SCHEDULER_CLASSES) == set(SCHEDULERS)


def test_half_precision_samples_nearly_the_same(family, components):
    latents, generators = draw(family, components)
    full = family.sample(components, PROMPTS, latents, SampleSpec("ddim", 3), generators)
    half = family.sample(components, PROMPTS, latents, SampleSpec("ddim", 3, precision="bf16"), generators)
    assert np.abs(full.astype(int) - half).mean() < 8
    assert components.unet.dtype == torch.float32


def test_saved_pipeline_loads_and_samples_the_same(family, components, tmp_path):
    family.save_pipeline(components, tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    DiffusionPipeline.from_pretrained(tmp_path)
    again = family.load(ModelSpec(revision="saved", repo=str(tmp_path), resolution=tiny.RESOLUTION))
    latents, generators = draw(family, components)
    images = [family.sample(c, PROMPTS, latents, SampleSpec("pndm", 3), generators) for c in (components, again)]
    assert np.array_equal(*images)


def test_what_is_nowhere_is_said_in_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = ModelSpec(revision="x@main", repo="no-such-owner/no-such-model")
    with pytest.raises(SpecError, match="no-such-owner/no-such-model cannot be loaded") as caught:
        family_of(model).load(model)
    assert "\n" not in str(caught.value)


def test_unknown_family():
    with pytest.raises(SpecError, match="model.family=sd9 is unknown; one of stable_diffusion"):
        family_of(ModelSpec(revision="", family="sd9"))
