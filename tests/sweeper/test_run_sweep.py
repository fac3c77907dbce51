"""A grid's sweep on a cluster that trains nothing: what it adds, in which order, and what it returns."""

import time

import pytest
from hydra import initialize_config_dir
from rich.console import Console

from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.grid import CONF, expand, parse
from sweeper.store import Store
from sweeper.sweep import Context, Planned, exit_code, run_sweep, train_all
from tests.sweeper.search import fake
from tests.sweeper.search.fake import Cluster, without_work


@pytest.fixture
def run(planned, monkeypatch, tmp_path):
    """Runs a grid; returns its results."""

    def run_grid(*typed, cluster, keep="all"):
        settings = without_work(monkeypatch, tmp_path, "grid", cluster, keep)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            grid = expand(parse([*planned, *typed], None), fake.config_of)
        store = Store(tmp_path / "store")
        plan = compile_plan(grid.cells)
        whole = Planned(grid, plan, cost([store.left(training) for training in plan.trainings], store))
        context = Context(store, tmp_path / "grid", settings, Console(quiet=True), time.monotonic())
        return run_sweep(context, lambda: whole, train_all)

    return run_grid


def test_the_longest_training_begins_first(run):
    cluster = Cluster()
    run("lr=1e-6", "batch_size=1,4", "steps=100", "eval_every=0", cluster=cluster)
    assert [job.training.spec.batch_size for job in cluster.jobs if not job.task.export] == [4, 1]


def test_a_second_run_adds_nothing(run):
    first, second = Cluster(), Cluster()
    results = run("lr=1e-6,2e-6", "steps=100,200", "eval_every=0", cluster=first)
    again = run("lr=1e-6,2e-6", "steps=100,200", "eval_every=0", cluster=second)
    assert len(first.events) == 4
    assert second.jobs == []  # the sweet spot was exported too
    assert [row.metrics for row in again.rows] == [row.metrics for row in results.rows]


def test_a_failed_training_makes_the_exit_code(run):
    results = run("lr=1e-6,2e-6", "steps=100", "eval_every=0", cluster=Cluster(fails=lambda spec: spec.lr == 2e-6))
    assert exit_code(results) == 1
    assert [row.state for row in results.rows] == ["COMPLETE", "FAIL"]
    assert exit_code(run("lr=1e-6", "steps=100", cluster=Cluster())) == 0
