"""The score on renders: what is known to be wrong is seen to be wrong."""

import random
from dataclasses import replace

import pytest

from benchmarks.bank import Size
from benchmarks.bank_cells import everything, true_prompt, true_subject
from benchmarks.bank_scores import today
from benchmarks.score_on_renders import KINDS, rendered, report
from miniature.subjects import SUBJECTS, instance_scenes
from miniature.world import render

NAMES = ("other objects of the class", "half right", "all right", "photographs")


@pytest.fixture(scope="module")
def cells():
    return rendered("cat_toy", {name: KINDS[name] for name in NAMES}, replace(Size(images=3), prompts=4))


def test_the_judge_and_the_score_see_what_is_right(cells):
    other, half, right, copied = true_subject(cells, everything(cells))
    assert other + 0.15 < half < right - 0.15
    assert min(right, copied) > 0.9
    assert true_prompt(cells, everything(cells)).tolist() == pytest.approx([1, 1, 1, 0.25], abs=0.26)
    likeness = today(cells).s.mean((1, 2))
    assert likeness[0] + 0.15 < likeness[1] < likeness[2] - 0.15


def test_the_report_has_a_row_for_each_kind(cells):
    of_subjects = dict.fromkeys(("cat_toy", "face", "pig_head"), cells)
    text = report(of_subjects, NAMES)
    assert [line.split("|")[1].strip() for line in text.split("\n")[2:]] == list(NAMES)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_kind_of_every_subject_can_be_drawn(subject):
    for name, kind in KINDS.items():
        for seed in range(20):
            scene = kind(subject, "beach", "painting", random.Random(f"{name} {seed}"))
            render(scene)
            assert scene.noun.replace(" ", "_") == subject
    assert KINDS["photographs"](subject, "beach", "photo", random.Random(0)) in instance_scenes(subject)
