from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from sweeper.plan.axes import AXES, NESTED, RUN, TAKEN, axis_of, check, describe
from sweeper.plan.grid import options
from trainers.errors import SpecError

PROJECT = Path(__file__).parents[3]


def test_parameters_are_described_as_typed_in_the_order_asked():
    params = {"lr": 2e-6, "steps": 400, "use_ema": False, "trainer.text_encoder_lr": None}
    assert describe(params, ["steps", "lr"]) == "steps=400 lr=2e-6"
    assert describe(params, ["use_ema", "trainer.text_encoder_lr"]) == "use_ema=false trainer.text_encoder_lr=null"
    assert describe(params, ["no_such", "lr"]) == "lr=2e-6"


@pytest.mark.parametrize(
    ("key", "kind", "stage", "log"),
    [
        ("lr", float, "train", True),
        ("steps", int, "checkpoint", False),
        ("use_ema", bool, "sample", False),
        ("evaluation", str, "judge", False),
        ("keep", object, "run", False),
        ("trainer.ema_decay", float, "train", False),
        ("trainer.text_encoder_lr", float, "train", True),
        ("trainer.lora_targets", list, "train", False),
        ("trainer.lora_rank", int, "train", False),
        ("subject.identifier", str, "train", False),
        ("model.lr_scale", float, "train", False),
        ("prior.weight", float, "train", False),
        ("prior.scheduler", str, "train", False),
        ("evaluation.prompts", list, "judge", False),
        ("evaluation.clip", str, "judge", False),
        ("evaluation.prompts_by_kind.object", object, "judge", False),
        ("trainer.no_such", object, "train", False),
    ],
)
def test_a_key_has_the_axis_of_its_entry_or_of_the_field_it_sets(key, kind, stage, log):
    axis = axis_of(key)
    assert (axis.name, axis.kind, axis.stage, axis.log) == (key, kind, stage, log)
    assert (PROJECT / axis.home).exists()


def configuration(model="miniature"):
    """What conf/sweep.yaml says with a model."""
    brought = {"model": OmegaConf.load(PROJECT / f"conf/model/{model}.yaml")}
    return OmegaConf.merge(OmegaConf.load(PROJECT / "conf/sweep.yaml"), brought)


def test_every_setting_has_an_entry_and_every_entry_a_default():
    config = configuration()
    sections = {key for key in config if isinstance(config[key], DictConfig)} - {"hydra", "model"}
    settings = {key for key in config if key not in sections} - {"defaults", "hydra", "model"}
    settings |= {f"{section}.{name}" for section in sections for name in config[section]}
    nested = {name for name in NESTED if name.startswith("prior.")}
    assert settings == {*AXES, *RUN, *nested, "prior.folder"}


@pytest.mark.parametrize("model", options("model"))
def test_every_axis_takes_its_default(model):
    config = configuration(model)
    for name in (*AXES, *RUN):
        assert check(name, OmegaConf.select(config, name)) == OmegaConf.select(config, name)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("keep", True, "all, best, or a number"),
        ("early_stop", "late", "overfit or null"),
        ("eval_every", "half", "0 or more, or halving"),
        ("eval_every", -1, "0 or more, or halving"),
        ("eval_every", True, "0 or more, or halving"),
        ("cpu_trials", 0, "a whole number, 1 or more"),
        ("tracking.uri", "ftp:here", "null, or text that starts with sqlite:"),
        ("name", 5, "name=null makes one"),
        *[
            ("name", name, "name=null makes one")
            for name in (".", "..", "a/b", "/a", "../a", " a", "a\nb", ".a", *TAKEN)
        ],
        ("name", "x" * 201, "name=null makes one"),
        ("name", "é" * 101, "name=null makes one"),
        ("output_dir", "", "must be a folder"),
        ("output_dir", None, "must be a folder"),
        ("output_dir", ["a"], "must be a folder"),
        ("seed", -1, "0 or more"),
        ("seed", 2**64, "below 2 to the 64th"),
        ("inference_steps", 0, "1 or more"),
        ("inference_steps", 1001, "at most 1,000"),
        ("prior.inference_steps", 1001, "at most 1,000"),
    ],
)
def test_a_setting_of_the_sweep_is_checked_by_its_entry(key, value, words):
    with pytest.raises(SpecError, match=words):
        check(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "x" * 200), ("name", "é 1[a].b'"), ("output_dir", 5), ("seed", 2**64 - 1), ("inference_steps", 1000)],
)
def test_what_is_just_allowed(key, value):
    assert check(key, value) == value


def test_the_identity_of_a_cell_is_as_recorded_at_6044e38(make_cell):
    cell = make_cell(eval_every=100)
    assert cell.signature == "9f5db8e4335ec71c"
    assert replace(cell, use_ema=False).signature == "6966bb4d1807dc3a"
    assert len({each.signature for each in (cell, replace(cell, step=401), replace(cell, eval_every=0))}) == 3
