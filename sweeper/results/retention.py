"""keep=best or a number: the weights of losing checkpoints are deleted as they are scored. Scores and samples stay.

Which one the answer will be is not known before the last score: what is measured of one says something of others. So
before the end these are kept, as many as `keep` and `SPARE` together: the answer so far, then by expected score; never
what is vetoed. Should the highest expected score be that of a checkpoint that was deleted, the answer is another of its
region whose weights are there (evaluation/sweetspot.py). Where none is, it is trained and scored again, which is said.
"""

from collections.abc import Collection, Mapping, Sequence

from sweeper.disk import checkpoints_kept
from sweeper.engine.jobs import Job
from sweeper.engine.states import delete_state
from sweeper.plan.types import Plan
from sweeper.results.ordering import ranked
from sweeper.results.types import PRUNED, Results
from sweeper.store import Store, claim
from trainers.files import remove_folder

Kept = set[tuple[str, int]]  # checkpoints: (signature of the training, step)


def winners(results: Results, keep: str, final: bool) -> Kept:
    """The checkpoints to keep. Where none has a score, none has lost."""
    rows = results.rows
    if not any("score" in row.metrics for row in rows):
        return set(_checkpoints(results, range(len(rows))))
    kept = [i for i in ranked(results) if rows[i].checkpoint and "expected_score" in rows[i].metrics]
    return set(_checkpoints(results, kept)[: checkpoints_kept(keep, final)])


def _checkpoints(results: Results, positions: Sequence[int]) -> list[tuple[str, int]]:
    """Of rows; several ways of sampling may have one checkpoint."""
    return list(dict.fromkeys((results.rows[i].training, results.rows[i].step) for i in positions))


def stopped(results: Results) -> set[str]:
    """Signatures of the trainings that were ended early, and will not go on."""
    return {training.signature for training in results.trainings if training.state == PRUNED}


def delete_checkpoints(plan: Plan, store: Store, kept: Kept, ended: Collection[str], begun: Mapping[str, Job]) -> None:
    """Deletes all checkpoints but `kept` of the trainings that are done or in `ended`.

    Of the others that are `begun`, by signature, the worker deletes what is scored: it holds the training.
    """
    for training in plan.trainings:
        signature = training.spec.signature
        folder = store.training(training.spec)
        lost = {step for step in training.steps if (signature, step) not in kept}
        missing = {point.step for point in store.missing(training)}
        if missing and signature not in ended:
            if signature in begun and lost - missing:
                begun[signature].discard(lost - missing)
            continue
        with claim(folder, wait=False) as mine:
            for step in lost if mine else ():
                remove_folder(store.checkpoint(training.spec, step))


def delete_states(results: Results, plan: Plan, store: Store) -> None:
    """Deletes the states of the trainings that are done or were ended, unless the answer is to train them longer.

    A training that failed keeps its state, to be tried again from there.
    """
    extended = {results.rows[i].training for i in results.candidates} if results.sweet_spot.more_steps else set()
    ended = stopped(results)
    for training in plan.trainings:
        signature = training.spec.signature
        if signature not in extended and (signature in ended or not store.unscored(training)):
            delete_state(training, store)
