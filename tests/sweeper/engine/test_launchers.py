"""Which engines may be asked for, and how."""

from types import SimpleNamespace

import pytest

from hydra_plugins.dreambooth_sweep.launchers import NAMES
from sweeper.engine.engines import ENGINES, check_launcher, make_engine
from tests.sweeper.tiny_sweep import GRID, numbers, sweep
from trainers.errors import SpecError


def settings(engine, **given):
    asked = {"gpus_per_trial": 1, "cpu_trials": 1, "trials_per_gpu": 1, "plan_only": False, "device_memory": None}
    return SimpleNamespace(engine=engine, **{**asked, **given})


@pytest.mark.parametrize("plan_only", [True, False])
@pytest.mark.parametrize("memory", ["24GB", None])
def test_only_a_plan_is_made_for_gpus_that_are_not_here(plan_only, memory):
    engine = make_engine(settings("local", plan_only=plan_only, device_memory=memory))
    assert engine.resources.absent == (plan_only and memory is not None)


def test_hydra_offers_the_engines_that_there_are():
    assert tuple(ENGINES) == NAMES
    for name in NAMES:
        assert isinstance(make_engine(settings(name)), ENGINES[name])
        check_launcher([f"hydra/launcher={name}", "lr=1e-6"])


@pytest.mark.parametrize("typed", ["hydra/launcher=joblib", "hydra/launcher='basic'", "+hydra/launcher=slurm"])
def test_any_other_is_refused_in_one_line(typed):
    with pytest.raises(SpecError, match=r"hydra/launcher=\w+: must be one of local, inline\.$"):
        check_launcher([typed])


@pytest.mark.parametrize(
    "words", [("-m", "lr=1e-6,2e-6"), ("-m", "hydra/sweeper=optuna", "lr=1e-6,2e-6"), ("lr=1e-6",)]
)
def test_the_command_refuses_it_before_anything_else(words, tmp_path):
    code, printed = sweep(*words, "hydra/launcher=basic", f"output_dir={tmp_path}")
    assert code == 1
    assert printed == "sweep.py: hydra/launcher=basic: must be one of local, inline.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("gpus_per_trial", 2), ("cpu_trials", 3), ("trials_per_gpu", 2)])
def test_what_one_process_cannot_do_is_refused(name, value):
    with pytest.raises(SpecError, match=f"{name}={value}: hydra/launcher=inline has one process; use hydra/launcher="):
        make_engine(settings("inline", **{name: value}))


@pytest.mark.faults
def test_a_whole_sweep_in_one_process_gives_the_same_numbers(finished, models, tmp_path):
    code, printed = sweep(*GRID, *models, f"output_dir={tmp_path}", "name=inline", "hydra/launcher=inline")
    assert code == 0, printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("inline/jobs/*/worker-*"))
    assert numbers(tmp_path / "inline") == numbers(finished[0] / "undisturbed")
