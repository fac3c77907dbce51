import base64
import json
import math
import shlex
import sys
import time
import zlib
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from sweeper.report import write
from sweeper.results.types import COMPLETE, FAIL, PRUNED, Row
from sweeper.tracking import runs as publication
from sweeper.tracking.mlflow import Tracker
from sweeper.tracking.outbox import Outbox
from tests.sweeper.report.synthetic import make_results
from tests.sweeper.tracking.server import Server, free_port

AXES = {"lr": (1e-6, 5e-6), "steps": (400, 800), "scheduler": ("pndm", "ddim")}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A published sweep of 8 cells, one of them failed: (results, folder)."""
    folder = tmp_path_factory.mktemp("outputs")
    results = make_results(folder / "sweep", AXES, fail=(3,))
    write.write(results)
    _publish(results, folder)
    return results, folder


def _publish(results, folder, uri=None):
    with Tracker(uri, folder, "dreambooth") as tracker:
        tracker.publish(results)
    return tracker


def _client(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri, uri)


def _runs(uri, condition=""):
    client = _client(uri)
    found = client.search_runs([client.get_experiment_by_name("dreambooth").experiment_id], condition, max_results=1000)
    return client, {run.data.tags["key"]: run for run in found}


def _uri(folder):
    return f"sqlite:///{folder / 'mlflow.db'}"


def test_the_sweep_is_a_run_with_its_files_and_its_answer(sweep):
    results, folder = sweep
    client, runs = _runs(_uri(folder), "tags.kind = 'sweep'")
    (run,) = runs.values()
    assert run.data.tags["sweet_spot"].startswith("lr=")
    assert results.sweet_spot.reason.split(":")[1].split("(")[0].strip() in run.data.tags["mlflow.note.content"]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"report.html", "results.csv", "results.json", "contact_sheet.png"}
    assert run.data.metrics["plan/cells"] == 8
    assert run.data.tags["axis lr"] == "1e-6, 5e-6"


def test_the_link_opens_a_view_of_the_cells(sweep):
    results, folder = sweep
    client, _ = _runs(_uri(folder))
    experiment = client.get_experiment_by_name("dreambooth")
    (view,) = [value for key, value in experiment.tags.items() if key.startswith("mlflow.sharedViewState.")]
    state = json.loads(zlib.decompress(base64.b64decode(view.removeprefix("deflate;"))))
    assert len(client.search_runs([experiment.experiment_id], state["searchFilter"])) == 8
    assert state["orderByKey"] == "metrics.`expected_score`"
    assert state["compareRunCharts"][0]["selectedMetrics"] == ["log10_lr", "t", "s", "score"]
    link = Tracker(None, folder, "dreambooth").link(results.name)
    assert f"/experiments/{experiment.experiment_id}/runs" in link
    assert (
        f"mlflow.sharedViewState.{parse_qs(urlsplit(link).fragment.partition('?')[2])['viewStateShareKey'][0]}"
        in experiment.tags
    )


def test_a_training_is_a_run_with_curves_against_the_step(sweep):
    results, folder = sweep
    client, runs = _runs(_uri(folder), "tags.kind = 'training'")
    assert len(runs) == len(results.trainings) == 2
    run = next(run for run in runs.values() if run.data.params["lr"] == "5e-6")
    loss = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in loss] == list(results.trainings[1].loss)
    assert [m.step for m in client.get_metric_history(run.info.run_id, "s/ddim")] == [400, 800]
    names = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    assert sorted(int(name.split("+")[2]) for name in names if "ddim" in name) == [0, 400, 800]


def test_checkpoints_are_models_with_their_metrics(sweep):
    results, folder = sweep
    client, runs = _runs(_uri(folder), "tags.kind = 'training'")
    run = next(run for run in runs.values() if run.data.params["lr"] == "5e-6")
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    assert sorted(model.name for model in found) == ["lr=5e-6 steps=400", "lr=5e-6 steps=800"]
    model = next(model for model in found if model.tags["step"] == "800")
    assert model.params["steps"] == "800"
    row = next(row for row in results.rows if str(row.checkpoint) == model.tags["checkpoint"])
    assert {metric.key: metric.value for metric in model.metrics}[f"s/{row.params['scheduler']}"] == row.metrics["s"]


def test_a_cell_is_a_flat_run_with_its_typed_parameters(sweep):
    results, folder = sweep
    client, runs = _runs(_uri(folder), "tags.kind = 'cell' and tags.sweep = '2026-11-20_12-00-00'")
    assert len(runs) == 8
    assert not any("mlflow.parentRunId" in run.data.tags for run in runs.values())
    best = results.rows[results.best]
    (chosen,) = [run for run in runs.values() if "sweet_spot" in run.data.tags]
    assert chosen.data.params["lr"] == f"{best.params['lr']:g}".replace("e-0", "e-")
    assert chosen.data.params["steps"] == str(best.step)
    assert chosen.data.metrics["score"] == best.metrics["score"]
    assert chosen.data.metrics["expected_score"] == best.metrics["expected_score"]
    assert (chosen.data.metrics["s_low"], chosen.data.metrics["s_high"]) == best.intervals["s"]
    assert chosen.data.metrics["log10_lr"] == math.log10(best.params["lr"])
    assert chosen.info.run_name == f"lr={chosen.data.params['lr']} steps={best.step} {best.params['scheduler']}"
    assert any("samples+step" in file.path for file in client.list_artifacts(chosen.info.run_id, "images"))


def test_a_failed_cell_says_why(sweep):
    _, runs = _runs(_uri(sweep[1]), "tags.state = 'FAIL'")
    (run,) = runs.values()
    assert run.info.status == "FAILED"
    assert run.data.tags["reason"] == "not enough memory: tried 2.1 GiB"


def test_the_same_again_sends_nothing(sweep, monkeypatch):
    results, folder = sweep
    monkeypatch.setattr(Tracker, "_connect", lambda self: pytest.fail("nothing to send"))
    tracker = _publish(results, folder)
    assert tracker.status == ""


def test_what_changed_is_sent_and_nothing_else(sweep):
    results, folder = sweep
    uri = _uri(folder)
    _, before = _runs(uri)
    rows = list(results.rows)
    rows[0] = replace(rows[0], metrics=rows[0].metrics | {"dino": 0.125}, vetoes=("copies",))
    changed = replace(results, rows=tuple(rows))
    tracker = _publish(changed, folder)
    assert tracker.status == ""
    client, after = _runs(uri)
    assert after.keys() == before.keys()
    (key,) = [k for k in after if after[k].data.tags.get("vetoes") == "copies"]
    assert after[key].data.metrics["dino"] == 0.125 < results.rows[0].metrics["dino"]  # the newer, not the larger
    run = after[key].info.run_id
    assert client.get_metric_history(run, "dino")[-1].value == 0.125
    assert len(client.get_metric_history(run, "s")) == 1
    assert len(client.list_artifacts(run, "images")) == 4  # two images, each with its small copy


def test_a_search_that_has_tried_another_value_shows_it(tmp_path):
    results = make_results(tmp_path / "sweep", AXES)
    for lrs, shown in (((1e-6, 5e-6), "1e-6, 5e-6"), ((1e-6, 2e-6, 5e-6), "1e-6, 2e-6, 5e-6")):
        assert _publish(replace(results, axes=AXES | {"lr": lrs}), tmp_path).status == ""
        _, runs = _runs(_uri(tmp_path), "tags.kind = 'sweep'")
        (run,) = runs.values()
        assert run.data.tags["axis lr"] == shown
    many = publication.items(replace(results, axes={"seed": tuple(range(10_000))}))[f"{results.name}/sweep"]
    assert many["tags"]["axis seed"] == "0 to 9999, 10000 values"


def test_the_metric_of_a_checkpoint_that_changed_is_the_newer_one(tmp_path):
    """s and t are on the scale of all ways of sampling, so one more way changes those of the others."""
    results = make_results(tmp_path / "sweep", AXES)
    key = f"{results.name}/training/{results.rows[0].training}"
    for value in (0.5, 0.25, 0.75):
        rows = (replace(results.rows[0], metrics=results.rows[0].metrics | {"s": value}), *results.rows[1:])
        assert _publish(replace(results, rows=rows), tmp_path).status == ""
        client, runs = _runs(_uri(tmp_path))
        name = f"s/{results.rows[0].params['scheduler']}"
        models = client.search_logged_models(
            [runs[key].info.experiment_id], f"source_run_id = '{runs[key].info.run_id}'"
        )
        (model,) = [model for model in models if model.tags["step"] == str(results.rows[0].step)]
        latest = max((m for m in model.metrics if m.key == name), key=lambda metric: metric.timestamp)
        assert latest.value == value
        history = client.get_metric_history(runs[key].info.run_id, name)
        assert max((m for m in history if m.step == results.rows[0].step), key=lambda m: m.timestamp).value == value
    assert len(client.get_metric_history(runs[key].info.run_id, "loss")) == len(results.trainings[0].loss)


def test_a_lost_outbox_doubles_no_run(sweep):
    results, folder = sweep
    _, before = _runs(_uri(folder))
    (folder / "tracking.db").unlink()
    _publish(results, folder)
    client, after = _runs(_uri(folder))
    assert {k: r.info.run_id for k, r in after.items()} == {k: r.info.run_id for k, r in before.items()}
    run = next(run for run in after.values() if run.data.tags["kind"] == "cell" and run.data.tags["state"] == COMPLETE)
    assert len(client.list_artifacts(run.info.run_id, "images")) == 4
    assert len(client.search_logged_models([run.info.experiment_id])) == 4


def test_a_tracker_that_is_away_delays_and_loses_nothing(sweep, tmp_path):
    """Nothing listens at the address; what is kept aside goes out when the same address answers."""
    results, _ = sweep
    start = time.monotonic()
    with Tracker(f"http://127.0.0.1:{free_port()}", tmp_path, "dreambooth") as tracker:
        tracker.publish(results)
        assert time.monotonic() - start < 5
    assert "11 runs are kept aside" in tracker.status
    assert len(tracker.outbox.pending()) == 11


def test_states_names_and_values_that_mlflow_would_refuse(tmp_path):
    results = make_results(tmp_path, AXES, images=False, name="it's <b>")
    rows = list(results.rows)
    rows[0] = replace(rows[0], metrics={"a b%": 1.0, "nan": math.nan, "inf": math.inf}, intervals={})
    rows[1] = Row(rows[1].params, rows[1].training, PRUNED, reason="low fidelity")
    found = publication.items(replace(results, rows=tuple(rows)))
    first, second = [item for key, item in found.items() if "/cell/" in key][:2]
    assert [name for name, *_ in first["metrics"]] == ["a b_", "log10_lr"]
    assert second["state"] == PRUNED
    assert second["tags"]["reason"] == "low fidelity"
    assert "\\<b\\>" not in json.dumps(found["it's <b>/sweep"]["params"])


def test_the_outbox_keeps_what_was_not_sent(tmp_path):
    outbox = Outbox(tmp_path / "j.db", "a")
    outbox.want({"x": _item(1), "y": _item(1)})
    item = outbox.item("x")
    outbox.found(replace(item, run="run-1"))
    outbox.arrived(item)
    assert Outbox(tmp_path / "j.db", "a").pending() == ["y"]
    outbox.refuse("y", "no such thing")
    assert (outbox.pending(), outbox.refused()) == ([], ["no such thing"])
    outbox.want({"x": _item(2), "y": _item(1)})
    assert outbox.pending() == ["x"]
    assert (outbox.item("x").sent, outbox.item("x").run) == ({"metrics": [["n", 1, 0, 0]]}, "run-1")
    assert Outbox(tmp_path / "j.db", "b").pending() == []


def _item(value):
    return {"metrics": [("n", value, 0)]}


def test_a_metric_that_changed_is_newer_than_it_was(tmp_path):
    outbox = Outbox(tmp_path / "j.db", "a")
    for metrics, revised in (
        ([("s", 0.5, 1)], [["s", 0.5, 1, 0]]),
        ([("s", 0.5, 1), ("s", 0.6, 2)], [["s", 0.5, 1, 0], ["s", 0.6, 2, 1]]),
        ([("s", 0.4, 1), ("s", 0.6, 2)], [["s", 0.4, 1, 2], ["s", 0.6, 2, 1]]),
        ([("s", 0.5, 1), ("s", 0.6, 2)], [["s", 0.5, 1, 3], ["s", 0.6, 2, 1]]),
    ):
        outbox.want({"x": {"metrics": metrics}})
        assert outbox.item("x").wanted["metrics"] == revised


@pytest.mark.slow
@pytest.mark.parametrize("back", ["during the sweep", "after it"])
def test_a_server_killed_in_the_middle_gets_everything_once(back, tmp_path, capfd):
    results = make_results(tmp_path / "sweep", AXES, fail=(3,))
    write.write(results)
    port = free_port()
    server = Server(tmp_path, port)
    try:
        with Tracker(server.uri, tmp_path, "dreambooth") as tracker:
            tracker.publish(results)
            while len(tracker.outbox.pending()) > 6:  # in the middle
                time.sleep(0.05)
            server.kill()
            time.sleep(2)
            if back == "during the sweep":
                server = Server(tmp_path, port)
                deadline = time.monotonic() + 120
                while tracker.outbox.pending() and time.monotonic() < deadline:
                    time.sleep(0.2)
        if back == "after it":
            assert tracker.status
            server = Server(tmp_path, port)
            tracker = _publish(results, tmp_path, server.uri)
        assert tracker.status == ""
        assert capfd.readouterr().out == ""  # MLflow says nothing on the user's terminal
        client, runs = _runs(server.uri)
        experiment = client.get_experiment_by_name("dreambooth").experiment_id
        assert len(client.search_runs([experiment])) == len(runs) == 11
        for run in runs.values():
            names = [
                file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".webp")
            ]
            assert len({name.split("+timestamp+")[0] for name in names}) == len(names)
            if run.data.tags["kind"] == "training":
                assert len(client.get_metric_history(run.info.run_id, "loss")) == 120
        assert sum(run.info.status == "FAILED" for run in runs.values()) == sum(r.state == FAIL for r in results.rows)
    finally:
        server.kill()


def test_the_effective_learning_rate_is_a_number_and_no_axis(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400,)}, images=False)
    rows = tuple(replace(row, params={**row.params, "effective_lr": 150 * row.params["lr"]}) for row in results.rows)
    cells = [item for item in publication.items(replace(results, rows=rows)).values() if item["tags"]["kind"] == "cell"]
    assert [{n: v for n, v, _ in cell["metrics"]}["effective_lr"] for cell in cells] == [1.5e-4, 3e-4]
    assert all("effective_lr" not in cell["params"] for cell in cells)


def test_the_command_is_for_a_shell(tmp_path, monkeypatch):
    program = tmp_path / "my env" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(program))
    with Tracker("sqlite:////my photos/$HOME.db", tmp_path, "dreambooth") as tracker:
        words = shlex.split(tracker.command)
        assert (words[1], words[-1]) == (str(program.with_name("mlflow")), tracker.uri)
        assert "'" in tracker.command


def test_the_database_is_in_the_folder_whatever_its_name(tmp_path):
    folder = tmp_path / "a%20b?c#d e"
    folder.mkdir()
    tracker = _publish(make_results(folder / "sweep", {"lr": (1e-6,), "steps": (400,)}, images=False), folder)
    assert not tracker.status
    assert (folder / "mlflow.db").exists()
    assert not list((tmp_path / "a b").glob("*"))
    assert _runs(tracker.uri)[1]
