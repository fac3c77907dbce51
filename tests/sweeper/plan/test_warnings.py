"""What is said before a sweep begins."""

import shutil

import pytest
from hydra import compose, initialize_config_dir

from miniature.captions import NOUNS
from sweeper import forecast
from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import CONF, expand, parse
from sweeper.plan.warnings import MINIATURE, MINIATURE_NOUNS, warnings
from trainers.errors import SpecError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return shutil.copytree(MINIATURE / "subjects" / "cat_toy", tmp_path_factory.mktemp("own") / "dog")


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def of(*typed):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compile_plan(expand(parse([*typed], None), lambda lines: compose("sweep", lines)).cells)

    return of


def test_the_miniatures_nouns_are_those_it_was_trained_on():
    assert tuple(NOUNS) == MINIATURE_NOUNS


@pytest.mark.parametrize("subject", ["cat_toy", "face", "pig_head", "potato_head"])
def test_nothing_is_said_of_the_miniatures_own_subjects(plan, subject):
    assert warnings(plan(f"subject={subject}")) == []


def test_a_word_that_the_miniature_does_not_know_is_said(plan):
    (said,) = warnings(plan("subject.class_noun=teapot", "lr=1e-6,2e-6"))
    assert "'teapot' means nothing to it" in said
    assert "ten nouns: cat toy" in said
    assert "64 pixels" in said
    assert "model=sd15" in said
    assert "photographs" not in said


def test_photographs_of_ones_own_are_said(plan, photographs):
    (said,) = warnings(plan(f"subject.images={photographs}", "subject.class_noun=dog"))
    assert "Of photographs it learns colours" in said
    assert "means nothing" not in said


@pytest.mark.parametrize(("visible", "lines"), [("", 1), ("0", 0)])
def test_a_real_model_without_a_gpu_is_said(plan, photographs, monkeypatch, visible, lines):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    said = warnings(plan("model=sd15", f"subject.images={photographs}", "subject.class_noun=teapot"))
    assert len(said) == lines
    assert all("no GPU is visible" in line for line in said)


@pytest.mark.parametrize(
    ("seconds", "force", "refused"),
    [
        (forecast.DAYS - 1, False, False),
        (forecast.DAYS, False, True),
        (forecast.DAYS, True, False),
        (None, False, False),
    ],
)
def test_what_takes_days_without_a_gpu_has_to_be_forced(plan, photographs, seconds, force, refused):
    model = plan("model=sd15", f"subject.images={photographs}", "subject.class_noun=dog").trainings[0].spec.model
    if refused:
        with pytest.raises(SpecError, match="model=sd15 takes about 2 days here.*force=true"):
            forecast.check_patience(seconds, model, force)
    else:
        forecast.check_patience(seconds, model, force)
    forecast.check_patience(10 * forecast.DAYS, plan("lr=1e-6").trainings[0].spec.model, False)


def test_with_a_gpu_nothing_has_to_be_forced(plan, photographs, monkeypatch):
    model = plan("model=sd15", f"subject.images={photographs}", "subject.class_noun=dog").trainings[0].spec.model
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    forecast.check_patience(10 * forecast.DAYS, model, False)
