"""What a plan says it will take, against what is written."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper import forecast
from sweeper.engine.base import Resources
from sweeper.engine.local import LocalEngine
from sweeper.forecast import MINIATURE as RATE
from sweeper.forecast import remember, seconds
from sweeper.plan.compile import compile_plan
from sweeper.plan.types import Remaining
from sweeper.store import Store
from trainers.files import MANIFEST, write_json
from trainers.spec import TrainerSpec
from trainers.stages import inversion_stage


@pytest.fixture
def left(make_cell):
    """Two trainings with three checkpoints each, the second of twice the steps."""
    cells = [make_cell(lr=lr, step=n * step) for n, lr in ((1, 1e-6), (2, 2e-6)) for step in (100, 200, 300)]
    return [Remaining(training, training.points, 0) for training in compile_plan(cells).trainings]


def test_time(left, make_cell, tmp_path, monkeypatch):
    monkeypatch.setitem(forecast.MINIATURE, "start", 0.0)
    model = replace(left[0].training.spec.model, name="miniature")
    left = [replace(e, training=replace(e.training, spec=replace(e.training.spec, model=model))) for e in left]
    images = left[0].training.points[0].images * 50
    first, second = (3 * images * RATE["image"] + steps * 4 * RATE["step"] for steps in (300, 600))
    store = Store(tmp_path)
    assert seconds(left, store, 1) == pytest.approx(first + second)
    assert seconds(left, store, 2) == pytest.approx(second)  # the longest
    assert seconds(left * 4, store, 2) == pytest.approx(2 * (first + second))


def test_time_of_a_textual_inversion_that_trainings_share(left, tmp_path):
    store = Store(tmp_path)
    remember(store, left[0].training.spec.model, 1, **RATE)
    plain = [seconds(left, store, devices) for devices in (1, 8)]
    trainer = TrainerSpec("ti_dreambooth", inversion_steps=2000)
    specs = [replace(each.training.spec, trainer=trainer) for each in left]
    left = [replace(e, training=replace(e.training, spec=spec)) for e, spec in zip(left, specs, strict=True)]
    inverting = 2000 * 4 * RATE["step"]
    assert [seconds(left, store, devices) for devices in (1, 8)] == pytest.approx([t + inverting for t in plain])
    folder = store.cache / "inversions" / inversion_stage(specs[0]).signature
    write_json(folder / "checkpoints" / "002000" / MANIFEST, {})
    assert [seconds(left, store, devices) for devices in (1, 8)] == pytest.approx(plain)


@pytest.mark.parametrize(
    ("visible", "per_trial", "cpu_trials", "devices", "at_once"),
    [("0,1,2,3", 1, 16, 4, 4), ("0,1,2,3", 2, 16, 2, 2), ("3", 1, 1, 1, 1), ("", 2, 3, 1, 3), ("", 1, 1, 1, 1)],
)
def test_forecast_of_the_visible_devices(left, tmp_path, monkeypatch, visible, per_trial, cpu_trials, devices, at_once):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(forecast, "disk", lambda left, keep, at_once, step_seconds: at_once)
    capacity = LocalEngine(Resources(per_trial, cpu_trials)).capacity()
    assert (capacity.devices, forecast.disk_of(left, Store(tmp_path), "all", capacity)) == (devices, at_once)


def test_what_trials_measured_that_shared_the_processor(left, tmp_path):
    store, model = Store(tmp_path), left[0].training.spec.model
    remember(store, model, 1, step=1.0, image=1.0, start=0.0)
    alone = seconds(left, store, 1)
    remember(store, model, 4, step=1.0, image=1.0, start=0.0)
    assert seconds(left, store, 1) == pytest.approx(alone / 4)
