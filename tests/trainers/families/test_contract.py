"""What a model family must provide, asked of every one. For each member of `Family` there is a test of its name."""

import copy

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from torch import nn

from tests.trainers import tiny
from tests.trainers.families.pipelines import PIPELINES, PROMPTS, TOKEN, draw, sampled, untested
from trainers.errors import SpecError
from trainers.families import FAMILIES, family_of
from trainers.families.base import Family, ForwardProcess
from trainers.families.defaults import DEFAULTS
from trainers.schedulers import SCHEDULER_CLASSES, make_scheduler
from trainers.spec import SCHEDULERS, TRAINERS, ModelSpec, SampleSpec


def test_every_family_has_a_tiny_pipeline():
    assert set(PIPELINES) == set(FAMILIES) == set(DEFAULTS)


def test_every_member_has_a_test():
    assert not untested(Family, __name__)


def test_name_is_the_one_in_the_index(family, pipeline_model):
    assert FAMILIES[family.name]
    assert family.name == pipeline_model.family


def test_trainable_encoders_are_encoders(family, components):
    assert set(family.trainable_encoders) <= set(components.encoders)


def test_defaults_are_possible(family):
    defaults = family.defaults
    assert defaults is DEFAULTS[family.name]
    assert set(defaults.trainers) <= set(TRAINERS)
    assert defaults.scheduler in defaults.schedulers
    assert all(trainer.lr > 0 and trainer.lr_scale > 0 for trainer in defaults.trainers.values())
    assert defaults.lora_targets
    assert bool(defaults.lora_text_targets) == bool(family.trainable_encoders)


def test_load_is_frozen_and_at_hand(family, components):
    again = family.load(components.model)
    assert again.network is components.network
    for module in components.parts.values():
        assert not module.training
        assert all(w.dtype == torch.float32 and not w.requires_grad for w in module.parameters())


def test_load_says_in_one_line_what_is_nowhere(family, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = ModelSpec(revision="x@main", family=family.name, repo="no-such-owner/no-such-model")
    with pytest.raises(SpecError, match="no-such-owner/no-such-model is not whole in the local cache") as caught:
        family.load(model)
    assert "\n" not in str(caught.value)


def test_blank_has_the_shapes_and_no_weights(family, components):
    with torch.device("meta"):
        blank = family.blank(components.model)
    assert set(blank.parts) == set(components.parts)
    assert blank.network_name == components.network_name
    for name, part in components.parts.items():
        shapes = {key: (weight.shape, weight.dtype) for key, weight in part.named_parameters()}
        assert {key: (w.shape, w.dtype) for key, w in blank.parts[name].named_parameters()} == shapes
        assert all(w.is_meta and not w.requires_grad for w in blank.parts[name].parameters())
    assert [len(t) for t in blank.tokenizers.values()] == [len(t) for t in components.tokenizers.values()]


def test_with_checkpoint_puts_whole_networks_over_the_untuned(family, components, tmp_path):
    names = (components.network_name, *family.trainable_encoders)
    for name in names:
        part = copy.deepcopy(components.parts[name])
        for weight in part.parameters():
            weight.data += 0.01
        part.save_pretrained(tmp_path / name, safe_serialization=True)
    tuned = family.with_checkpoint(components, tmp_path)
    for name, part in tuned.parts.items():
        moved = not torch.equal(next(part.parameters()), next(components.parts[name].parameters()))
        assert moved == (name in names)
        assert not part.training
        assert all(w.dtype == torch.float32 and not w.requires_grad for w in part.parameters())


def test_with_checkpoint_of_nothing_is_the_untuned(family, components, tmp_path):
    assert dict(family.with_checkpoint(components, tmp_path).parts) == dict(components.parts)


def adapted(module: nn.Module, targets: tuple[str, ...]) -> nn.Module:
    """A copy with adapters that change something."""
    module = copy.deepcopy(module)
    torch.manual_seed(0)
    module.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=list(targets), init_lora_weights=False))
    return module


