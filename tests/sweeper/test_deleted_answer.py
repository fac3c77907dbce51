"""An answer whose checkpoint an earlier sweep deleted is trained and scored again, and then looked for again."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeper.engine.jobs import COMPLETE, FAIL, Kind, Outcome
from sweeper.plan.compile import compile_plan
from sweeper.results.exports import target
from sweeper.sweep import Sweep
from tests.sweeper.results.test_retention import results  # noqa: F401  - a fixture
from trainers.files import MANIFEST, write_json

SAMPLED = {"scheduler": "pndm", "use_ema": True, "sample_precision": "no"}


@pytest.fixture
def run(make_cell, results, tmp_path):  # noqa: F811
    """Runs it on answers, each of which is found after the job before; (answer, tasks, what was printed)."""
    plan = compile_plan([make_cell(step=step, scheduler=name) for step in (100, 200) for name in ("pndm", "ddim")])
    (training,) = plan.trainings

    def answer(step, there):
        params = {"steps": step, "lr": 2e-6, **SAMPLED}
        row = replace(results.rows[0], params=params, training=training.spec.signature)
        return replace(
            results, axes={"lr": (1e-6,)}, rows=(replace(row, checkpoint=Path("w") if there else None),) * 2, best=0
        )

    def begin(*asked, state=COMPLETE):
        answers = [answer(*each) for each in asked]
        tasks = []
        printed = io.StringIO()
        sweep = SimpleNamespace(
            context=SimpleNamespace(
                console=Console(file=printed), settings=SimpleNamespace(gpus_per_trial=1), folder=tmp_path
            ),
            _do=lambda task, title: tasks.append(task) or Outcome(state),
            _collect=lambda planned: answers[len(tasks)],
            sample_rounds=lambda: None,
        )
        found = Sweep._with_weights(sweep, answers[0], SimpleNamespace(plan=plan))
        return found, tasks, printed.getvalue()

    begin.training = training.spec.signature
    return begin


def test_an_answer_that_is_there_is_left_alone(run):
    found, tasks, printed = run((200, True))
    assert (found.rows[0].step, tasks, printed) == (200, [], "")


def test_an_answer_that_was_exported_already_is_left_alone(run, tmp_path):
    write_json(target(tmp_path, run.training, {"steps": 200, **SAMPLED}) / MANIFEST, {})
    found, tasks, _ = run((200, False))
    assert (found.rows[0].step, tasks) == (200, [])


def test_a_deleted_answer_is_made_again_until_the_answer_is_there(run):
    found, tasks, printed = run((200, False), (100, False), (200, True))
    assert found.rows[0].checkpoint
    assert [(task.kind, {(p.step, p.sample.scheduler) for p in task.points}) for task in tasks] == [
        (Kind.SAMPLE, {(step, name) for name in ("pndm", "ddim")}) for step in (200, 100)
    ]
    assert printed.splitlines() == [
        f"lr=2e-6 steps={step} was deleted: it is trained and scored again" for step in (200, 100)
    ]


def test_what_cannot_be_made_again_ends_there(run):
    found, tasks, _ = run((200, False), (200, False), state=FAIL)
    assert len(tasks) == 1
    assert found.rows[0].checkpoint is None
