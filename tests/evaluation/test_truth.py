"""The metrics and the sweet spot where the truth is known: on renders, through the miniature's own encoders.

A training is played by renders: first other objects of the class (underfit), then half of the subject's attributes,
then the subject in the asked-for places, at last the photographs' scenes whatever the prompt (overfit), the same image
again and again (collapse).
"""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import miniature
from evaluation.baselines import photograph_values
from evaluation.evaluate import plain
from evaluation.features import ClipEncoder, DinoEncoder, encode
from evaluation.metrics import Reference, Samples, score
from evaluation.spec import fill
from evaluation.sweetspot import Candidate, find
from miniature.subjects import IDENTITIES, SUBJECTS, instance_scenes, subject_scene
from miniature.world import render, sample_pose, sample_scene
from trainers.prompts import class_words

WEIGHTS = Path(miniature.__file__).parent / "weights"
PLACES = ("beach", "jungle", "night", "space")
PROMPTS = (
    "a photo of {} on the beach",
    "a photo of {} in the jungle",
    "a photo of {} at night",
    "a photo of {} in space",
)
STAGES = ("underfit", "half", "good", "overfit", "collapse")  # one every 100 steps


@pytest.fixture(scope="module")
def encoders():
    return ClipEncoder(str(WEIGHTS / "clip")), DinoEncoder(str(WEIGHTS / "identity"))


def images_of(scenes):
    return np.stack([np.asarray(render(scene)) for scene in scenes])


def stages(subject, rng):
    """Stage -> uint8 [4 places, 3, 64, 64, 3]."""
    noun, photographs = IDENTITIES[subject]["noun"], instance_scenes(subject)

    def other(place):
        return sample_scene(rng, noun, place, "photo")

    def good(place):
        return subject_scene(subject, place, sample_pose(rng), rng.randrange(2**31))

    def half(place):
        scene, facts = good(place), other(place).facts
        names = [name for name in sorted(facts) if facts[name] != "none" and name != "hair_style"]  # bald: no hair
        return scene.with_facts(**{name: facts[name] for name in rng.sample(names, len(names) // 2)})

    def overfit(place):
        return replace(rng.choice(photographs), pose=sample_pose(rng))

    draw = {"underfit": other, "half": half, "good": good, "overfit": overfit, "collapse": lambda place: photographs[0]}
    return {name: np.stack([images_of([make(p) for _ in range(3)]) for p in PLACES]) for name, make in draw.items()}


@pytest.fixture(scope="module", params=SUBJECTS)
def played(request, encoders):
    """(scores by stage, baselines) of a subject's training as the stages play it."""
    rng, noun = random.Random(0), IDENTITIES[request.param]["noun"]
    texts = encoders[0].text([fill(prompt, class_words(noun)) for prompt in PROMPTS])
    reference = Reference(encode(images_of(instance_scenes(request.param)), *encoders), texts)
    kept = encode(images_of([sample_scene(rng, noun, "plain", "photo") for _ in range(4)])[None], *encoders)
    drifted = encode(images_of(instance_scenes(request.param)[:4])[None], *encoders)

    def scored(pixels, of_class):
        return score(Samples(encode(pixels, *encoders), of_class, np.ones((5, 1))), reference)

    made = stages(request.param, rng)
    scores = {name: scored(pixels, kept) for name, pixels in made.items()}
    scores["drifted"] = scored(made["good"], drifted)
    noisy = made["good"] + np.random.default_rng(0).normal(0, 12, made["good"].shape)
    scores["noisy"] = scored(noisy.clip(0, 255).astype(np.uint8), kept)
    untuned = scored(stages(request.param, random.Random(1))["underfit"], kept)
    return scores, {"untuned": plain(untuned), "photographs": plain(photograph_values(reference))}


def spot_of(scores, baselines, names):
    candidates = [Candidate(name, "curve", "training", 100 * (i + 1), 2e-6, words=name) for i, name in enumerate(names)]
    return find(candidates, [{"values": plain(scores[name])} for name in names], [baselines] * len(names))


def test_fidelity_to_the_subject_rises_and_to_the_prompt_falls(played):
    scores, _ = played
    level = {name: (s["dino"].mean(), s["clip_t"].mean()) for name, s in scores.items()}
    assert level["underfit"][0] < level["half"][0] - 0.1 < level["good"][0] - 0.3
    assert level["overfit"][0] > level["good"][0] - 0.1
    assert level["good"][1] > level["overfit"][1] + 0.2


def test_the_good_checkpoint_is_the_sweet_spot(played):
    spot = spot_of(*played, STAGES)
    assert STAGES[spot.best] == "good"
    assert spot.s[2] == pytest.approx(1, abs=0.15)
    assert spot.t[2] == pytest.approx(1, abs=0.15)
    assert not spot.onset_told  # four prompts
    assert spot.score[3] < 0.3


def test_each_fault_is_vetoed_for_what_it_is(played):
    names = ("good", "overfit", "collapse", "drifted", "noisy")
    good, overfit, collapse, drifted, noisy = (" ".join(v) for v in spot_of(*played, names).vetoes)
    assert good == ""
    assert "copies the photographs" in overfit
    assert "collapse" in collapse
    assert "the class has turned" in drifted
    assert "noisy" in noisy
    assert "copies" not in drifted + noisy
