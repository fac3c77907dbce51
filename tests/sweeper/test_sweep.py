"""The command itself: what it prints, what it leaves, what it does again."""

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from tests.sweeper.tiny_sweep import GRID, numbers, read, sweep
from trainers.files import MANIFEST, read_json


def test_it_prints_the_plan_before_and_the_answer_after(finished):
    _, printed = finished
    assert printed.index("trainings         2") < printed.index("COMPLETE")
    assert "report.html" in printed
    assert "mlflow" in printed
    assert re.search(r"took +\d.* s: .*training \d+%.*", printed)
    assert "\r" not in printed  # quiet where there is no terminal
    assert "Traceback" not in printed


def test_it_leaves_results_to_read(finished):
    folder = finished[0] / "undisturbed"
    results = read(folder)
    assert [cell["params"]["lr"] for cell in results["cells"]] == [1e-4, 2e-4]
    assert all(cell["state"] == "COMPLETE" and cell["params"]["steps"] == 4 for cell in results["cells"])
    assert {"dino", "clip_i", "clip_t"} <= set(results["cells"][0]["metrics"])
    plan = results["plan"]
    assert (plan["cells"], plan["trainings"], plan["training_steps"], plan["training_steps_unshared"]) == (2, 2, 8, 8)
    assert {"found", "reason", "params", "step", "export"} <= set(results["sweet_spot"])
    timings = results["timings"]
    assert min(timings[kind] for kind in ("training", "sampling", "scoring", "baselines", "pages")) > 0
    assert sum(timings.values()) <= 2 * timings["wall"]  # nothing is counted twice
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert [(row["lr"], row["steps"]) for row in rows] == [(lr, s) for lr in ("0.0001", "0.0002") for s in ("2", "4")]
    assert "http" not in (folder / "report.html").read_text().split("<body")[0].replace("http-equiv", "")
    assert Image.open(folder / "contact_sheet.png").width > 100


def test_the_sweet_spot_is_exported_or_there_is_a_reason(finished):
    spot = read(finished[0] / "undisturbed")["sweet_spot"]
    assert spot["reason"] in " ".join(finished[1].split())
    assert (spot["export"] is not None) == spot["found"]
    if spot["found"]:
        assert json.loads((Path(spot["export"]) / "model_index.json").read_text())["_class_name"]
        assert read_json(Path(spot["export"]) / MANIFEST)["scheduler"] == spot["params"]["scheduler"]


def test_mlflow_has_a_run_for_the_sweep_each_training_and_each_cell(finished):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished[0] / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "dreambooth"]
    runs = client.search_runs([experiment.experiment_id])
    kinds = [run.data.tags["kind"] for run in runs]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"sweep": 1, "training": 2, "cell": 2, "checkpoint": 2}
    cells = {run.data.params["lr"]: run for run in runs if run.data.tags["kind"] == "cell"}
    first = next(c for c in read(finished[0] / "undisturbed")["cells"] if c["params"]["lr"] == 1e-4)
    assert cells["1e-4"].data.metrics["dino"] == pytest.approx(first["metrics"]["dino"])
    assert not any("mlflow.parentRunId" in run.data.tags for run in runs)


def test_the_same_command_again_does_nothing_twice(finished, models):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "store").rglob("*.safetensors")}
    numbers_before = numbers(out / "undisturbed")
    code, printed = sweep(*GRID, *models, f"output_dir={out}", "name=undisturbed")
    assert code == 0
    assert "(2 already done)" in printed
    assert {path: path.stat().st_mtime_ns for path in (out / "store").rglob("*.safetensors")} == before
    assert numbers(out / "undisturbed") == numbers_before


@pytest.mark.faults
def test_a_trial_that_fails_does_not_stop_the_others(models, tmp_path):
    code, printed = sweep(
        "-m",
        *models,
        "model.lr_scale=1,1e38",
        "lr=1e-4",
        f"output_dir={tmp_path}",
        "name=failing",
        "eval_every=0",
        "hydra/launcher=inline",
    )
    assert code == 1, printed
    cells = {c["params"]["model.lr_scale"]: c for c in read(tmp_path / "failing")["cells"]}
    assert cells[1]["state"] == "COMPLETE"
    assert cells[1e38]["state"] == "FAIL"
    assert "TrainingDiverged" in cells[1e38]["reason"]
    assert Path(cells[1e38]["log"]).exists()
    assert "FAIL" in printed


@pytest.mark.options
def test_one_run_without_m(models, tmp_path):
    code, printed = sweep(
        *models, "lr=1e-4", f"output_dir={tmp_path}", "name=single", "eval_every=0", "hydra/launcher=inline"
    )
    assert code == 0, printed
    (cell,) = read(tmp_path / "single")["cells"]
    assert cell["params"]["lr"] == 1e-4


@pytest.mark.faults
def test_two_processes_a_trial_give_the_results_of_one(finished, models, tmp_path):
    """The same effective batch: one instance image of the two in each process."""
    code, printed = sweep("-m", "lr=1e-4", *GRID[2:], *models, f"output_dir={tmp_path}", "name=two", "gpus_per_trial=2")
    assert code == 0, printed
    alone, two = finished[0] / "undisturbed", tmp_path / "two"
    assert len(list(two.glob("jobs/*/*.log"))) == 2  # one worker, one training
    (one_cell, _), (two_cell,) = read(alone)["cells"], read(two)["cells"]
    assert two_cell["params"] == one_cell["params"]
    assert two_cell["metrics"] == pytest.approx(one_cell["metrics"], rel=0.02, abs=0.02)
    early, one, other = (
        load_file(folder / "unet/diffusion_pytorch_model.safetensors")
        for folder in (Path(one_cell["checkpoint"]).with_name("000002"), *map(checkpoint, (one_cell, two_cell)))
    )
    moved, apart = ([(one[name] - w[name]).norm() ** 2 for name in one] for w in (early, other))
    assert 0 < sum(apart) ** 0.5 < 1e-3 * sum(moved) ** 0.5


@pytest.mark.faults
def test_two_trials_at_once_on_the_processor_give_the_results_of_one_after_the_other(finished, models, tmp_path):
    code, printed = sweep(*GRID, *models, f"output_dir={tmp_path}", "name=both", "cpu_trials=2")
    assert code == 0, printed
    assert len(list((tmp_path / "both").glob("jobs/*/worker-*.log"))) == 2
    for one, other in zip(read(finished[0] / "undisturbed")["cells"], read(tmp_path / "both")["cells"], strict=True):
        assert other["params"] == one["params"]
        assert other["metrics"] == pytest.approx(one["metrics"], rel=0.02, abs=0.02)


def test_more_trials_at_once_than_cores_are_refused_in_one_line(models, tmp_path):
    code, printed = sweep(*GRID, *models, f"output_dir={tmp_path}", "cpu_trials=100000")
    assert code != 0
    assert "cpu_trials=100000: this machine has" in printed
    assert "Traceback" not in printed


def checkpoint(cell: dict) -> Path:
    return Path(cell["checkpoint"])
