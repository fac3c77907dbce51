from pathlib import Path

import pytest

from evaluation.sweetspot import SweetSpot
from sweeper.plan import compile_plan
from sweeper.prune import losers, prune
from sweeper.results import COMPLETE, Results, Row
from sweeper.store import Store
from trainers.files import is_complete, write_json


@pytest.fixture
def results():
    """Four checkpoints of one training: the second has the best score, the third is chosen, the fourth is vetoed."""
    scores = [0.2, 0.8, 0.7, 0.9]
    rows = tuple(
        Row({"steps": 100 * (i + 1)}, "a", COMPLETE, metrics={"score": s}, vetoes=("copying",) if i == 3 else ())
        for i, s in enumerate(scores)
    )
    spot = SweetSpot(True, "region", "", best=2, region=(1, 2))
    empty = {"axes": {}, "trainings": (), "export": None, "instance_images": (), "untuned": {}, "prompts": ()}
    empty |= {"baselines": {}, "backbones": {}, "model": "", "subject": "", "plan": {}, "timings": {}, "command": ""}
    return Results("sweep", Path(), rows=rows, sweet_spot=spot, best=2, **empty)


@pytest.mark.parametrize(
    ("keep", "final", "steps"),
    [
        ("all", True, []),
        ("best", True, [100, 200, 400]),
        ("best", False, [100, 400]),  # the second may still be chosen
        ("2", True, [100, 400]),
        ("3", True, [400]),
    ],
)
def test_the_chosen_and_the_best_are_kept(results, keep, final, steps):
    assert sorted(step for _, step in losers(results, keep, final)) == steps


def test_only_lost_checkpoints_of_finished_trainings_are_deleted(make_cell, tmp_path):
    plan, store = compile_plan([make_cell(step=100), make_cell(step=200), make_cell(seed=1)]), Store(tmp_path)
    done, other = plan.trainings
    for training in plan.trainings:
        for step in training.steps:
            write_json(store.checkpoint(training.spec, step) / "manifest.json", {})
    for point in done.points:
        write_json(store.evaluation(done.spec, point) / "scores.json", {})
    prune(plan, store, {(done.spec.signature, 100), (other.spec.signature, 400)})
    assert not store.checkpoint(done.spec, 100).exists()
    assert is_complete(store.checkpoint(done.spec, 200))
    assert is_complete(store.checkpoint(other.spec, 400))  # not scored yet
    assert not store.left(done).missing
