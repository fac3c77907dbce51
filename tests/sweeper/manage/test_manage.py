"""`python -m sweeper` on sweeps of a cluster that trains nothing."""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from rich.console import Console

from sweeper import __main__ as command
from sweeper.engine.base import Resources, Workplace
from sweeper.engine.crew import Crew
from sweeper.engine.inline import InlineEngine
from sweeper.engine.queue import Queue, new_folder
from sweeper.manage import clean, sweeps
from sweeper.manage.export import chosen
from sweeper.names import GRID, SEARCH, reserve_name
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.grid import CONF, expand, parse
from sweeper.report.files import write_results_json
from sweeper.results.uses import read_uses
from sweeper.store import Store, claim
from sweeper.sweep import Context, Planned, run_sweep, train_all
from tests.sweeper.engine import light
from tests.sweeper.search import fake
from tests.sweeper.search.fake import Cluster, without_work
from trainers.errors import SpecError


@pytest.fixture
def sweep(planned, monkeypatch, tmp_path):
    """Runs a grid in `tmp_path` under a name; writes its results unless it is interrupted."""

    def run(name, *typed, cluster=None, kind=GRID, keep="all"):
        settings = without_work(monkeypatch, tmp_path, name, cluster or Cluster(), keep)
        monkeypatch.setattr(
            "sweeper.sweep.write.write",
            lambda results: (write_results_json(results.folder / "results.json", results) and results, {}),
        )
        with initialize_config_dir(str(CONF), version_base="1.3"):
            grid = expand(parse([*planned, "eval_every=0", *typed], None), fake.config_of)
        store = Store(tmp_path / "store")
        plan = compile_plan(grid.cells)
        whole = Planned(grid, plan, cost([store.left(training) for training in plan.trainings], store))
        reserve_name(tmp_path / name, kind, [cell.signature for cell in grid.cells])
        context = Context(store, tmp_path / name, settings, Console(quiet=True), time.monotonic())
        return run_sweep(context, lambda: whole, train_all)

    return run


def run(monkeypatch, capsys, *arguments, answer=None):
    """What a command prints. answer: what a person types, at a terminal."""
    monkeypatch.setattr(sys, "argv", ["sweeper", *map(str, arguments)])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: answer is not None, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    command.main()
    return capsys.readouterr().out


def folders(tmp_path):
    return {path.name for path in (tmp_path / "store" / "trainings").iterdir() if not path.name.startswith(".")}


def signatures(results):
    return {training.signature for training in results.trainings}


def test_clean_removes_what_no_sweep_needs_and_nothing_else(sweep, tmp_path, monkeypatch, capsys):
    """One training is in both sweeps; the folder of one sweep is deleted by hand."""
    one = sweep("one", "lr=1e-6,2e-6", "steps=100")
    two = sweep("two", "lr=2e-6,5e-6", "steps=100")
    there = ("--output-dir", tmp_path)
    assert "nothing that no sweep needs" in run(monkeypatch, capsys, "clean", *there)
    shutil.rmtree(tmp_path / "one")
    (gone,) = signatures(one) - signatures(two)
    told = run(monkeypatch, capsys, "clean", *there)
    assert gone in told
    assert not any(signature in told for signature in signatures(two))
    assert "--yes removes it" in told
    assert folders(tmp_path) == signatures(one) | signatures(two)
    assert "Nothing was removed" in run(monkeypatch, capsys, "clean", *there, answer="n")
    assert folders(tmp_path) == signatures(one) | signatures(two)
    assert "removed." in run(monkeypatch, capsys, "clean", *there, answer="y")
    assert folders(tmp_path) == signatures(two)
    again = Cluster()
    sweep("two", "lr=2e-6,5e-6", "steps=100", cluster=again)
    assert again.jobs == []


def test_clean_keeps_what_an_interrupted_sweep_needs(sweep, tmp_path):
    """Also where another sweep, deleted since, made it."""
    one = sweep("one", "lr=1e-6,2e-6", "steps=100")
    with pytest.raises(KeyboardInterrupt):
        sweep("two", "lr=1e-6,2e-6,5e-6", "steps=100", cluster=Cluster(stops_after=0))
    shutil.rmtree(tmp_path / "one")
    assert sweeps.named(tmp_path, "two").state == sweeps.UNFINISHED
    assert clean.unneeded(tmp_path).folders == ()
    assert signatures(one) <= folders(tmp_path)


@pytest.mark.parametrize("kind", [GRID, SEARCH])
def test_clean_leaves_all_where_it_is_not_known_what_is_needed(sweep, tmp_path, kind):
    """An unfinished sweep of an earlier version, or a search, which may ask for anything."""
    sweep("one", "lr=1e-6,2e-6", "steps=100")
    with pytest.raises(KeyboardInterrupt):
        sweep("two", "lr=5e-6", "steps=100", kind=kind, cluster=Cluster(stops_after=0))
    if kind == GRID:
        (tmp_path / "two" / "plan.json").unlink()
    shutil.rmtree(tmp_path / "one")
    found = clean.unneeded(tmp_path)
    assert found.folders == ()
    assert "two" in found.kept[0]


def test_clean_knows_a_finished_sweep_of_an_earlier_version(sweep, tmp_path):
    one = sweep("one", "lr=1e-6,2e-6", "steps=100")
    (tmp_path / "one" / "plan.json").unlink()
    (tmp_path / "store" / "class_images" / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "store" / "trainings" / "0123456789abcdef").mkdir(parents=True)
    found = clean.unneeded(tmp_path)
    assert [path.parent.name for path, _ in found.folders] == ["trainings"]
    assert "Class images stay" in found.kept[0]
    clean.remove(tmp_path, found)
    assert folders(tmp_path) == signatures(one)


