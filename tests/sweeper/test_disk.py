"""What a plan says that it writes and holds at once, against a count of what is written one after the other."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from evaluation.spec import Adaptive
from sweeper import disk as module
from sweeper import forecast, main
from sweeper.disk import SPARE, Disk, check_room, disk
from sweeper.forecast import Capacity, disk_of
from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import Grid
from sweeper.plan.types import Remaining
from sweeper.store import Store
from tests.sweeper.tiny_sweep import trainings
from trainers.errors import SpecError
from trainers.sizes import LARGE_STATE, SAVE_EVERY

CHECKPOINT, STATE = 10**9, 3 * 10**9


@pytest.fixture
def sizes(monkeypatch):
    monkeypatch.setattr(module, "checkpoint_bytes", lambda spec, precision: CHECKPOINT)
    monkeypatch.setattr(module, "state_bytes", lambda spec: STATE)
    monkeypatch.setattr(module, "pipeline_bytes", lambda model: 0)
    monkeypatch.setattr(module, "PIXEL", 0)


def left_of(make_cell, count, steps=(100, 200, 300)):
    cells = [make_cell(seed=seed, step=step) for seed in range(count) for step in steps]
    return [Remaining(training, training.points, 0) for training in compile_plan(cells).trainings]


def counted(count, steps, step_seconds):
    """(peak, written) of trainings one after the other, each of which is the best so far and may go on."""
    there, written, peak, kept = 0, 0, 0, 0
    for _ in range(count):
        own, since = 0, 0.0
        for step in range(1, steps[-1] + 1):
            since += step_seconds
            if since >= SAVE_EVERY:
                since, written = 0.0, written + STATE
                peak = max(peak, there + kept + own + STATE)  # the former one goes once the new one is there
                own = STATE
            if step in steps:
                there, written = there + CHECKPOINT, written + CHECKPOINT
                peak = max(peak, there + kept + own)
        written += STATE  # what it replaces is gone before
        kept = STATE
        peak = max(peak, there + kept)
    return peak, written


@pytest.mark.parametrize("step_seconds", [0.1, 1.0, 1.6, 2.9, 3.1, 10.0])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_training_after_the_other(make_cell, sizes, count, step_seconds):
    steps = (100, 200, 300)
    needed = disk(left_of(make_cell, count, steps), "all", 1, lambda spec: step_seconds)
    peak, written = counted(count, steps, step_seconds)
    assert needed.peak == pytest.approx(peak, abs=CHECKPOINT)
    assert needed.peak >= peak
    assert needed.written == pytest.approx(written, abs=count * STATE)  # a save at the very end is one save too many
    assert needed.written >= written - count * STATE


def test_several_at_once_have_a_state_each_and_the_best_that_ended_another(make_cell, sizes):
    fast = [disk(left_of(make_cell, count), "all", 2, lambda spec: 0.1) for count in (1, 2, 8)]
    assert [each.states // STATE for each in fast] == [1, 2, 2]
    slow = disk(left_of(make_cell, 8), "all", 2, lambda spec: 10.0)
    assert slow.states == STATE + 2 * 2 * STATE  # each at work writes one while the former is there


def test_small_states_all_stay(make_cell, sizes, monkeypatch):
    monkeypatch.setattr(module, "state_bytes", lambda spec: LARGE_STATE - 1)
    assert disk(left_of(make_cell, 8), "all", 1, lambda spec: 0.1).states >= 8 * (LARGE_STATE - 1)


@pytest.mark.parametrize(("keep", "at_once", "kept"), [("best", 1, 1 + SPARE + 2), ("5", 2, 5 + SPARE + 4)])
def test_where_losing_checkpoints_are_deleted(make_cell, sizes, keep, at_once, kept):
    needed = disk(left_of(make_cell, 20), keep, at_once, lambda spec: 0.1)
    assert needed.checkpoints == kept * CHECKPOINT
    assert needed.written == 20 * (3 * CHECKPOINT + STATE)


def test_rounds_keep_every_checkpoint_until_they_end(make_cell, sizes):
    """Any of them may be sampled again, so none is deleted on the way."""
    left = []
    for each in left_of(make_cell, 20):
        cells = tuple(
            replace(cell, evaluation=replace(cell.evaluation, adaptive=Adaptive(cell.evaluation.prompts, (), 1, 4)))
            for cell in each.training.cells
        )
        training = replace(each.training, cells=cells)
        left.append(Remaining(training, training.points, 0))
    best, every = (disk(left, keep, 1, lambda spec: 0.1) for keep in ("best", "all"))
    assert best.checkpoints == every.checkpoints > disk(left_of(make_cell, 20), "best", 1, lambda spec: 0.1).checkpoints


def test_what_is_done_takes_nothing(make_cell, sizes):
    assert disk([replace(each, missing=()) for each in left_of(make_cell, 2)], "all", 1, lambda spec: 0.1) == Disk()


def test_images_of_checkpoints_of_the_untuned_model_and_of_the_class(make_cell):
    cells = [make_cell(step=step, prior=True) for step in (100, 200)]
    (training,) = compile_plan(cells).trainings
    needed = disk([Remaining(training, training.points, 0)], "all", 1, lambda spec: 0.1)
    assert needed.images == int((2 * 10 + 10 + 10) * 64**2 * module.PIXEL)


@pytest.mark.parametrize(
    ("precision", "batch_size", "peak", "written"),
    [("auto", 1, 57.3, 67.7), ("no", 1, 98.9, 109.3), ("auto", 4, 67.7, 88.5)],
)
def test_the_readmes_command_on_one_gpu(tmp_path, monkeypatch, precision, batch_size, peak, written):
    """At most 60 GB at the peak and 100 written with what a GPU takes by default: fp16, and one image a step. It was
    114 and 330 where every checkpoint came with a state. A batch of 4 takes longer than five minutes a training, so
    that a state is written on the way, beside that of the best training so far."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    typed = (
        "lr=1e-6,2e-6",
        "steps=400,800,1200",
        "eval_every=100",
        f"batch_size={batch_size}",
        f"sample_precision={precision}",
    )
    planned = trainings("model=sd15", *typed)
    assert sum(len(training.steps) for training in planned) == 24
    left = [Remaining(training, training.points, 0) for training in planned]
    needed = disk_of(left, Store(tmp_path), "all", Capacity(1))
    assert needed.peak / 1e9 == pytest.approx(peak, abs=0.1)
    assert needed.written / 1e9 == pytest.approx(written, abs=0.1)


