"""Which trainings keep a state once they have ended."""

from dataclasses import replace

import pytest

from evaluation.sweetspot import SweetSpot
from sweeper.engine import states
from sweeper.engine.rungs import Rung
from sweeper.engine.states import Keeps, state_to_keep
from sweeper.plan.compile import compile_plan
from sweeper.store import Store
from trainers.files import saved_step, state_folder, write_json
from trainers.sizes import LARGE_STATE

RISING, FALLING = (0.2, 0.5), (0.5, 0.2)
OPEN = SweetSpot(True, "region", "", onset={"curve": None})


@pytest.fixture
def known(monkeypatch):
    """Scores of the checkpoints of each training, by its learning rate, and what is said of them."""
    scores = {}
    spots = {}

    def so_far(training, store, evaluation):
        return [training.spec.lr], spots.get(training.spec.lr, OPEN)

    def rungs(points, spot):
        return [Rung(100 * i, 0.5, 0.5, score) for i, score in enumerate(scores[points[0]], start=1)]

    monkeypatch.setattr(states, "sweet_spot_so_far", so_far)
    monkeypatch.setattr(states, "rungs", rungs)
    monkeypatch.setattr(states, "state_bytes", lambda spec: LARGE_STATE)
    return scores, spots


def planned(make_cell, *lrs):
    return compile_plan([make_cell(lr=lr, step=step) for lr in lrs for step in (100, 200)]).trainings


@pytest.mark.parametrize(
    ("scores", "spot", "keeps"),
    [
        (RISING, OPEN, True),
        ((0.5, 0.5), OPEN, True),
        (FALLING, OPEN, False),
        ((0.0, 0.0), OPEN, False),
        ((0.5,), OPEN, False),  # nothing to see a direction in
        (RISING, replace(OPEN, onset={"curve": 200}), False),  # it overfits
        (RISING, replace(OPEN, verdict="refused"), False),
        ((0.0, 0.0), replace(OPEN, verdict="none", more_steps=True), True),  # nothing learned yet
    ],
)
def test_a_state_stays_where_more_steps_may_be_the_answer(make_cell, tmp_path, known, scores, spot, keeps):
    (training,) = planned(make_cell, 1e-6)
    known[0][1e-6], known[1][1e-6] = scores, spot
    assert state_to_keep(training, [], Store(tmp_path)) == Keeps(keeps)


def test_of_large_states_the_best_stays_and_of_small_ones_each(make_cell, tmp_path, known, monkeypatch):
    one, other = planned(make_cell, 1e-6, 2e-6)
    monkeypatch.setattr(Store, "missing", lambda self, training: ())
    known[0].update({1e-6: RISING, 2e-6: (0.2, 0.6)})
    store = Store(tmp_path)
    assert state_to_keep(one, [one, other], store) == Keeps(False)
    assert state_to_keep(other, [one, other], store) == Keeps(True, (one,))
    elsewhere = replace(one, spec=replace(one.spec, subject=replace(one.spec.subject, fingerprint="x")))
    assert state_to_keep(other, [elsewhere], store) == Keeps(True)  # its scores do not compare
    monkeypatch.setattr(Store, "missing", lambda self, training: training.points)
    assert state_to_keep(one, [one, other], store) == Keeps(True)  # nobody knows yet how good the other is
    monkeypatch.setattr(states, "state_bytes", lambda spec: LARGE_STATE - 1)
    monkeypatch.setattr(Store, "missing", lambda self, training: ())
    assert state_to_keep(one, [one, other], store) == Keeps(True)


def test_a_state_that_somebody_needs_is_not_deleted(make_cell, tmp_path):
    (training,) = planned(make_cell, 1e-6)
    store = Store(tmp_path)
    folder = store.training(training.spec)
    for step, held, left in ((300, False, 300), (200, False, 200), (200, True, -1)):
        write_json(state_folder(folder, step) / "manifest.json", {})
        if held:
            states.delete_state(training, store)
        else:
            with states.claim(folder):
                states.delete_state(training, store)
        assert saved_step(folder) == left
        states.remove_states(folder)