def test_clean_leaves_the_baselines_of_rounds(sweep, tmp_path):
    sweep("one", "lr=1e-6", "steps=100")
    for kind in ("baselines", "trainings"):
        (tmp_path / "store" / kind / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "one" / "rounds").mkdir()
    found = clean.unneeded(tmp_path)
    assert [path.parent.name for path, _ in found.folders] == ["trainings"]
    assert "Baselines stay" in found.kept[0]


def test_clean_leaves_what_somebody_holds_or_has_come_to_need(sweep, tmp_path):
    one = sweep("one", "lr=1e-6", "steps=100")
    two = sweep("two", "lr=2e-6", "steps=100")
    elsewhere = [(tmp_path / name).rename(tmp_path / "store" / name) for name in ("one", "two")]
    (tmp_path / "three").mkdir()
    reserve_name(tmp_path / "three", GRID, [])
    (tmp_path / "three" / "plan.json").write_text(json.dumps({"folders": [], "trainings": {}}))
    found = clean.unneeded(tmp_path)
    assert len(found.folders) >= 2
    elsewhere[0].rename(tmp_path / "one")
    (held,) = signatures(two)
    with claim(tmp_path / "store" / "trainings" / held):
        clean.remove(tmp_path, found)
    assert folders(tmp_path) == signatures(one) | signatures(two)


def test_ls_tells_the_disk_that_each_holds(sweep, tmp_path, monkeypatch, capsys):
    sweep("one", "lr=1e-6,2e-6", "steps=100")
    sweep("two", "lr=2e-6,5e-6", "steps=100")
    for found, own, alone, shared in sweeps.held(tmp_path):
        assert own > 0
        assert alone > 0
        assert shared > 0
        assert found.state == sweeps.FINISHED
    told = run(monkeypatch, capsys, "ls", "--output-dir", tmp_path)
    assert "one" in told
    assert "lr=" in told


def test_the_plan_of_a_sweep_can_be_read_again(sweep, tmp_path):
    results = sweep("one", "lr=1e-6,2e-6", "steps=100,200")
    uses = read_uses(tmp_path / "one")
    assert uses.trainings.keys() == signatures(results)
    assert all(training.spec.signature == signature for signature, training in uses.trainings.items())


def test_a_sweep_that_is_extended_uses_more(sweep, tmp_path):
    """Another way of sampling is the same training with other baselines."""
    sweep("one", "lr=1e-6", "steps=100")
    before = read_uses(tmp_path / "one").folders
    sweep("one", "lr=1e-6", "steps=100", "scheduler=pndm,ddim")
    assert before < read_uses(tmp_path / "one").folders


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["lr=2e-6"], "2 checkpoints have that: say which too steps=100,200"),
        (["lr=3e-6"], "no checkpoint has that; there are lr=1e-6,2e-6; steps=100,200"),
        (["speed=1"], "speed is no setting of this sweep"),
        (["lr=x"], "no checkpoint has that"),
    ],
)
def test_a_cell_that_is_not_said_exactly_is_one_line(sweep, tmp_path, asked, said):
    sweep("one", "lr=1e-6,2e-6", "steps=100,200")
    with pytest.raises(SpecError) as refused:
        chosen(sweeps.named(tmp_path, "on"), asked)
    assert said in str(refused.value)


def test_a_cell_is_chosen_by_its_values_as_typed(sweep, tmp_path):
    sweep("one", "lr=1e-6,2e-6", "steps=100,200", "prior_preservation=true,false")
    row = chosen(sweeps.named(tmp_path, "one"), ["lr=0.000002", "steps=200", "prior_preservation=false"])
    assert (row["params"]["lr"], row["params"]["steps"], row["params"]["prior_preservation"]) == (2e-6, 200, False)


def test_a_name_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, capsys, "stop", "x", "--output-dir", tmp_path)
    assert str(stopped.value).startswith("sweeper: x: no sweep there has this name")
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, capsys, "ls", "--output-dir", tmp_path / "x")
    assert "is no folder" in str(stopped.value)


class Waiting(InlineEngine):
    handler = staticmethod(light.handle)


def test_a_sweep_is_seen_and_stopped_from_another_shell(tmp_path, monkeypatch, capsys):
    reserve_name(tmp_path / "one", GRID, [])
    folder = new_folder(tmp_path / "one")
    store = tmp_path / "store"
    store.mkdir()
    ended = []

    def sweep():
        with Crew(Waiting(Resources()), Workplace(folder, store)) as crew:
            crew.add(light.task("wait"))
            try:
                crew.wait(lambda jobs: None)
            except BaseException as error:
                ended.append(error)

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        while not (Queue(folder).jobs() and Queue(folder).jobs()[0].status):
            time.sleep(0.01)
        there = ("--output-dir", tmp_path)
        assert "one: running" in run(monkeypatch, capsys, "status", *there)
        assert "waiting" in run(monkeypatch, capsys, "status", "one", *there)
        assert "has stopped; the same command goes on" in run(monkeypatch, capsys, "stop", "one", *there)
    finally:
        (store / "go").touch()
        thread.join(30)
    assert [type(error) for error in ended] == [KeyboardInterrupt]
    assert "Nothing runs" in run(monkeypatch, capsys, "status", *there)
    assert "does not run" in run(monkeypatch, capsys, "stop", "one", *there)


def test_it_answers_at_once():
    code = (
        "import sys; sys.argv = ['x', '--help']\nimport sweeper.__main__ as m\ntry: m.main()\nexcept SystemExit: pass\n"
    )
    code += "assert not {'torch', 'mlflow'} & sys.modules.keys()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False
    )
    assert done.returncode == 0, done.stderr
    assert "export NAME KEY=VALUE" in done.stdout
