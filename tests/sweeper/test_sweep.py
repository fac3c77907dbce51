"""The command itself: what it leaves, what it resumes, what it survives."""

import csv
import json
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.sweeper.tiny_sweep import make_models, start, sweep
from trainers.files import MANIFEST, read_json

GRID = ("-m", "lr=1e-4,2e-4", "prior_preservation=true")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    """An undisturbed sweep: (output folder, what it printed)."""
    out = tmp_path_factory.mktemp("outputs")
    code, printed = sweep(*GRID, *models, f"output_dir={out}", "name=undisturbed")
    assert code == 0, printed
    return out, printed


def read(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def numbers(folder: Path) -> list:
    """Everything that a run must give again bit for bit."""
    return [(row["params"], row["metrics"], row["state"]) for row in read(folder)["cells"]]


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
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"sweep": 1, "training": 2, "cell": 2}
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_sweep_goes_on_where_it_was(finished, models, tmp_path, number):
    arguments = (*GRID, *models, f"output_dir={tmp_path}", "name=disturbed")
    process = start(*arguments)
    wait_for(lambda: list(tmp_path.glob("store/trainings/*/checkpoints/000002/manifest.json")), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    os.kill(process.pid, number)
    process.wait(60)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive  # no orphans
    first = next(tmp_path.glob("store/trainings/*/checkpoints/000002/unet/*.safetensors"))
    stamp = first.stat().st_mtime_ns
    code, printed = sweep(*arguments)
    assert code == 0, printed
    assert first.stat().st_mtime_ns == stamp
    assert numbers(tmp_path / "disturbed") == numbers(finished[0] / "undisturbed")


def wait_for(condition, process, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_trial_that_fails_does_not_stop_the_others(models, tmp_path):
    code, printed = sweep(
        "-m", *models, "model.lr_scale=1,1e38", "lr=1e-4", f"output_dir={tmp_path}", "name=failing", "eval_every=0"
    )
    assert code == 1, printed
    cells = {c["params"]["model.lr_scale"]: c for c in read(tmp_path / "failing")["cells"]}
    assert cells[1]["state"] == "COMPLETE"
    assert cells[1e38]["state"] == "FAIL"
    assert "TrainingDiverged" in cells[1e38]["reason"]
    assert Path(cells[1e38]["log"]).exists()
    assert "FAIL" in printed


def test_one_run_without_m(models, tmp_path):
    code, printed = sweep(*models, "lr=1e-4", f"output_dir={tmp_path}", "name=single", "eval_every=0")
    assert code == 0, printed
    (cell,) = read(tmp_path / "single")["cells"]
    assert cell["params"]["lr"] == 1e-4
