import io
from types import SimpleNamespace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from rich.console import Console

from sweeper import forecast
from sweeper.plan.types import Remaining
from sweeper.search.run import print_plan
from sweeper.search.study import SearchSettings
from sweeper.store import Store
from tests.sweeper.search.fake import SETTINGS
from trainers.errors import SpecError


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("lr=interval(1e-7,1e-5)", FloatDistribution(1e-7, 1e-5, log=True)),
        ("lr=interval(1e-6,2e-6)", FloatDistribution(1e-6, 2e-6, log=True)),
        ("prior.weight=interval(0.5,1)", FloatDistribution(0.5, 1)),
        ("prior.weight=interval(0,100)", FloatDistribution(0, 100)),
        ("prior.weight=tag(log, interval(0.5,1))", FloatDistribution(0.5, 1, log=True)),
        ("trainer.weight_decay=interval(0.001,1)", FloatDistribution(0.001, 1, log=True)),
        ("batch_size=interval(1,8)", IntDistribution(1, 8)),
        ("prior.num_class_images=interval(4,400)", IntDistribution(4, 400, log=True)),
        ("prior_preservation=true,false", CategoricalDistribution([True, False])),
        ("batch_size=1,2,4", CategoricalDistribution([1, 2, 4])),
        ("lr=2e-6,5e-6,0.000005", CategoricalDistribution([2e-6, 5e-6])),
        ("trainer=dreambooth,dreambooth_lora", CategoricalDistribution(["dreambooth", "dreambooth_lora"])),
    ],
)
def test_what_is_typed_becomes_a_distribution(space, typed, expected):
    assert list(space(typed).distributions.values()) == [expected]


def test_what_costs_no_training_is_in_every_trial(space):
    found = space("steps=200,400", "lr=interval(1e-6,1e-5)", "scheduler=ddim,pndm", "guidance_scale=2,7.5")
    assert list(found.distributions) == ["lr"]
    training = found.training({"lr": 1.23456e-6})
    assert training.spec.lr == 1.23e-6
    assert {(run.step, run.sample.scheduler, run.sample.guidance_scale) for run in training.cells} == {
        (step, scheduler, scale) for step in (200, 400) for scheduler in ("ddim", "pndm") for scale in (2, 7.5)
    }


def test_a_schedule_that_knows_its_horizon_makes_steps_cost_training(space):
    found = space("steps=200,400", "lr=1e-6,2e-6", "trainer.lr_schedule=constant,cosine")
    assert list(found.distributions) == ["lr", "trainer.lr_schedule", "steps"]
    training = found.training({"lr": 1e-6, "trainer.lr_schedule": "cosine", "steps": 200})
    assert (training.spec.horizon, training.last_step) == (200, 200)


def test_a_rounded_value_stays_within_its_ends(space):
    (axis,) = space("lr=interval(1.2345e-6,1.2349e-6)").axes
    assert 1.2345e-6 <= float(axis.text(1.2345e-6)) <= float(axis.text(1.2349e-6)) <= 1.2349e-6


def test_the_combinations_of_lists(space):
    assert len(space("lr=1e-6,2e-6,5e-6", "prior_preservation=true,false", "steps=100,200").combinations) == 6
    assert space("lr=interval(1e-6,2e-6)", "prior_preservation=true,false").combinations is None


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["steps=100,200", "scheduler=ddim,pndm"], "nothing to search"),
        (["lr=interval(1e-5,1e-5)"], "the first end must be below the second"),
        (["lr=interval(0,1e-5)"], "lr=0: must be a number above 0"),
        (["prior_preservation=interval(0,1)"], "takes no range"),
        (["mixed_precision=interval(0,1)"], "takes no range"),
        (["batch_size=interval(1,2.5)"], "must be whole numbers"),
        (["batch_size=interval(0,2)"], "batch_size=0: must be a whole number"),
        (["steps=interval(1,10)", "lr=1e-6,2e-6"], "costs no training"),
        (["lr=1e-6,2e-6", "seed=0,-1"], "seed=-1: must be"),
        (["lr=1e-6,2e-6", "evaluation=quick,paper"], "one evaluation"),
    ],
)
def test_a_bad_space_is_one_clear_line(space, typed, said):
    with pytest.raises(SpecError) as error:
        space(*typed)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("axis", "one"), [("lr=interval(1e-7,1e-5)", True), ("batch_size=1,2", False)])
def test_the_plan_counts_textual_inversions(space, tmp_path, axis, one):
    """Once where no axis changes them, else for each trial."""
    found, console = space("trainer=ti_dreambooth", "trainer.inversion_steps=50", axis), Console(file=io.StringIO())
    asked, settings = (
        SearchSettings(**SETTINGS),
        SimpleNamespace(
            gpus_per_trial=1,
            cpu_trials=1,
            trials_per_gpu=1,
            keep="all",
            engine="local",
            plan_only=True,
            device_memory=None,
        ),
    )
    print_plan(console, found, asked, 0, Store(tmp_path), settings)
    assert f"training steps    {6 * 400 + (1 if one else 6) * 50:,} at most" in console.file.getvalue()


def test_the_plan_counts_the_time_of_textual_inversions(space, tmp_path):
    """Of four trials of one training each: one inversion that all wait for, or one each."""
    training = space("trainer=ti_dreambooth", "trainer.inversion_steps=50", "lr=interval(1e-7,1e-5)").dearest
    remaining = [Remaining(training, training.points, 0)] * 4
    shared, own = (forecast.seconds(remaining, Store(tmp_path), 1, own_inversions=own) for own in (False, True))
    inversion = 50 * training.spec.images_per_step * forecast.MINIATURE["step"]
    assert own - shared == pytest.approx(3 * inversion)
