"""What a person concludes from MLflow's pages, read through the REST API of a real server."""

import base64
import csv
import json
import math
import time
import urllib.parse
import urllib.request
import zlib
from dataclasses import replace

import pytest

from evaluation.sweetspot import SweetSpot
from sweeper.report import write
from sweeper.results.types import COMPLETE, FAIL, PRUNED, RUNNING, WAITING
from sweeper.tracking.mlflow import Tracker
from tests.sweeper.report.synthetic import make_results
from tests.sweeper.tracking.server import Server, free_port

pytestmark = pytest.mark.faults
AXES = {"lr": (1e-6, 5e-6), "steps": (400, 800), "prior_preservation": (False, True)}
BEGAN = 1_760_000_000.0  # seconds since the epoch


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("server"), free_port())
    yield started
    started.kill()


class Reader:
    """One experiment of the server, and the folder whose sweeps it shows."""

    def __init__(self, server, folder, experiment):
        self.server = server
        self.folder = folder
        self.experiment = experiment

    def publish(self, *each):
        with Tracker(self.server.uri, self.folder, self.experiment) as tracker:
            for results in each:
                tracker.publish(results)
                while tracker.outbox.pending():
                    time.sleep(0.05)
        assert tracker.status == ""

    def post(self, path, **body):
        request = urllib.request.Request(f"{self.server.uri}/api/2.0/mlflow/{path}", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        return json.load(urllib.request.urlopen(request, timeout=60))

    def get(self, path, **query):
        address = f"{self.server.uri}/api/2.0/mlflow/{path}?{urllib.parse.urlencode(query)}"
        return json.load(urllib.request.urlopen(address, timeout=60))

    def shown(self):
        return self.get("experiments/get-by-name", experiment_name=self.experiment)["experiment"]

    def runs(self, condition="", *order):
        found = self.post(
            "runs/search", experiment_ids=[self.shown()["experiment_id"]], filter=condition, order_by=order,
            max_results=1000,
        )  # fmt: skip
        return [Run(run) for run in found.get("runs", [])]

    def by_link(self):
        """The runs of the page that the printed link opens, in its order."""
        tags = {tag["key"]: tag["value"] for tag in self.shown()["tags"]}
        (view,) = [value for name, value in tags.items() if name.startswith("mlflow.sharedViewState.")]
        state = json.loads(zlib.decompress(base64.b64decode(view.removeprefix("deflate;"))))
        way = "ASC" if state["orderByAsc"] else "DESC"
        return self.runs(state["searchFilter"], f"{state['orderByKey']} {way}")

    def sweep(self):
        (run,) = self.runs("tags.kind = 'sweep'")
        return run

    def history(self, run, name):
        found = self.get("metrics/get-history", run_id=run.id, metric_key=name)["metrics"]
        return {metric["step"]: metric["value"] for metric in sorted(found, key=lambda metric: metric["timestamp"])}


class Run:
    def __init__(self, content):
        self.id = content["info"]["run_id"]
        self.name = content["info"]["run_name"]
        self.status = content["info"]["status"]
        self.start = content["info"]["start_time"]
        self.end = content["info"].get("end_time")
        data = content["data"]
        self.tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
        self.params = {param["key"]: param["value"] for param in data.get("params", [])}
        self.metrics = {m["key"]: m["value"] for m in data.get("metrics", []) if not math.isnan(float(m["value"]))}


@pytest.fixture
def reader(server, tmp_path, request):
    return Reader(server, tmp_path, request.node.name)


@pytest.fixture
def results(tmp_path):
    made = make_results(tmp_path / "sweep", AXES, images=False)
    rows = tuple(replace(row, began=BEGAN + 10, ended=BEGAN + 14) for row in made.rows)
    trainings = tuple(replace(training, began=BEGAN, ended=BEGAN + 100) for training in made.trainings)
    return replace(made, rows=rows, trainings=trainings)


def _answer(results, best, asked=True):
    rows = [replace(row, asked=True) for row in results.rows]
    top = {name: max(row.metrics.get(name, 0) for row in rows) + 0.01 for name in ("score", "expected_score")}
    rows[best] = replace(rows[best], asked=asked, metrics=rows[best].metrics | top)
    return replace(results, rows=tuple(rows), best=best, sweet_spot=replace(results.sweet_spot, best=best))


def _place(results, **params):
    (place,) = [i for i, row in enumerate(results.rows) if params.items() <= row.params.items()]
    return place


@pytest.mark.parametrize("asked", [True, False])
def test_sorted_by_what_the_link_says_the_answer_is_first(reader, results, asked):
    """Also where it is a checkpoint that was evaluated on the way."""
    early = _place(results, lr=1e-6, steps=400, prior_preservation=False)
    late = _place(results, lr=5e-6, steps=800, prior_preservation=True)
    for best in (late, early, late, early):
        answer = _answer(results, best, asked)
        reader.publish(answer)
        shown = reader.by_link()
        assert len(shown) == 8
        row = results.rows[best]
        assert shown[0].params["lr"] == {1e-6: "1e-6", 5e-6: "5e-6"}[row.params["lr"]]
        assert shown[0].params["steps"] == str(row.step)
        assert [run.id for run in reader.runs() if run.tags.get("sweet_spot") == "this one"] == [shown[0].id]
        sweep = reader.sweep()
        assert {name: sweep.metrics[name] for name in ("score", "s", "t")} == {
            name: shown[0].metrics[name] for name in ("score", "s", "t")
        }
        assert f"steps={row.step}" in sweep.tags["sweet_spot"]


def test_where_there_is_no_answer_any_more_none_is_shown(reader, results):
    none = replace(results, best=None, sweet_spot=SweetSpot(False, "none", "Nothing was learned."), export=None)
    reader.publish(results, none)
    assert not {"score", "s", "t"} & reader.sweep().metrics.keys()
    assert "Nothing was learned" in reader.sweep().tags["mlflow.note.content"]
    assert not [run for run in reader.runs() if "sweet_spot" in run.tags]


def test_a_score_that_is_gone_is_not_sorted_by(reader, results):
    """A checkpoint that is vetoed later has no expected score any more."""
    best = results.best
    rows = list(results.rows)
    rows[best] = replace(rows[best], metrics={n: v for n, v in rows[best].metrics.items() if "score" not in n})
    reader.publish(results, replace(results, rows=tuple(rows)))
    assert reader.by_link()[0].params != reader.by_link()[-1].params
    assert reader.by_link()[-1].params["steps"] == str(rows[best].step)
    assert "score" not in reader.by_link()[-1].metrics


def test_one_name_has_one_value_everywhere(reader, results, tmp_path):
    write.write(results)
    reader.publish(results)
    table = list(csv.DictReader((tmp_path / "sweep" / "results.csv").open()))
    trainings = {run.tags["training"]: run for run in reader.runs("tags.kind = 'training'")}
    for run in reader.by_link():
        (row,) = [
            row for row in table
            if float(row["lr"]) == float(run.params["lr"]) and row["steps"] == run.params["steps"]
            and row["prior_preservation"] == run.params["prior_preservation"]
        ]  # fmt: skip
        curve = reader.history(trainings[run.tags["training"]], "score")
        for name in ("score", "s", "t", "dino", "noise"):
            assert run.metrics[name] == float(row[name])
        assert curve[int(run.params["steps"])] == run.metrics["score"]


def test_runs_have_the_times_the_source_and_the_user_of_the_work(reader, results):
    reader.publish(replace(results, began=BEGAN - 20, ended=BEGAN + 400))
    times = {"sweep": (BEGAN - 20, BEGAN + 400), "training": (BEGAN, BEGAN + 100), "cell": (BEGAN + 10, BEGAN + 14)}
    for run in reader.runs():
        assert (run.start / 1000, run.end / 1000) == times[run.tags["kind"]]
        assert run.tags["mlflow.source.name"] == "sweep.py"
        assert run.tags["mlflow.user"]
        assert run.status == "FINISHED"


def test_names_hold_what_differs_and_how_it_ended(reader, results):
    rows = list(results.rows)
    pruned = rows[_place(results, lr=5e-6, steps=800, prior_preservation=False)]
    failed = rows[_place(results, lr=5e-6, steps=800, prior_preservation=True)]
    for row, state in ((pruned, PRUNED), (failed, FAIL)):
        rows[rows.index(row)] = replace(row, state=state, metrics={}, reason="behind", began=None, ended=None)
    states = {pruned.training: PRUNED, failed.training: FAIL}
    trainings = tuple(replace(each, state=states.get(each.signature, COMPLETE)) for each in results.trainings)
    trials = {each.signature: f"trial {i}" for i, each in enumerate(trainings)}
    reader.publish(replace(results, rows=tuple(rows), trainings=trainings, trials=trials))
    names = {run.name: run for run in reader.runs("tags.kind != 'sweep'")}
    assert len(names) == 12
    assert {"lr=1e-6 steps=400 prior_preservation=false", "lr=1e-6 steps=400 prior_preservation=true"} < names.keys()
    number = trials[pruned.training].split()[1]
    trial = names[f"trial {number} lr=5e-6 prior_preservation=false, pruned"]
    assert (trial.status, trial.tags["state"], trial.tags["trial"]) == ("KILLED", "PRUNED", number)
    cell = names["lr=5e-6 steps=800 prior_preservation=true, failed"]
    assert (cell.status, cell.tags["reason"]) == ("FAILED", "behind")


def _on_the_way(results):
    """When one training has ended, one has its first checkpoint, and the others wait."""
    first, second, *others = results.trainings
    waiting = {each.signature for each in others}

    def row_now(row):
        begun = row.training == first.signature or (row.training == second.signature and row.step == 400)
        return row if begun else replace(row, state=WAITING, metrics={}, intervals={}, began=None, ended=None)

    trainings = [
        replace(each, state=WAITING, loss=(), began=None, ended=None) if each.signature in waiting else each
        for each in results.trainings
    ]
    trainings[1] = replace(trainings[1], state=RUNNING, loss=second.loss[:40], ended=None)
    rows = tuple(map(row_now, results.rows))
    best = _place(results, **{n: first.params[n] for n in ("lr", "prior_preservation")}, steps=800)
    return replace(results, rows=rows, trainings=tuple(trainings), running=True, best=best)


def test_curves_arrive_while_it_trains(reader, results):
    reader.publish(_on_the_way(results))
    trainings = reader.runs("tags.kind = 'training'")
    assert sorted(run.status for run in trainings) == ["FINISHED", "RUNNING"]  # the others have not begun
    (running,) = [run for run in trainings if run.status == "RUNNING"]
    assert max(reader.history(running, "loss")) == 400
    assert list(reader.history(running, "score")) == [400]
    assert reader.sweep().status == "RUNNING"
    assert "So far" in reader.sweep().tags["mlflow.note.content"]
    assert len(reader.by_link()) == 3


def test_after_a_kill_the_same_is_read_as_without(reader, results, server, tmp_path):
    other = Reader(server, tmp_path / "whole", "whole")
    finished = replace(results, began=BEGAN, ended=BEGAN + 400)
    other.publish(finished)
    tracker = Tracker(server.uri, reader.folder, reader.experiment)
    tracker.publish(_on_the_way(results))
    tracker.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert sorted(run.status for run in reader.runs()) == ["FINISHED"] * 4 + ["KILLED"] * 2
    reader.publish(finished)
    assert _read(reader) == _read(other)


def test_after_a_rerun_the_same_is_read_with_a_word_of_it(reader, results):
    finished = replace(results, began=BEGAN, ended=BEGAN + 400)
    reader.publish(finished)
    before = _read(reader)
    reader.publish(replace(finished, rerun=True))
    assert "nothing was computed" in reader.sweep().tags["rerun"]
    after = _read(reader)
    assert after == before
    reader.publish(finished)  # a later run that computes something
    assert "rerun" not in reader.sweep().tags


def _read(reader):
    """All that a person may read, without what two runs of the same can differ in."""

    def told(run):
        tags = {n: v for n, v in run.tags.items() if n not in ("rerun", "mlflow.runName")}
        return run.name, run.status, run.params, run.metrics, tags, run.end

    return sorted(map(told, reader.runs()), key=lambda each: (each[0], each[4]["key"]))


def test_a_lost_outbox_leaves_no_stale_answer(reader, results):
    reader.publish(_answer(results, _place(results, lr=1e-6, steps=400, prior_preservation=False)))
    (reader.folder / "tracking.db").unlink()
    best = _place(results, lr=5e-6, steps=800, prior_preservation=True)
    reader.publish(_answer(results, best))
    chosen = [run for run in reader.runs() if run.tags.get("sweet_spot") == "this one"]
    assert [run.params["steps"] for run in chosen] == ["800"]
    assert len(reader.runs()) == 1 + 4 + 8
