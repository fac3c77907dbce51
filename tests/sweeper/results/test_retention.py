from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.sweetspot import SweetSpot
from sweeper.disk import SPARE
from sweeper.engine.jobs import Kind, Task
from sweeper.engine.queue import Queue
from sweeper.plan.compile import compile_plan
from sweeper.results.retention import delete_checkpoints, delete_states, winners
from sweeper.results.types import COMPLETE, PRUNED, Results, Row, TrainingResult
from sweeper.store import Store, claim
from trainers.files import is_complete, saved_step, state_folder, write_json


@pytest.fixture
def results():
    """Four checkpoints of one training: the second has the best expected score and its weights were deleted once, the
    third is chosen, the fourth is vetoed."""
    scores = [0.2, 0.8, 0.7, 0.9]
    rows = tuple(
        Row(
            {"steps": 100 * (i + 1)},
            "a",
            COMPLETE,
            metrics={"score": s} | ({"expected_score": s} if i < 3 else {}),
            vetoes=("copying",) if i == 3 else (),
            checkpoint=Path("there"),
        )
        for i, s in enumerate(scores)
    )
    spot = SweetSpot(True, "region", "", best=2, region=(1, 2))
    empty = {"axes": {}, "trainings": (), "export": None, "instance_images": (), "prompts": ()}
    empty |= {"baselines": {}, "backbones": {}, "model": "", "subject": "", "plan": {}, "timings": {}, "command": ""}
    return Results("sweep", Path(), rows=rows, sweet_spot=spot, best=2, **empty)


@pytest.mark.parametrize(
    ("keep", "final", "steps"),
    [
        ("best", True, [300]),
        ("best", False, [100, 200, 300]),  # the others may still be chosen
        ("2", True, [200, 300]),
        ("3", True, [100, 200, 300]),  # never the vetoed one
    ],
)
def test_the_chosen_and_the_best_are_kept(results, keep, final, steps):
    assert sorted(step for _, step in winners(results, keep, final)) == steps


def test_a_checkpoint_sampled_in_two_ways_counts_once(results):
    again = tuple(replace(row, params={**row.params, "scheduler": "ddim"}) for row in results.rows)
    twice = replace(results, rows=(*results.rows, *again))
    assert sorted(step for _, step in winners(twice, "2", True)) == [200, 300]


def test_the_answer_comes_first_and_then_expected_scores_decide_not_measured_ones(results):
    """Before the end, of many."""
    numbers = [0.50, 0.40, 0.61, 0.62, 0.70, 0.63, 0.64, 0.65]
    row = results.rows[0]
    rows = tuple(
        replace(row, params={"steps": 100 * i}, metrics={"score": 1 - s, "expected_score": s})
        for i, s in enumerate(numbers)
    )
    many = replace(results, rows=rows, best=3)
    assert sorted(step for _, step in winners(many, "best", False)) == [300, 400, 600, 700]
    assert SPARE == 3
    gone = tuple(replace(row, checkpoint=None) if row.step in (400, 600) else row for row in rows)
    kept = winners(replace(many, rows=gone), "best", False)
    assert sorted(step for _, step in kept) == [200, 300, 500, 700]  # what is deleted takes nobody's place


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def trained(store, training, scored):
    """As if `training` had left every checkpoint and the scores of the steps `scored`."""
    write_json(state_folder(store.training(training.spec), max(scored)) / "manifest.json", {})
    for step in training.steps:
        write_json(store.checkpoint(training.spec, step) / "manifest.json", {})
    for point in training.points:
        if point.step in scored:
            write_json(store.evaluation(training.spec, point) / "scores.json", {})
            write_json(store.baselines(training.spec, point) / "values.json", {})


def kept_steps(store, training):
    return [step for step in training.steps if is_complete(store.checkpoint(training.spec, step))]


