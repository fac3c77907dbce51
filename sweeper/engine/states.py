"""Which trainings keep their last state, to go on with more steps; the states of the others are deleted."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from sweeper.engine.rungs import Rung, rungs, sweet_spot_so_far
from sweeper.plan.types import Training
from sweeper.store import Store, claim
from trainers.files import remove_states, saved_step
from trainers.sizes import LARGE_STATE, state_bytes
from trainers.spec import TrainSpec


@dataclass(frozen=True)
class Keeps:
    own: bool  # that of the training that has ended
    replaced: tuple[Training, ...] = ()  # others, whose states are not needed any more


def make_room(training: Training, others: Sequence[Training], store: Store) -> bool:
    """Whether the last state of a training is to be kept, which this process holds. What it replaces is deleted first:
    its own former state and, of large ones, those of others."""
    keeps = state_to_keep(training, others, store)
    delete_state(training, store, held=True)
    for other in keeps.replaced:
        delete_state(other, store)
    return keeps.own


def state_to_keep(training: Training, others: Sequence[Training], store: Store) -> Keeps:
    """Of a training whose last checkpoint is scored. `others` are those of the same sweep.

    It may go on where the answer may come to be "more steps": its last checkpoint is its best, and overfitting has not
    begun. Of large states only the best one is kept, as that is what the answer will be about.
    """
    score = _score_to_extend(training, store)
    if score is None:
        return Keeps(False)
    if state_bytes(training.spec) < LARGE_STATE:
        return Keeps(True)
    same = [other for other in others if _compares(other.spec, training.spec)]
    done = [other for other in same if not store.missing(other)]
    scores = [_score_to_extend(other, store) for other in done]
    if any(other is not None and other > score for other in scores):
        return Keeps(False)
    return Keeps(True, tuple(done))


def _compares(one: TrainSpec, other: TrainSpec) -> bool:
    return one != other and (one.model, one.subject) == (other.model, other.subject)


def _score_to_extend(training: Training, store: Store) -> float | None:
    """The score of the last checkpoint where it is the best so far, under any way of judging; None where none is."""
    found: list[float] = []
    for evaluation in dict.fromkeys(point.evaluation for point in training.points):
        points, spot = sweet_spot_so_far(training, store, evaluation)
        reached: list[Rung] = rungs(points, spot)
        if not reached or spot.verdict == "refused":
            continue
        last = reached[-1].score
        rising = len(reached) > 1 and last > 0 and last >= max(rung.score for rung in reached)
        if spot.more_steps or (rising and None in spot.onset.values()):
            found.append(last)
    return max(found, default=None)


def delete_state(training: Training, store: Store, held: bool = False) -> None:
    """Not while another process holds the training, nor one that another sweep left at a later step.

    held: this process holds the training.
    """
    folder = store.training(training.spec)
    if 0 <= saved_step(folder) <= training.last_step:
        with nullcontext(True) if held else claim(folder, wait=False) as mine:
            if mine:
                remove_states(folder)
