"""Captions say nothing false and not everything; any text can be encoded."""

import random
from dataclasses import replace

import pytest

from miniature.attributes import ATTRIBUTES, CLASSES
from miniature.canvas import COLOR_NAMES
from miniature.captions import DETAILS, NOUNS, PLACES, caption, false_caption
from miniature.pretrain import tokenizer as tokens
from miniature.pretrain.data import scene_from_seed


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.build()


def test_captions_vary_in_wording():
    rng = random.Random(0)
    scene = scene_from_seed(0, noun="cat toy", context="beach", style="photo")
    assert len({caption(scene, rng) for _ in range(50)}) > 30


@pytest.mark.parametrize("seed", range(200))
def test_a_caption_is_true(seed):
    scene = scene_from_seed(seed)
    text = caption(scene, random.Random(seed))
    assert any(noun in text for noun in NOUNS[scene.noun])
    places = PLACES.get(scene.context, ())
    assert any(place in text for place in places) or scene.context == "plain"
    others = [place for context, wordings in PLACES.items() if context != scene.context for place in wordings]
    assert not any(text.endswith(" " + place) for place in others)
    assert {word for word in text.split() if word in COLOR_NAMES} <= set(scene.facts.values())


def test_a_named_attribute_is_named():
    scene = scene_from_seed(4, noun="house", style="photo")
    for seed in range(20):
        assert f"{scene.facts['roof']} roof" in caption(scene, random.Random(seed), must_name=("roof",))


def test_no_colors_are_named_in_a_sketch():
    for seed in range(100):
        scene = replace(scene_from_seed(seed), style="sketch")
        assert not set(caption(scene, random.Random(seed)).split()) & set(COLOR_NAMES)


def test_a_false_caption_is_no_true_one():
    rng = random.Random(0)
    for seed in range(300):
        scene = scene_from_seed(seed)
        wrong = false_caption(scene, rng)
        assert wrong not in {caption(scene, rng) for _ in range(20)}


def test_some_attributes_are_never_named():
    for noun in CLASSES:
        assert set(ATTRIBUTES[noun]) - set(DETAILS[noun]) - {"color", "hat"}


def test_words_are_tokens_and_any_text_can_be_encoded(tokenizer):
    assert [len(tokenizer(word).input_ids) for word in ("sks", "jungle", "moustache")] == [3, 3, 3]
    for text in ("", "Zürich 猫 №1!?", "an antidisestablishmentarian zebra", "x" * 500):
        ids = tokens.encode(tokenizer, [text], "max_length")
        assert ids.shape == (1, tokens.MAX_LENGTH)
        assert ids[0, -1] == tokenizer.eos_token_id
    assert "猫" in tokenizer.decode(tokenizer("猫").input_ids)