NEEDED, BEST = Disk(checkpoints=1000), Disk(checkpoints=400)


@pytest.mark.parametrize(
    ("free", "keep", "download", "says"),
    [
        (1000, "all", 0, None),
        (999, "all", 0, "it fits with keep=best, which takes up to 400 bytes"),
        (400, "all", 0, "it fits with keep=best"),
        (399, "all", 0, "even with keep=best it takes 400 bytes: free some"),
        (999, "best", 0, "999 bytes free: free some"),
        (1000, "all", 1, "and its download 1 byte"),
        (1001, "all", 1, None),
    ],
)
def test_what_has_no_room_is_refused_in_one_line(tmp_path, monkeypatch, free, keep, download, says):
    monkeypatch.setattr(module, "free_bytes", lambda folder: free)
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "hub")
    if says is None:
        check_room(NEEDED, BEST, keep, tmp_path / "not yet", download)
        return
    with pytest.raises(SpecError) as caught:
        check_room(NEEDED, BEST, keep, tmp_path / "not yet", download)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_to_another_disk_is_not_added(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda folder: 1000)
    monkeypatch.setattr(module, "_same_file_system", lambda one, other: False)
    check_room(NEEDED, BEST, "all", tmp_path, 10**9)


@pytest.mark.parametrize("plan_only", [False, True])
def test_a_sweep_without_room_begins_nothing(make_cell, tmp_path, monkeypatch, plan_only):
    monkeypatch.setattr(forecast, "disk", lambda *_: NEEDED)
    monkeypatch.setattr(module, "free_bytes", lambda folder: 10)
    monkeypatch.setattr(main, "fetch_models", lambda plan: pytest.fail("downloads"))
    about = {"plan_only": plan_only, "gpus_per_trial": 1, "cpu_trials": 1, "trials_per_gpu": 1, "keep": "all"}
    about |= {"engine": "local", "fit": "auto", "device_memory": None, "early_stop": None, "force": False}
    settings = SimpleNamespace(output_dir=tmp_path / "out", name="a", **about)
    cell = replace(make_cell(), params=(("subject", "dog"),))
    if plan_only:
        assert main.run(Grid((cell,), {}), settings) == 0
        return
    with pytest.raises(SpecError, match="1.0 kB of disk"):
        main.run(Grid((cell,), {}), settings)
    assert not (tmp_path / "out" / "a").exists()
