"""What a model family must provide, asked of every one. For each member of the contract there is a test of its name.

A new family needs an entry in PIPELINES: a function that writes a tiny random pipeline of it.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from torch import nn

from tests.trainers import tiny
from trainers.errors import SpecError
from trainers.families import FAMILIES, family_of
from trainers.families.base import Components, Conditioning, Family, ForwardProcess
from trainers.families.defaults import DEFAULTS
from trainers.schedulers import SCHEDULER_CLASSES, make_scheduler
from trainers.spec import SCHEDULERS, TRAINERS, ModelSpec, SampleSpec

PIPELINES: dict[str, dict[str, Callable[[Path], Path]]] = {
    "stable_diffusion": {
        "1.x": tiny.make_pipeline,
        "2.x": lambda folder: tiny.make_pipeline(folder, prediction="v_prediction", second=True),
    },
}
KINDS = [(family, kind) for family, kinds in PIPELINES.items() for kind in kinds]
PROMPTS = ["a photo of sks dog", "a photo of a cat on the beach"]
TOKEN = "<new>"


def members(contract: type) -> set[str]:
    """The public methods, properties and attributes of an abstract class."""
    names = {*vars(contract), *getattr(contract, "__annotations__", {})}
    return {name for name in names if not name.startswith("_")}


def test_every_family_has_a_tiny_pipeline():
    assert set(PIPELINES) == set(FAMILIES) == set(DEFAULTS)


@pytest.mark.parametrize("contract", [Family, ForwardProcess, Conditioning, Components])
def test_every_member_of_the_contract_has_a_test(contract):
    tests = [name for name in globals() if name.startswith("test_")]
    asked = {member for member in members(contract) if any(test.startswith(f"test_{member}_") for test in tests)}
    assert asked == members(contract)


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def pipeline_model(request, tmp_path_factory):
    family, kind = request.param
    folder = PIPELINES[family][kind](tmp_path_factory.mktemp("pipeline"))
    return ModelSpec(revision=str(folder), family=family, repo=str(folder), resolution=tiny.RESOLUTION)


@pytest.fixture
def family(pipeline_model) -> Family:
    return family_of(pipeline_model)


@pytest.fixture
def components(family, pipeline_model) -> Components:
    return family.load(pipeline_model)


@pytest.fixture
def process(family, components) -> ForwardProcess:
    return family.forward_process(components)


def draw(family, components, count=2, seed=0):
    """Latents and the generators they came from."""
    shape = family.latent_shape(components, tiny.RESOLUTION)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return torch.stack([torch.randn(shape, generator=g) for g in generators]), generators


def sampled(family, components, prompts=PROMPTS, steps=2, **options):
    latents, generators = draw(family, components, len(prompts))
    spec = SampleSpec(**{"scheduler": family.defaults.scheduler, "inference_steps": steps, **options})
    return family.sample(components, prompts, latents, spec, generators)


# --- the family ---


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
    with pytest.raises(SpecError, match="no-such-owner/no-such-model cannot be loaded") as caught:
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


# --- its forward process ---


def test_draw_is_repeatable_and_on_the_way(process):
    state = torch.random.get_rng_state()
    drawn = process.draw(1000, torch.Generator().manual_seed(0))
    assert drawn.shape == (1000,)
    assert drawn.device.type == "cpu"
    assert torch.equal(drawn, process.draw(1000, torch.Generator().manual_seed(0)))
    assert torch.equal(state, torch.random.get_rng_state())
    assert drawn.float().std() > 0


def test_at_goes_from_clean_to_noise(process, family, components):
    latents, _ = draw(family, components)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(9))
    distances = []
    for fraction in (0.05, 0.5, 0.95):
        timesteps = process.at(fraction, len(latents))
        assert timesteps.shape == (2,)
        assert timesteps.dtype == process.draw(1, torch.Generator()).dtype
        distances.append(float((process.noised(latents, noise, timesteps) - latents).square().mean()))
    assert distances == sorted(distances)


def test_noised_treats_each_sample_by_its_timestep(process, family, components):
    latents, _ = draw(family, components)
    noise = torch.randn_like(latents)
    timesteps = torch.cat([process.at(0.2, 1), process.at(0.8, 1)])
    together = process.noised(latents, noise, timesteps)
    assert together.shape == latents.shape
    assert torch.equal(together[1:], process.noised(latents[1:], noise[1:], timesteps[1:]))


def test_target_is_shaped_as_the_latents_and_knows_the_noise(process, family, components):
    latents, _ = draw(family, components)
    timesteps = process.at(0.5, 2)
    one, other = (process.target(latents, noise, timesteps) for noise in (torch.zeros_like(latents), latents.flip(0)))
    assert one.shape == latents.shape
    assert not torch.equal(one, other)


def test_weights_are_none_without_a_gamma(process):
    timesteps = torch.cat([process.at(fraction, 1) for fraction in (0.1, 0.5, 0.9)])
    assert process.weights(timesteps, None) is None
    try:
        weights = process.weights(timesteps, 5.0)
    except SpecError:
        return
    assert weights.shape == (3,)
    assert ((weights > 0) & (weights <= 1)).all()
    assert len(set(weights.tolist())) > 1


# --- what all families share ---


def ragged(lengths: list[int], rows: int = 1) -> list[Conditioning]:
    return [
        Conditioning(
            {"states": torch.full((rows, length, 3), float(length)), "pooled": torch.full((rows, 2), float(length))},
            {"states": torch.ones(rows, length, dtype=torch.bool)},
        )
        for length in lengths
    ]


def test_tensors_and_masks_are_joined_and_padded():
    text = Conditioning.cat(ragged([2, 5, 3]))
    assert len(text) == 3
    assert text.tensors["states"].shape == (3, 5, 3)
    assert text.tensors["pooled"][:, 0].tolist() == [2.0, 5.0, 3.0]
    assert text.masks["states"].sum(1).tolist() == [2, 5, 3]
    assert not text.tensors["states"][~text.masks["states"]].any()


def test_cat_needs_no_mask_where_lengths_are_equal():
    ids = [Conditioning({"ids": torch.full((1, 4), i)}) for i in range(2)]
    assert Conditioning.cat(ids).tensors["ids"].tolist() == [[0] * 4, [1] * 4]
    assert not Conditioning.cat(ids).masks


def test_masks_follow_the_rows():
    text = Conditioning.cat(ragged([2, 5]))[torch.tensor([1, 0, 1])]
    assert text.masks["states"].sum(1).tolist() == [5, 2, 5]
    assert text.tensors["pooled"][:, 0].tolist() == [5.0, 2.0, 5.0]


def test_to_changes_the_precision_of_what_is_no_id(family, components):
    tensors = {"ids": torch.ones(1, 2, dtype=torch.long), "states": torch.ones(1, 2, 3)}
    text = Conditioning(tensors, {"ids": torch.ones(1, 2, dtype=torch.bool)})
    moved = text.to("cpu", torch.bfloat16)
    assert [moved.tensors[name].dtype for name in ("ids", "states")] == [torch.long, torch.bfloat16]
    assert moved.masks["ids"].dtype == torch.bool
    placed = components.to("cpu", "bf16")
    assert {weight.dtype for part in placed.parts.values() for weight in part.parameters()} == {torch.bfloat16}
    assert components.to("cpu").network is components.network


def test_parts_cannot_be_changed_in_place(components):
    with pytest.raises(TypeError):
        components.parts["vae"] = nn.Identity()
    with pytest.raises(TypeError):
        components.tokenizers["another"] = None


def test_with_parts_leaves_the_others(components):
    other = nn.Identity()
    changed = components.with_parts({components.network_name: other})
    assert changed.network is other
    assert changed.autoencoder is components.autoencoder
    assert components.network is not other


def test_model_and_network_name_are_as_loaded(components, pipeline_model):
    assert components.model == pipeline_model
    assert components.parts[components.network_name] is components.network


def test_network_name_encoders_and_autoencoder_are_parts(components):
    assert set(components.parts) == {components.network_name, *components.encoders, "vae"}


def test_network_is_what_learns(components):
    assert components.network is components.parts[components.network_name]


def test_encoders_have_a_tokenizer_each(components):
    assert set(components.encoders) == set(components.tokenizers)


def test_tokenizers_know_no_learned_word(components):
    assert all(TOKEN not in tokenizer.get_vocab() for tokenizer in components.tokenizers.values())


def test_autoencoder_is_the_vae(components):
    assert components.autoencoder is components.parts["vae"]


def test_scheduler_config_is_the_pipelines_own(components):
    own = dict(DiffusionPipeline.from_pretrained(components.model.repo).scheduler.config)
    known = {name: value for name, value in components.scheduler_config.items() if not name.startswith("_")}
    assert known == {name: value for name, value in own.items() if not name.startswith("_")}


def test_aliases_are_empty_in_an_untuned_model(components):
    assert components.aliases == ()


def test_unknown_family():
    with pytest.raises(SpecError, match="model.family=sd9 is unknown; one of stable_diffusion"):
        family_of(ModelSpec(revision="", family="sd9"))
