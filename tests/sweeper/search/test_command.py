"""The whole command as a process, on random models."""

import json

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeper.search.study import JOURNAL
from tests.sweeper.tiny_sweep import make_models, sweep


def test_a_search_is_a_sweep_that_chooses_its_trainings(tmp_path):
    arguments = ["-m", "hydra/sweeper=optuna", *make_models(tmp_path), f"output_dir={tmp_path / 'out'}", "name=search"]
    arguments += [
        "lr=interval(1e-5,1e-3)",
        "scheduler=ddim,pndm",
        "hydra.sweeper.trials=2",
        "hydra.sweeper.pruner=median",
        "hydra/launcher=inline",
    ]
    code, output = sweep(*arguments)
    assert code == 0, output
    folder = tmp_path / "out" / "search"
    study = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))))
    results = json.loads((folder / "results.json").read_text())
    assert f"optuna-dashboard {folder / JOURNAL}" in output
    assert len(results["trainings"]) == len(study.trials) > 0
    for trial, training in zip(study.trials, results["trainings"], strict=True):
        assert trial.user_attrs["training"] == training["signature"]
        cells = [cell for cell in results["checkpoints"] if cell["training"] == training["signature"]]
        assert {(c["params"]["scheduler"], c["params"]["steps"]) for c in cells} == {
            (scheduler, step) for scheduler in ("ddim", "pndm") for step in (2, 4)
        }
        scored = {c["params"]["steps"] for c in cells if c["state"] == "COMPLETE"}
        assert scored == {rung["step"] for rung in trial.user_attrs["checkpoints"]}
    assert (folder / "report.html").exists()