@pytest.mark.parametrize("text", [False, True])
def test_save_lora_is_read_back_and_by_diffusers(text, family, components, tmp_path):
    if text and not family.trainable_encoders:
        pytest.skip("the family's text encoders do not learn")
    network = adapted(components.network, family.defaults.lora_targets)
    encoders = {
        name: adapted(components.parts[name], family.defaults.lora_text_targets)
        for name in (family.trainable_encoders if text else ())
    }
    family.save_lora(tmp_path, network, encoders)
    tuned = family.with_checkpoint(components, tmp_path)
    with_adapters = components.with_parts({components.network_name: network, **encoders})
    images = sampled(family, tuned)
    assert np.abs(images.astype(int) - sampled(family, with_adapters)).max() <= 1
    assert not np.array_equal(images, sampled(family, components))
    pipeline = own_pipeline(components)
    pipeline.load_lora_weights(tmp_path)
    assert np.abs(images.astype(int) - own_images(pipeline, family, components)).max() <= 1


def test_save_tokens_is_read_back(family, components, tmp_path):
    if not family.trainable_encoders:
        pytest.skip("the family's text encoders do not learn")
    family.save_tokens(tmp_path / "none", {name: {} for name in family.trainable_encoders})
    assert not list(tmp_path.rglob("*.safetensors"))
    learned = {}
    for name in family.trainable_encoders:
        width = components.parts[name].get_input_embeddings().embedding_dim
        learned[name] = {TOKEN: torch.randn(2, width)}
    family.save_tokens(tmp_path, learned)
    tuned = family.with_checkpoint(components, tmp_path)
    assert tuned.aliases == (("new", TOKEN),)
    for name, tokens in learned.items():
        ids = tuned.tokenizers[name].convert_tokens_to_ids([TOKEN, f"{TOKEN}_1"])
        assert torch.equal(tuned.parts[name].get_input_embeddings().weight[ids], tokens[TOKEN])
    assert not np.array_equal(sampled(family, tuned, ["a photo of new"]), sampled(family, components, ["a photo of a"]))
    assert TOKEN not in components.tokenizers[name].get_vocab()


