"""The rendered world: images are functions of scenes, and what a scene says is what is drawn."""

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from miniature import labels
from miniature.attributes import ATTRIBUTES, CLASSES, sample_attributes, values
from miniature.canvas import COLORS
from miniature.contexts import CONTEXTS
from miniature.pretrain.data import scene_from_seed
from miniature.subjects import FOLDER, IDENTITIES, NEW_CONTEXTS, SUBJECTS, held_out_scenes, instance_scenes
from miniature.world import SIZE, STYLES, Pose, Scene, render, sample_scene


def pixels(scene):
    return np.asarray(render(scene)).astype(int)


def test_a_scene_always_renders_to_the_same_bytes():
    for seed in range(20):
        assert render(scene_from_seed(seed)).tobytes() == render(scene_from_seed(seed)).tobytes()


@pytest.mark.parametrize("noun", CLASSES)
def test_every_class_renders_in_every_context_and_style(noun):
    rng = random.Random(0)
    for context in CONTEXTS:
        for style in STYLES:
            image = render(sample_scene(rng, noun, context, style))
            assert image.size == (SIZE, SIZE)
            assert image.mode == "RGB"


@pytest.mark.parametrize("noun", CLASSES)
def test_every_value_of_every_attribute_changes_the_image(noun):
    scene = Scene(noun, tuple(sample_attributes(noun, random.Random(3)).items()), "plain")
    if noun == "face":
        scene = scene.with_facts(hair_style="short", hair="black", glasses="none", hat="none")
    if noun == "ball":
        scene = scene.with_facts(pattern="stripe", second="none")
    for attribute in ATTRIBUTES[noun]:
        others = [value for value in values(noun, attribute) if value not in (scene.facts[attribute], "none")]
        if noun == "ball":
            scene = scene.with_facts(second="black" if scene.facts["color"] == "white" else "white")
        for value in others:
            assert (pixels(scene) != pixels(scene.with_facts(**{attribute: value}))).any(), (attribute, value)


@pytest.mark.parametrize("color", COLORS)
def test_the_named_color_is_the_color_drawn(color):
    facts = {"color": color, "shade": "plain", "pattern": "plain", "second": "none"}
    center = pixels(Scene("ball", tuple(facts.items()), "plain", pose=Pose(0.5, 0.5)))[36:44, 28:36].mean((0, 1))
    assert min(COLORS, key=lambda name: abs(center - COLORS[name]).sum()) == color


def test_truth_says_nothing_of_colors_in_a_sketch():
    scene = replace(scene_from_seed(0, noun="car"), style="sketch")
    assert "color" not in labels.truth(scene)
    assert labels.truth(scene)["car/body"] == scene.facts["body"]
    assert labels.truth(replace(scene, style="photo"))["color"] == scene.facts["color"]


def test_labels_decode_to_the_truth():
    scene = scene_from_seed(1, noun="face", style="photo")
    row = labels.encode_labels([scene])[0]
    decoded = {name: labels.HEADS[name][row[i]] for i, name in enumerate(labels.NAMES) if row[i] != labels.UNKNOWN}
    assert decoded == labels.truth(scene)
    assert decoded["face/mouth"] == scene.facts["mouth"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_committed_instance_images_are_the_renders(subject):
    files = sorted((FOLDER / subject).iterdir())
    assert [file.name for file in files] == [f"{index:02d}.png" for index in range(5)]
    for file, scene in zip(files, instance_scenes(subject), strict=True):
        assert Image.open(file).tobytes() == render(scene).tobytes()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_is_fully_specified_and_held_out_renders_show_it_elsewhere(subject):
    identity = IDENTITIES[subject]
    assert set(identity) == {"noun", *ATTRIBUTES[identity["noun"]]}
    for name in ATTRIBUTES[identity["noun"]]:
        assert identity[name] in values(identity["noun"], name)
    trained, held_out = instance_scenes(subject), held_out_scenes(subject, 8)
    assert len({scene.context for scene in trained}) == 5
    assert {scene.context for scene in held_out} == set(NEW_CONTEXTS)
    assert {scene.attributes for scene in trained} == {scene.attributes for scene in held_out}
