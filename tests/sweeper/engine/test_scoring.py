"""Points of one checkpoint share its weights; what is scored is what is stored and exported."""

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

from evaluation import weights as weights_module
from evaluation.weights import Weights
from sweeper.engine import scoring
from sweeper.engine.jobs import Export, Kind, Reporter, Task
from sweeper.engine.queue import Queue
from sweeper.engine.training import Execution
from sweeper.store import Store
from tests.sweeper.tiny_sweep import trainings
from trainers.families.stable_diffusion import StableDiffusion
from trainers.files import is_complete, read_json

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def begin(models, tmp_path):
    torch.set_num_threads(1)

    def begun(*typed, to="out") -> Execution:
        (training,) = trainings(*models, "lr=1e-3", "steps=2", "eval_every=0", *typed)
        root = tmp_path / to
        (root / "jobs").mkdir(parents=True, exist_ok=True)
        report = Reporter(Queue(root / "jobs").add(Task(Kind.TRAIN, training)))
        return Execution(training, Store(root / "store"), report, PartialState(cpu=True))

    return begun


def cards(execution):
    """Values of the metrics by precision and scheduler."""
    store, spec = execution.store, execution.spec
    return {
        (p.sample.precision, p.sample.scheduler): store.scorecard(spec, p).values for p in execution.training.points
    }


def files(execution, precision):
    (point,) = (p for p in execution.training.points if p.sample.precision == precision)
    return {path.name: path.read_bytes() for path in execution.store.evaluation(execution.spec, point).rglob("*.png")}


def test_the_points_of_a_checkpoint_load_it_once_and_measure_its_loss_once(begin, monkeypatch):
    alone = {}
    for scheduler in ("ddim", "pndm"):
        execution = begin(f"scheduler={scheduler}", to=scheduler)
        execution.run()
        alone |= cards(execution)
    loaded, measured, load, losses = [], [], StableDiffusion.with_checkpoint, weights_module.denoising_losses
    monkeypatch.setattr(StableDiffusion, "with_checkpoint", lambda *args: loaded.append(args) or load(*args))
    monkeypatch.setattr(weights_module, "denoising_losses", lambda *args: measured.append(args) or losses(*args))
    both = begin("scheduler=ddim,pndm")
    both.run()
    assert len(loaded) == 1
    assert len(measured) == 1 + 2  # and those of the untuned model, for each way of sampling
    assert cards(both) == alone


def test_what_points_are_compared_with_is_made_before_the_checkpoint_lies_on_the_device(begin, monkeypatch):
    order, prepare, place = [], scoring.prepare, Weights.on
    monkeypatch.setattr(scoring, "prepare", lambda *args, **kwargs: order.append("begin") or prepare(*args, **kwargs))

    def placed(weights, *where):
        order.append("untuned" if weights.components is execution.untuned else "tuned")
        return place(weights, *where)

    monkeypatch.setattr(Weights, "on", placed)
    execution = begin("scheduler=ddim,pndm")
    execution.run()
    last = len(order) - order[::-1].index("begin")
    assert order.count("begin") == 2
    assert "tuned" not in order[: last + 1]
    assert set(order[last:]) == {"untuned", "tuned"}


def test_a_point_is_the_same_whatever_else_is_sampled(begin):
    """Sampled in fp16 the weights count as rounded, in whatever precision they are stored."""
    half, both, full = (begin(f"sample_precision={p}", to=p) for p in ("fp16", "fp16,no", "no"))
    for execution in (half, both, full):
        execution.run()
    stored = [load_file(e.store.checkpoint(e.spec, 2) / UNET)["conv_in.weight"].dtype for e in (half, both, full)]
    assert stored == [torch.float16, torch.float32, torch.float32]
    assert cards(both) == cards(half) | cards(full)
    assert files(both, "fp16") == files(half, "fp16")
    assert files(both, "no") == files(full, "no")
    losses = [card["validation_loss"] for card in cards(both).values()]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("stored", ["fp16", "fp16,no"])
def test_what_is_exported_is_what_was_scored(stored, begin, tmp_path):
    execution = begin(f"sample_precision={stored}")
    execution.run()
    execution.export(Export(2, "pndm", True, tmp_path / "export", "fp16"))
    exported = load_file(tmp_path / "export" / UNET)
    kept = load_file(execution.store.checkpoint(execution.spec, 2) / UNET)
    assert all(torch.equal(weight, kept[name].half().float()) for name, weight in exported.items())


@pytest.mark.options
def test_sampling_in_fp32_needs_all_bits(begin):
    """The checkpoint is trained again; what was scored is forgotten, as on a GPU the new one is another."""
    half = begin("sample_precision=fp16")
    half.run()
    assert half.store.untrained(half.training, half.training.points) == []
    kept = half.store.checkpoint(half.spec, 2)
    assert read_json(kept / "manifest.json")["precision"] == "fp16"
    full = begin("sample_precision=no")
    assert full.spec == half.spec
    assert full.store.untrained(full.training, full.training.points) == [2]
    full.run()
    assert "precision" not in read_json(kept / "manifest.json")
    assert half.store.unscored(half.training) == half.training.points
    alone = begin("sample_precision=no", to="alone")
    alone.run()
    assert cards(full) == cards(alone)
    before = kept.stat().st_mtime_ns
    half.run()
    assert cards(half).keys() == {("fp16", "pndm")}
    assert kept.stat().st_mtime_ns == before  # all bits serve fp16 too


@pytest.mark.options
def test_adapters_stay_in_fp32(begin):
    execution = begin("trainer=dreambooth_lora", "sample_precision=fp16")
    execution.run()
    folder = execution.store.checkpoint(execution.spec, 2)
    assert is_complete(folder)
    assert {w.dtype for w in load_file(folder / "pytorch_lora_weights.safetensors").values()} == {torch.float32}
