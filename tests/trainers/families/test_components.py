"""The components and the conditioning of every family. For each member of these classes there is a test of its name."""

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn

from tests.trainers.families.pipelines import TOKEN, untested
from trainers.families.base import Components, Conditioning


@pytest.mark.parametrize("contract", [Conditioning, Components])
def test_every_member_has_a_test(contract):
    assert not untested(contract, __name__)


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
