"""The weights of a checkpoint and their moving average, judged side by side."""

import torch
from accelerate import PartialState
from safetensors.torch import load_file

from sweeper.engine.jobs import Export, Kind, Reporter, Task
from sweeper.engine.queue import Queue
from sweeper.engine.training import Execution
from sweeper.store import Store
from tests.sweeper.tiny_sweep import trainings


def test_both_are_judged_on_one_training(models, tmp_path):
    torch.set_num_threads(1)
    (training,) = trainings(*models, "lr=1e-3", "trainer.ema_decay=0.9", "use_ema=true,false")
    average, weights = (point for point in training.points if point.step == training.last_step)
    (tmp_path / "jobs").mkdir()
    store, report = Store(tmp_path / "store"), Reporter(Queue(tmp_path / "jobs").add(Task(Kind.TRAIN, training)))
    execution = Execution(training, store, report, PartialState(cpu=True))
    execution.run()
    metrics = [store.scores(training.spec, point)["metrics"] for point in (average, weights)]
    assert metrics[0]["validation_loss"] != metrics[1]["validation_loss"]
    assert len(list((tmp_path / "store" / "baselines").glob("[!.]*"))) == 1

    exported = {}
    for use_ema in (True, False):
        execution.export(Export(training.last_step, "pndm", use_ema, tmp_path / str(use_ema)))
        exported[use_ema] = load_file(tmp_path / str(use_ema) / "unet" / "diffusion_pytorch_model.safetensors")
    checkpoint = store.checkpoint(training.spec, training.last_step)
    assert same(exported[True], load_file(checkpoint / "ema" / "unet" / "diffusion_pytorch_model.safetensors"))
    assert same(exported[False], load_file(checkpoint / "unet" / "diffusion_pytorch_model.safetensors"))
    assert not same(exported[True], exported[False])


def test_without_an_average_there_is_one_cell(models):
    (training,) = trainings(*models, "lr=1e-3", "use_ema=true,false")
    assert len(set(training.cells)) == 1
    assert all(point.use_ema for point in training.points)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)
