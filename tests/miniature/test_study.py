"""The fine-tuning study's measures, checked where the truth is rendered."""

import random

import numpy as np
import pytest

from miniature import study
from miniature.pretrain.data import render_all
from miniature.subjects import IDENTITIES, SUBJECTS, held_out_scenes, instance_scenes
from miniature.world import sample_scene


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_subject_is_recognized_and_others_of_its_class_are_not(subject):
    rng, noun = random.Random(0), IDENTITIES[subject]["noun"]
    same = study.attributes_right(subject, render_all(held_out_scenes(subject, 12)))
    others = study.attributes_right(subject, render_all([sample_scene(rng, noun, style="photo") for _ in range(24)]))
    assert same.mean() > 0.9
    assert others.mean() < 0.6


def test_what_is_of_another_class_has_none_of_the_subjects_attributes():
    houses = render_all([sample_scene(random.Random(seed), "house", style="photo") for seed in range(8)])
    assert study.attributes_right("face", houses).max() == 0


@pytest.mark.parametrize("subject", SUBJECTS)
def test_measures_tell_the_subject_from_the_class(subject):
    rng, noun = random.Random(1), IDENTITIES[subject]["noun"]
    asked = [context for _, context in study.prompts_of(subject) if context]
    same = held_out_scenes(subject, len(asked), contexts=asked)
    others = [sample_scene(rng, noun, context, "photo") for context in asked]
    rest = [sample_scene(rng, noun, "plain", "photo") for _ in range(study.WITHOUT_CONTEXT + study.OF_CLASS)]
    good = study.measure(subject, render_all(same + rest))
    untuned = study.measure(subject, render_all(others + rest))
    copied = study.measure(subject, render_all((instance_scenes(subject) * 10)[: len(same + rest)]))
    assert good["context"] == untuned["context"] == 1 > copied["context"]
    assert good["attributes"] > 0.9 > untuned["attributes"]
    assert good["identity"] > untuned["identity"] + 0.2
    assert copied["drift"] > 0.9 > good["drift"]
    assert good["clip_t"] > copied["clip_t"]


def test_trainings_are_the_posts():
    spec = study.spec_of(study.Training("face", 2e-6, prior=True), lr_scale=40)
    assert (spec.batch_size, spec.prior.num_class_images) == (2, 100)
    assert spec.effective_lr == pytest.approx(8e-5)
    assert study.spec_of(study.Training("cat_toy", 5e-6), 40).batch_size == 4


def test_every_checkpoint_gets_the_same_prompts():
    prompts = study.prompts_of("cat_toy")
    assert len(prompts) == study.IN_CONTEXT + study.WITHOUT_CONTEXT + study.OF_CLASS
    assert prompts[0][0] == "a photo of sks cat toy on the beach"
    assert prompts[-1] == ("a photo of a cat toy", None)
    assert np.all([context is not None for _, context in prompts[: study.IN_CONTEXT]])