def test_save_pipeline_loads_and_samples_the_same(family, components, tmp_path):
    family.save_pipeline(components, tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    DiffusionPipeline.from_pretrained(tmp_path)
    again = family.load(ModelSpec(revision="saved", family=family.name, repo=str(tmp_path), resolution=tiny.RESOLUTION))
    assert np.array_equal(sampled(family, components), sampled(family, again))


def test_latent_shape_is_that_of_encoded_images(family, components):
    pixels = torch.zeros(1, 3, tiny.RESOLUTION, tiny.RESOLUTION)
    mean, _ = family.encode_images(components.autoencoder, pixels)
    assert mean.shape[1:] == family.latent_shape(components, tiny.RESOLUTION)


def test_encode_images_gives_mean_and_deviation(family, components):
    pixels = torch.rand(2, 3, tiny.RESOLUTION, tiny.RESOLUTION) * 2 - 1
    mean, std = family.encode_images(components.autoencoder, pixels)
    assert mean.shape == std.shape == (2, *family.latent_shape(components, tiny.RESOLUTION))
    assert mean.dtype == std.dtype == torch.float32
    assert (std >= 0).all()
    alone, _ = family.encode_images(components.autoencoder, pixels[1:])
    assert torch.allclose(mean[1:], alone, atol=1e-5)
    assert not torch.allclose(mean[0], mean[1], atol=1e-3)


def own_pipeline(components):
    pipeline = DiffusionPipeline.from_pretrained(components.model.repo)
    scheduler = family_of(components.model).defaults.scheduler
    pipeline.scheduler = make_scheduler(scheduler, dict(pipeline.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def own_images(pipeline, family, components, steps=2):
    """PROMPTS as diffusers' pipeline samples them, called the ordinary way."""
    latents, _ = draw(family, components)
    images = pipeline(
        PROMPTS, latents=latents, num_inference_steps=steps, guidance_scale=7.5, output_type="pil",
        height=tiny.RESOLUTION, width=tiny.RESOLUTION,
    ).images  # fmt: skip
    return np.stack([np.asarray(image) for image in images])


def test_sample_gives_the_images_of_diffusers_pipeline(family, components):
    images = sampled(family, components, steps=3)
    assert images.shape == (2, tiny.RESOLUTION, tiny.RESOLUTION, 3)
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - own_images(own_pipeline(components), family, components, 3)).max() <= 1


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_sample_makes_each_image_for_itself(scheduler, family, components):
    """The same image whatever else is in the batch, also where the scheduler adds noise; no global randomness."""
    if scheduler not in family.defaults.schedulers:
        pytest.skip("no scheduler of this family")
    spec = SampleSpec(scheduler, inference_steps=4)
    latents, generators = draw(family, components)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    together = family.sample(components, PROMPTS, latents, spec, generators)
    assert torch.equal(state, torch.random.get_rng_state())
    latents, generators = draw(family, components)
    alone = family.sample(components, PROMPTS[1:], latents[1:], spec, generators[1:])
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1


def test_sample_in_half_precision_is_nearly_the_same(family, components):
    half = sampled(family, components, precision="bf16")
    assert np.abs(sampled(family, components).astype(int) - half).mean() < 8
    assert all(weight.dtype == torch.float32 for weight in components.network.parameters())


def test_scheduler_names_agree():
    assert set(SCHEDULER_CLASSES) == set(SCHEDULERS)
    assert all(set(defaults.schedulers) <= set(SCHEDULERS) for defaults in DEFAULTS.values())


def test_tokenize_has_a_row_for_each_prompt(family, components):
    tokens = family.tokenize(components, [*PROMPTS, "a photo of " + "sks dog " * 1000])
    assert len(tokens) == 3
    assert not any(tensor.is_floating_point() for tensor in tokens.tensors.values())
    again = family.tokenize(components, PROMPTS[:1])
    assert all(torch.equal(tokens[:1].tensors[name], tensor) for name, tensor in again.tensors.items())


def test_encode_text_lets_gradients_through(family, components):
    encoders = {name: copy.deepcopy(encoder).requires_grad_(True) for name, encoder in components.encoders.items()}
    text = family.encode_text(encoders, family.tokenize(components, PROMPTS))
    sum(tensor.sum() for tensor in text.tensors.values() if tensor.requires_grad).backward()
    for name in family.trainable_encoders:
        assert encoders[name].get_input_embeddings().weight.grad.any()


@pytest.mark.parametrize("encoded", [False, True])
def test_blank_text_has_the_shapes(encoded, family, components):
    real = family.condition(components, PROMPTS) if encoded else family.tokenize(components, PROMPTS)
    blank = family.blank_text(components, len(PROMPTS), encoded)
    assert {name: (t.shape, t.dtype) for name, t in blank.tensors.items()} == {
        name: (t.shape, t.dtype) for name, t in real.tensors.items()
    }
    assert {name: mask.shape for name, mask in blank.masks.items()} == {n: m.shape for n, m in real.masks.items()}


def test_condition_encodes_what_tokenize_gives(family, components):
    tokens = family.tokenize(components, PROMPTS)
    expected, text = family.encode_text(components.encoders, tokens), family.condition(components, PROMPTS)
    assert all(torch.equal(text.tensors[name], tensor) for name, tensor in expected.tensors.items())


def test_forward_process_is_one(family, components):
    assert isinstance(family.forward_process(components, torch.device("cpu")), ForwardProcess)


def test_predict_depends_on_the_prompt_alone_of_its_row(family, components, process):
    latents, _ = draw(family, components)
    text = family.condition(components, PROMPTS)
    timesteps = torch.cat([process.at(0.1, 1), process.at(0.9, 1)])
    together = family.predict(components.network, latents, timesteps, text)
    assert together.shape == latents.shape
    alone = family.predict(components.network, latents[1:], timesteps[1:], text[1:])
    assert torch.allclose(together[1:], alone, atol=1e-5)
    other = family.predict(components.network, latents[1:], timesteps[1:], text[:1])
    assert not torch.allclose(alone, other, atol=1e-4)


def test_unknown_family():
    with pytest.raises(SpecError, match="model.family=sd9 is unknown; one of stable_diffusion"):
        family_of(ModelSpec(revision="", family="sd9"))
