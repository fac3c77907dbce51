"""The experiments' files: their commands, what they share, and what becomes of them with a user's photographs."""

import re
from pathlib import Path

import pytest

from sweeper.blog.catalogue import EXPERIMENTS
from sweeper.blog.experiments import compose_all, of_kinds, quoted, read_photos, source
from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import options, parse
from tests.trainers import tiny
from trainers.errors import SpecError


@pytest.fixture(scope="module")
def experiments():
    return {experiment.name: experiment for experiment in compose_all(EXPERIMENTS, [], None)[0]}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for name in ("object/cat_toy", "object/o'clock", "object/mug", "object/too_many", "face/woman"):
        tiny.make_images(root / name, 2)
    return root


def test_each_file_says_how_to_run_it_and_marks_what_is_assumed():
    assert {name for name in options("experiment") if name.startswith("blog/")} == {f"blog/{n}" for n in EXPERIMENTS}
    for name in EXPERIMENTS:
        lines = source(name).read_text().splitlines()
        assert lines[0] == "# @package _global_"  # Hydra reads it there only
        assert lines[1] == f"# python sweep.py -m experiment=blog/{name}"
        assert any(re.search(r"# .*assumed", line) for line in lines[2:])


def test_learning_rates_are_those_of_the_post(experiments):
    cells = [
        (c.train.subject.name, c.train.lr, c.step, c.train.batch_size, bool(c.train.prior))
        for c in experiments["learning_rate"].grid.cells
    ]
    for subject in ("cat_toy", "pig_head", "potato_head"):
        assert {(subject, lr, 400, 4, False) for lr in (2e-6, 5e-6)} < set(cells)
    assert {("face", lr, 1200, 2, True) for lr in (2e-6, 5e-6)} < set(cells)
    (face, *_) = [t for t in experiments["learning_rate"].plan.trainings if t.spec.subject.name == "face"]
    assert {800, 1200} <= set(face.steps)


def test_textual_inversion_is_the_one_of_the_post(experiments):
    (cell,) = experiments["textual_inversion"].grid.cells
    trainer = cell.train.trainer
    assert (trainer.name, trainer.inversion_steps, cell.step, cell.train.lr) == ("ti_dreambooth", 2000, 500, 1e-6)
    assert trainer.inversion_lr * cell.train.lr_scale == pytest.approx(2e-3, rel=0.1)


def test_trainings_are_shared(experiments):
    """Of the others, these alone train something that learning_rate has not."""
    known = {t.spec for t in experiments["learning_rate"].plan.trainings}
    more = {name: sum(t.spec not in known for t in e.plan.trainings) for name, e in experiments.items()}
    assert more == {
        "learning_rate": 0, "prior_preservation": 2, "inference_scheduler": 0, "inference_steps": 0, "text_encoder": 2,
        "textual_inversion": 1, "ema": 1, "rare_token": 1,
    }  # fmt: skip
    whole = compile_plan(cell for e in experiments.values() for cell in e.grid.cells)
    assert len(whole.trainings) == 12 + 7


def test_what_is_typed_goes_to_every_experiment_and_wins():
    experiments, settings = compose_all(EXPERIMENTS[:2], ["seed=0,1", "lr=1e-6", "output_dir=elsewhere"], None)
    assert {(c.train.seed, c.train.lr) for e in experiments for c in e.grid.cells} == {(0, 1e-6), (1, 1e-6)}
    assert all(e.command[-3:] == ("seed=0,1", "lr=1e-6", "output_dir=elsewhere") for e in experiments)
    assert settings.output_dir == Path("elsewhere").absolute()


def test_another_model_needs_photographs():
    with pytest.raises(SpecError, match="--photos"):
        compose_all(EXPERIMENTS, ["model=sd14"], None)


def test_a_name_is_for_one_sweep():
    with pytest.raises(SpecError, match="name="):
        compose_all(EXPERIMENTS, ["name=mine"], None)


def test_another_model_gets_the_users_photographs_and_the_full_settings(photos):
    experiments, _ = compose_all(EXPERIMENTS, ["model=sd14"], photos)
    subjects = {n: [e.grid.cells[0].train.subject for e in experiments if e.name == n] for n in EXPERIMENTS}
    assert [(s.class_noun, s.kind) for s in subjects["learning_rate"]] == [
        ("cat toy", "object"), ("mug", "object"), ("o'clock", "object"), ("woman", "face"),
    ]  # fmt: skip
    assert [s.class_noun for s in subjects["text_encoder"]] == ["cat toy", "woman"]
    assert [s.class_noun for s in subjects["textual_inversion"]] == ["woman"]
    assert [s.class_noun for s in subjects["ema"]] == ["cat toy"]
    assert {e.grid.cells[0].train.trainer.inversion_lr for e in experiments} == {5e-4}
    cells = [c for e in experiments for c in e.grid.cells]
    assert {c.sample.inference_steps for c in cells} == {25, 50, 100}  # 25 as an axis only
    assert {c.evaluation.images_per_prompt for c in cells} == {4}
    assert {c.train.prior.num_class_images for c in cells if c.train.prior} == {200}
    face = next(
        c for e in experiments if e.name == "learning_rate" for c in e.grid.cells if c.train.subject.kind == "face"
    )
    assert (face.train.batch_size, face.step) == (2, 1200)


def test_a_kind_without_photographs_is_named(tmp_path):
    tiny.make_images(tmp_path / "object/dog", 2)
    with pytest.raises(SpecError, match="face"):
        read_photos(tmp_path)


@pytest.mark.parametrize("text", ["cat toy", "o'clock", "a,b", r"back\slash", r"end\'", "${lr}"])
def test_any_text_can_be_typed(text):
    (override,) = parse([f"subject.class_noun={quoted(text)}"], None)
    assert override.value() == text


def test_subjects_are_as_many_as_the_experiment_has(tmp_path):
    own = {"object": [tmp_path / "a", tmp_path / "b"], "face": [tmp_path / "c"]}
    assert len(of_kinds(["object", "face"], own)) == 2
    assert len(of_kinds(["object", "object", "object", "face"], own)) == 3
