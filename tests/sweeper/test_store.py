"""The store: its format, and what an older one lacks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import PartialState

from evaluation.metrics import METRICS, Metric
from evaluation.scorecard import NOT_YET, SAMPLES_GONE, WEIGHTS_GONE, Scorecard
from sweeper.engine.handlers import carry_out
from sweeper.engine.jobs import COMPLETE, Kind, Reporter, Task
from sweeper.engine.queue import Queue
from sweeper.engine.training import Execution
from sweeper.forecast import remember
from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import Grid
from sweeper.plan.types import Point
from sweeper.results.collect import collect
from sweeper.store import FORMAT, Store
from tests.suites import some_of
from tests.sweeper.tiny_sweep import trainings
from trainers.errors import SpecError
from trainers.files import read_json, remove_folder, remove_states, write_json

ADDED = {"provenance", "versions", "missing"}  # to JSON since revision 6044e38


def brightness(samples, reference):
    return samples.prompts.pixels.mean((-3, -2, -1))


BRIGHTNESS = Metric(brightness, "pixels", True, "brightness", "How bright the images are.", "grey levels of 255")


def of_weights(samples, reference):
    return samples.losses + 1


OF_WEIGHTS = Metric(of_weights, "unet", False, "loss and one", "The loss plus one.", "mean square")


@pytest.fixture(scope="module")
def training(models):
    torch.set_num_threads(1)
    return trainings(*models)[0]


def run(training, root):
    (root / "jobs").mkdir(exist_ok=True)
    report = Reporter(Queue(root / "jobs").add(Task(Kind.TRAIN, training)))
    execution = Execution(training, Store(root / "store"), report, PartialState(cpu=True))
    execution.run()
    return execution


@pytest.fixture
def old(training, tmp_path):
    """(root, store) of a finished training as revision 6044e38 left it, its weights deleted as by keep=best."""
    run(training, tmp_path)
    store = Store(tmp_path / "store")
    for path in [*tmp_path.rglob("scores.json"), *tmp_path.rglob("values.json")]:
        write_json(path, {name: value for name, value in read_json(path).items() if name not in ADDED})
    remove_states(store.training(training.spec))
    for step in training.steps:
        remove_folder(store.checkpoint(training.spec, step))
    return tmp_path, store


@pytest.fixture
def frozen(old, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing is to be trained or sampled")

    monkeypatch.setattr("sweeper.engine.training.train", refuse)
    monkeypatch.setattr("sweeper.engine.training.make_class_images", refuse)
    monkeypatch.setattr("evaluation.sample.sample_batch", refuse)


def cards(store, training):
    return [store.scorecard(training.spec, point) for point in training.points]


def results(store, training):
    plan = compile_plan(training.cells)
    return collect(
        Grid(training.cells, {}), plan, store, {}, name="a", folder=store.root, command="", plan={},
    )  # fmt: skip


@pytest.mark.usefixtures("frozen")
def test_a_store_of_6044e38_needs_nothing(old, training):
    _, store = old
    assert store.missing(training) == ()
    assert all(card.stale() == () for card in cards(store, training))
    assert results(store, training).notes == ()


@pytest.mark.usefixtures("frozen")
def test_a_metric_that_was_added_is_measured_on_the_stored_samples(old, training, monkeypatch):
    root, store = old
    before = cards(store, training)
    monkeypatch.setitem(METRICS, "brightness", BRIGHTNESS)
    assert store.missing(training) == store.incomplete(training) == training.points
    assert store.left(training).missing == ()  # neither steps nor images
    assert store.left(training).untrained == 0
    assert cards(store, training)[0].missing == {"brightness": NOT_YET}
    assert f"Brightness is missing for 2 of 2 checkpoints: {NOT_YET}." in results(store, training).notes
    execution = run(training, root)
    assert (execution.trained, execution.scorer.denoised) == (0, 0)
    assert store.missing(training) == ()
    after = cards(store, training)
    for one, other in zip(before, after, strict=True):
        assert np.shape(other.values["brightness"]) == np.shape(one.values["dino"])
        assert {name: other.values[name] for name in one.values} == one.values
    assert "brightness" in store.baseline_values(training.spec, training.points[0]).untuned
    assert all("brightness" in row.metrics for row in results(store, training).rows)
    assert results(store, training).notes == ()


@pytest.mark.usefixtures("frozen")
def test_a_metric_of_an_older_version_is_measured_again(old, training, monkeypatch):
    root, store = old
    monkeypatch.setitem(METRICS, "noise", replace(METRICS["noise"], measure=brightness, version=2))
    assert cards(store, training)[0].missing == {"noise": NOT_YET}
    run(training, root)
    card = cards(store, training)[0]
    assert card.versions["noise"] == 2
    assert card.missing == {}


@pytest.mark.usefixtures("frozen")
def test_a_metric_that_needs_weights_which_are_gone_says_so(old, training, monkeypatch):
    root, store = old
    monkeypatch.setitem(METRICS, "of_weights", OF_WEIGHTS)
    run(training, root)  # measures it of the untuned model
    assert store.missing(training) == ()
    assert {card.missing["of_weights"] for card in cards(store, training)} == {WEIGHTS_GONE}
    found = results(store, training)
    assert found.rows[0].missing == {"of_weights": WEIGHTS_GONE}
    assert "of_weights" not in found.rows[0].metrics
    assert f"Loss and one is missing for 2 of 2 checkpoints: {WEIGHTS_GONE}." in found.notes


@pytest.mark.usefixtures("frozen")
def test_where_the_samples_are_gone_too_no_job_is_begun(old, training, monkeypatch):
    _, store = old
    monkeypatch.setitem(METRICS, "brightness", BRIGHTNESS)
    point = training.points[0]
    next(store.evaluation(training.spec, point).glob("*.png")).unlink()
    for path in store.baselines(training.spec, point).glob("*.png"):
        path.unlink()
    assert store.missing(training) == training.points[1:]
    assert store.scorecard(training.spec, point).missing == {"brightness": SAMPLES_GONE}


@pytest.mark.parametrize("name", some_of(METRICS, ["dino", "div"]))
def test_no_metric_that_is_missing_stops_anything(old, training, name):
    _, store = old
    for path in [*store.root.rglob("scores.json"), *store.root.rglob("values.json")]:
        content = read_json(path)
        for by_metric in (v for v in content.values() if isinstance(v, dict)):
            by_metric.pop(name, None)
        write_json(path, content)
    for path in store.root.rglob("*.png"):
        path.unlink()
    found = results(store, training)
    assert all(name not in row.metrics for row in found.rows)
    assert any(METRICS[name].title in note.lower() or name in note for note in found.notes) or found.notes


def test_a_slice_is_sampled_beside_the_first(training, models, tmp_path):
    run(training, tmp_path)
    store = Store(tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("evaluations/*/*.png")}
    cells = [replace(cell, evaluation=cell.evaluation.next_slice(1)) for cell in training.cells]
    more = replace(training, cells=(*training.cells, *cells))
    assert len(more.points) == 2 * len(training.points)
    execution = run(more, tmp_path)
    assert execution.trained == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    points = [Point.of(cell) for cell in (*training.cells, *cells)]
    assert len({store.evaluation(training.spec, point) for point in points}) == len(points)
    assert all(store.scorecard(training.spec, point) for point in points)


def test_every_training_evaluation_and_baseline_says_who_made_it(training, tmp_path):
    run(training, tmp_path)
    store, point = Store(tmp_path / "store"), training.points[0]
    made = [
        store.checkpoint_provenance(training.spec, point.step),
        *store.scorecard(training.spec, point).provenance,
        *store.baseline_values(training.spec, point).provenance,
    ]
    assert len(made) == 3
    assert len(set(made)) == 1
    assert made[0].device == "cpu"
    found = results(store, training)
    assert found.notes == ()
    card = read_json(store.evaluation(training.spec, point) / "scores.json")
    card["provenance"][0]["versions"]["torch"] = "1.0"
    write_json(store.evaluation(training.spec, point) / "scores.json", card)
    (note,) = results(store, training).notes
    assert "different versions" in note
    assert "torch 1.0" in note


def test_a_store_without_a_format_is_of_the_first_one(tmp_path):
    store = Store(tmp_path)
    store.check_format()
    assert list(tmp_path.iterdir()) == []
    store.mark_format()
    assert read_json(tmp_path / "format.json") == {"format": FORMAT}
    store.mark_format()


@pytest.mark.parametrize("text", ["", "x", "[]", '"2"', "null"])
def test_a_format_file_that_cannot_be_understood_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "format.json").write_text(text)
    with pytest.raises(SpecError, match="this program knows 1 to 2"):
        Store(tmp_path).mark_format()
    assert (tmp_path / "format.json").read_text() == text


@pytest.mark.parametrize("text", ["", '{"metrics": {', "[]", "null", "5", "\xff"])
@pytest.mark.parametrize("file", ["scores.json", "values.json", "loss.json", "manifest.json", "rates.json"])
def test_a_file_that_something_else_has_written_is_named_in_one_line(make_cell, tmp_path, file, text):
    (training,) = compile_plan([make_cell()]).trainings
    store, spec, point = Store(tmp_path), training.spec, training.points[0]
    path, read = {
        "scores.json": (store.evaluation(spec, point) / file, lambda: store.scorecard(spec, point)),
        "values.json": (store.baselines(spec, point) / file, lambda: store.baseline_values(spec, point)),
        "loss.json": (store.training(spec) / file, lambda: store.losses(spec)),
        "manifest.json": (store.checkpoint(spec, 4) / file, lambda: store.checkpoint_provenance(spec, 4)),
        "rates.json": (store.rates, lambda: remember(store, spec.model, 1, 1.0, 1.0, 1.0)),
    }[file]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecError, match=r"cannot be read .*: move it away") as error:
        read()
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("found", [FORMAT + 1, 0, True, 1.5, "new", None])
def test_an_unknown_format_is_refused_in_one_line(tmp_path, found):
    write_json(tmp_path / "format.json", {"format": found})
    with pytest.raises(SpecError, match=f"format {found}") as error:
        Store(tmp_path).mark_format()
    assert "\n" not in str(error.value)
    assert "output_dir=" in str(error.value)
    assert read_json(tmp_path / "format.json") == {"format": found}


def test_a_scorecard_that_was_written_again_is_read_again(make_cell, tmp_path):
    (training,) = compile_plan([make_cell()]).trainings
    store, point = Store(tmp_path), training.points[0]
    assert store.scorecard(training.spec, point) is None
    for value in (0.1, 0.2):
        Scorecard.from_json({"metrics": {"dino": value}, "values": {"dino": [[value]]}}).write(
            store.evaluation(training.spec, point) / "scores.json"
        )
        assert store.scorecard(training.spec, point).metrics == {"dino": value}


@pytest.mark.usefixtures("frozen")
def test_a_job_of_its_own_measures_what_is_missing(old, training, monkeypatch):
    root, store = old
    monkeypatch.setitem(METRICS, "brightness", BRIGHTNESS)
    job = Queue(root / "jobs").add(Task(Kind.SCORE, training))
    assert carry_out(job, store, Reporter(job), PartialState(cpu=True)).state == COMPLETE
    assert store.missing(training) == ()