def test_only_trainings_that_are_done_or_ended_lose_checkpoints(make_cell, store):
    plan = compile_plan([make_cell(step=step, seed=seed) for seed in (0, 1, 2) for step in (100, 200, 300)])
    done, ended, working = plan.trainings
    for training, scored in ((done, (100, 200, 300)), (ended, (100,)), (working, (100,))):
        trained(store, training, scored)
    delete_checkpoints(plan, store, {(done.spec.signature, 200)}, {ended.spec.signature}, {})
    assert [kept_steps(store, training) for training in plan.trainings] == [[200], [], [100, 200, 300]]
    assert not store.left(done).missing
    assert [point.step for point in store.left(ended).missing] == [200, 300]  # what it had is known without its weights


def test_what_has_lost_in_a_training_at_work_is_for_its_worker_to_delete(make_cell, store, tmp_path):
    plan = compile_plan([make_cell(step=step) for step in (100, 200, 300, 400)])
    (working,) = plan.trainings
    trained(store, working, (100, 200, 300))
    job = Queue(tmp_path).add(Task(Kind.TRAIN, working))
    assert job.discarded == []
    delete_checkpoints(plan, store, {(working.spec.signature, 200)}, set(), {working.spec.signature: job})
    assert job.discarded == [100, 300]  # never what is not scored yet
    assert kept_steps(store, working) == [100, 200, 300, 400]


def test_where_none_can_be_judged_none_has_lost(results):
    rows = tuple(replace(row, metrics={}) for row in results.rows)
    unjudged = replace(results, rows=rows, best=None)
    assert sorted(step for _, step in winners(unjudged, "best", True)) == [100, 200, 300, 400]


def test_the_best_checkpoint_is_kept_in_a_training_that_was_ended(make_cell, store):
    plan = compile_plan([make_cell(step=step) for step in (100, 200)])
    (ended,) = plan.trainings
    trained(store, ended, (100,))
    delete_checkpoints(plan, store, {(ended.spec.signature, 100)}, {ended.spec.signature}, {})
    assert kept_steps(store, ended) == [100]


def test_a_training_that_another_process_holds_is_left_alone(make_cell, store):
    plan = compile_plan([make_cell()])
    (training,) = plan.trainings
    trained(store, training, training.steps)
    with claim(store.training(training.spec)):
        delete_checkpoints(plan, store, set(), set(), {})
        assert kept_steps(store, training) == [400]
    delete_checkpoints(plan, store, set(), set(), {})
    assert kept_steps(store, training) == []


@pytest.mark.parametrize(("more_steps", "kept"), [(True, [300, -1, 100, 400]), (False, [-1, -1, 100, 400])])
def test_states_go_with_the_answer_unless_it_asks_for_more_steps(make_cell, store, results, more_steps, kept):
    """Of a training that is done, one that was ended, one at work, and one that another sweep trained for longer."""
    plan = compile_plan([make_cell(step=step, seed=seed) for seed in (0, 1, 2, 3) for step in (100, 200, 300)])
    done, ended, working, longer = plan.trainings
    for training, scored in ((done, (100, 200, 300)), (ended, (100,)), (working, (100,)), (longer, (100, 200, 300))):
        trained(store, training, scored)
    write_json(state_folder(store.training(longer.spec), 400) / "manifest.json", {})
    of = {"params": {}, "loss": (), "reason": "", "log": None}
    said = replace(
        results,
        rows=tuple(replace(row, training=done.spec.signature) for row in results.rows),
        trainings=(TrainingResult(ended.spec.signature, state=PRUNED, **of),),
        sweet_spot=replace(results.sweet_spot, more_steps=more_steps),
        candidates=(0, 1),
    )
    with claim(store.training(done.spec)):
        delete_states(said, plan, store)
        assert saved_step(store.training(done.spec)) == 300  # another sweep is at it
    delete_states(said, plan, store)
    assert [saved_step(store.training(training.spec)) for training in plan.trainings] == kept
