"""A training step waits for no device: its loss is read later, and nothing is lost or saved wrongly by that."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainers.test_resume import assert_equal
from trainers import loop
from trainers.checkpoint import TrainState
from trainers.data import ImageStream
from trainers.errors import TrainingDiverged
from trainers.files import read_json, saved_step
from trainers.learner import has_dropout
from trainers.loop import LEARNERS, train

LATE = 4


@pytest.fixture
def late(monkeypatch):
    """Losses are read as on a GPU."""
    monkeypatch.setitem(loop.READ_EVERY, "cpu", LATE)


@pytest.mark.parametrize("steps", [LATE - 1, LATE, LATE + 1])
def test_losses_read_late_are_the_same(steps, make_spec, tmp_path, monkeypatch):
    (at_once,) = train(make_spec(), [steps], tmp_path / "at once")
    monkeypatch.setitem(loop.READ_EVERY, "cpu", LATE)
    seen = []
    (late,) = train(make_spec(), [steps], tmp_path / "late", progress=lambda step, loss: seen.append(loss))
    losses = read_json(tmp_path / "late" / "loss.json")["loss"]
    assert losses == read_json(tmp_path / "at once" / "loss.json")["loss"]
    assert len(losses) == steps
    assert_equal(at_once, late)
    assert all(map(math.isnan, seen[: LATE - 1]))
    assert seen[LATE - 1 :] == losses[LATE - 1 : LATE] * (steps - LATE + 1)


def test_a_stop_between_two_readings_keeps_every_loss(late, make_spec, tmp_path):
    def stop(step, loss):
        if step == LATE + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(train(make_spec(), [9], tmp_path / "stopped", progress=stop))
    assert saved_step(tmp_path / "stopped") == LATE + 2
    list(train(make_spec(), [9], tmp_path / "stopped"))
    list(train(make_spec(), [9], tmp_path / "whole"))
    assert read_json(tmp_path / "stopped/loss.json") == read_json(tmp_path / "whole/loss.json")


@pytest.fixture
def diverges(monkeypatch):
    """The loss is NaN from its sixth step on."""
    real, count = loop._loss, [0]

    def loss(*args):
        count[0] += 1
        return real(*args) * (math.nan if count[0] >= 6 else 1.0)

    monkeypatch.setattr(loop, "_loss", loss)


@pytest.mark.parametrize("every", [1, LATE, 50])
def test_a_divergence_is_reported_with_its_step_and_not_saved(every, diverges, make_spec, tmp_path, monkeypatch):
    monkeypatch.setitem(loop.READ_EVERY, "cpu", every)
    with pytest.raises(TrainingDiverged, match="at step 6 ") as caught:
        list(train(make_spec(), [5, 7, 100], tmp_path))
    assert caught.value.step == 6
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000005"]
    assert saved_step(tmp_path) == -1


def test_a_stop_after_an_unread_divergence_saves_nothing(diverges, make_spec, tmp_path, monkeypatch):
    monkeypatch.setitem(loop.READ_EVERY, "cpu", 50)

    def stop(step, loss):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(TrainingDiverged, match="at step 6 "):
        list(train(make_spec(), [100], tmp_path, progress=stop))
    assert saved_step(tmp_path) == -1


class Reads(TorchDispatchMode):
    """Counts how often the value of a tensor is asked for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("trainer", LEARNERS)
def test_a_step_reads_nothing_from_the_device(trainer, late, make_spec, tmp_path, class_folder, monkeypatch):
    """All that a step reads, it reads while it draws its batch on the CPU."""
    mode, drawing, read = Reads(), ImageStream.batch, TrainState.read_losses
    in_batches, in_steps = [], []

    def batch(*args):
        before = mode.count
        drawn = drawing(*args)
        in_batches.append(mode.count - before)
        return drawn

    def read_losses(state):
        in_steps.append(mode.count - sum(in_batches))
        read(state)
        mode.count = 0
        in_batches.clear()

    def begin(step, loss):
        if step == 1:
            mode.count = 0
            in_batches.clear()

    monkeypatch.setattr(ImageStream, "batch", batch)
    monkeypatch.setattr(TrainState, "read_losses", read_losses)
    fields = {"inversion_steps": 1, "ema_decay": 0.9, "min_snr_gamma": 5.0}
    spec = make_spec(prior=trainer != "textual_inversion", trainer={"name": trainer, **fields})
    with mode:
        list(train(spec, [LATE], tmp_path, class_images=class_folder, progress=begin))
    assert in_steps[-3:] == [0, 0, 0]  # after the steps, and before a state and a checkpoint are written


@pytest.mark.parametrize(("kind", "drops"), [("epsilon", False), ("dropout", True)])
def test_generators_are_seeded_only_where_something_is_dropped(kind, drops, make_spec, monkeypatch, tmp_path):
    spec = make_spec(kind, train_text_encoder=True)
    seeded, seed = [], torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda value: seeded.append(value) or seed(value))
    list(train(spec, [2], tmp_path))
    assert len(seeded) == (2 if drops else 0)


def test_layers_that_drop_are_found():
    assert has_dropout(torch.nn.Sequential(torch.nn.Dropout(0.1)))
    assert not has_dropout(torch.nn.Sequential(torch.nn.Dropout(0.0)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "fp16", "bf16"])
def test_no_step_waits_for_the_gpu(precision, make_spec, tmp_path):
    """torch itself says where a step would wait."""

    def progress(step, loss):
        torch.cuda.set_sync_debug_mode("error" if 5 <= step < 15 else "default")

    try:
        list(train(make_spec(mixed_precision=precision, trainer={"ema_decay": 0.9}), [20], tmp_path, progress=progress))
    finally:
        torch.cuda.set_sync_debug_mode("default")
