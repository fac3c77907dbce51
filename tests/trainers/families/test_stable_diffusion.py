"""What is particular to Stable Diffusion 1.x and 2.x."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from tests.trainers import tiny
from trainers.families import family_of, stable_diffusion
from trainers.schedulers import make_scheduler
from trainers.spec import SCHEDULERS, SampleSpec, TrainerSpec

PROMPTS = ["a photo of sks dog", "a photo of a cat on the beach"]


@pytest.fixture(params=["epsilon", "v_prediction"])
def components(request, pipelines):
    model = tiny.model_spec(pipelines[request.param])
    return family_of(model).load(model)


@pytest.fixture
def family(components):
    return family_of(components.model)


def test_defaults_are_those_of_the_trainers(family):
    trainer = TrainerSpec()
    assert family.defaults.lora_targets == trainer.lora_targets
    assert family.defaults.lora_text_targets == trainer.lora_text_targets
    assert family.defaults.lora_rank == trainer.lora_rank


def test_latents_are_scaled(family, components):
    pixels = torch.rand(2, 3, tiny.RESOLUTION, tiny.RESOLUTION) * 2 - 1
    mean, std = family.encode_images(components.autoencoder, pixels)
    posterior = components.autoencoder.encode(pixels).latent_dist
    draws = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    expected = posterior.sample(torch.Generator().manual_seed(0)) * components.autoencoder.config.scaling_factor
    assert torch.allclose(mean + std * draws, expected, atol=1e-6)


def test_the_forward_process_follows_the_formulas(family, components):
    process = family.forward_process(components)
    latents = torch.randn(3, *family.latent_shape(components, tiny.RESOLUTION))
    noise, timesteps = torch.randn_like(latents), torch.tensor([0, 400, 999])
    alpha_bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)[timesteps]
    a, b = alpha_bar.sqrt()[:, None, None, None], (1 - alpha_bar).sqrt()[:, None, None, None]
    assert torch.allclose(process.noised(latents, noise, timesteps), a * latents + b * noise, atol=1e-5)
    target = noise if process.prediction == "epsilon" else a * noise - b * latents
    assert torch.allclose(process.target(latents, noise, timesteps), target, atol=1e-5)
    snr = alpha_bar / (1 - alpha_bar)
    assert torch.allclose(process.snr(timesteps), snr, rtol=1e-4)
    divisor = snr if process.prediction == "epsilon" else snr + 1
    assert torch.allclose(process.weights(timesteps, 5.0), snr.clamp(max=5.0) / divisor, rtol=1e-4)


def test_timesteps_are_uniform(family, components):
    process = family.forward_process(components)
    drawn = process.draw(100_000, torch.Generator().manual_seed(0))
    assert drawn.min() == 0
    assert drawn.max() == 999
    assert float(drawn.float().mean()) == pytest.approx(499.5, abs=5 * math.sqrt(1000**2 / 12 / 100_000))
    assert process.at(0.3, 2).tolist() == [300, 300]


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
    encoder = components.encoders["text_encoder"]
    hook = encoder.register_forward_pre_hook(lambda _, args: encoded.append(len(args[0])))
    images = family.sample(components, prompts, latents, spec, generators)
    hook.remove()
    assert sum(encoded) == 3  # the two prompts and the empty one
    assert np.array_equal(images, np.round(own * 255).astype(np.uint8))


def draw(family, components, count):
    shape = family.latent_shape(components, tiny.RESOLUTION)
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    return torch.stack([torch.randn(shape, generator=g) for g in generators]), generators


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_have_the_models_own_noise(scheduler, components):
    config = make_scheduler(scheduler, components.scheduler_config).config
    assert config.prediction_type == components.scheduler_config["prediction_type"]
    assert config.beta_schedule == "scaled_linear"


@pytest.fixture
def half(components):
    """Samples in fp16; an autoencoder that is given is in the place of the model's own."""
    family = family_of(components.model)
    stable_diffusion.OVERFLOWED.clear()
    spec = SampleSpec("ddim", inference_steps=2, precision="fp16")

    def sample(vae=None, precision="fp16"):
        chosen = components.with_parts({"vae": vae}) if vae else components
        latents, generators = draw(family, components, 2)
        return family.sample(chosen, PROMPTS, latents, replace(spec, precision=precision), generators)

    yield sample
    stable_diffusion.OVERFLOWED.clear()


@pytest.fixture
def decoded_in(monkeypatch):
    """The precisions in which images were decoded."""
    seen, decode = [], AutoencoderKL.decode

    def spied(vae, latents, *args, **kwargs):
        seen.append(vae.dtype)
        return decode(vae, latents, *args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "decode", spied)
    return seen


def configured(vae, upcast):
    """The autoencoder as a repository has it whose configuration says `upcast`; None: whose does not mention it."""
    config = {name: value for name, value in vae.config.items() if name not in ("force_upcast", "_use_default_values")}
    copied = AutoencoderKL.from_config({**config, **({} if upcast is None else {"force_upcast": upcast})})
    copied.load_state_dict(vae.state_dict())
    return copied.eval().requires_grad_(False)


@pytest.mark.parametrize(("upcast", "dtype"), [(True, torch.float32), (False, torch.float16), (None, torch.float16)])
def test_an_autoencoder_that_says_it_overflows_decodes_in_fp32(upcast, dtype, half, components, decoded_in):
    vae = configured(components.autoencoder, upcast)
    images = half(vae)
    assert decoded_in == [dtype]
    assert np.abs(images.astype(int) - half(precision="no")).mean() < 8


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_only_fp16_overflows(precision, half, components, decoded_in):
    half(configured(components.autoencoder, True), precision)
    assert decoded_in == [{"no": torch.float32, "bf16": torch.bfloat16}[precision]]


def test_an_autoencoder_that_overflows_decodes_in_fp32_for_good(half, components, decoded_in, caplog):
    vae = configured(components.autoencoder, None)
    vae.decoder.conv_in.weight.mul_(3e4)  # the normalisation behind it takes that back
    vae.decoder.conv_in.bias.mul_(3e4)
    images = half(vae)
    assert decoded_in == [torch.float16, torch.float32]
    assert [record.message for record in caplog.records] == [
        "the autoencoder overflows in fp16: from here on it decodes in fp32"
    ]
    assert np.abs(images.astype(int) - half(vae, "no")).mean() < 8
    decoded_in.clear()
    assert np.array_equal(half(vae), images)
    assert decoded_in == [torch.float32]
    assert len(caplog.records) == 1
