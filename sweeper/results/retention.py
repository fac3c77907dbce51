"""keep=best or a number: the weights of losing checkpoints are deleted as they are scored. Scores and samples stay.

Which one the answer will be is not known before the last score: a better one may make others its equals or leave them
behind. So before the end these are kept, as many as `keep` and `SPARE` together: the answer so far, the best score, its
equals from the earliest on, the others by their score; never what is vetoed. The answer is the earliest of the equals
whose weights are there (evaluation/sweetspot.py). As the best score is always kept, one is there, and what is exported
is what was scored. Only where a later sweep has other cells may the answer be a checkpoint that was deleted, with no
equal that is there: it is trained and scored again, which is said.
"""

from collections.abc import Collection, Mapping, Sequence

from sweeper.disk import checkpoints_kept
from sweeper.engine.jobs import Job
from sweeper.engine.states import delete_state
from sweeper.plan.types import Plan
from sweeper.results.types import PRUNED, Results
from sweeper.store import Store, claim
from trainers.files import remove_folder

Kept = set[tuple[str, int]]  # checkpoints: (signature of the training, step)


def winners(results: Results, keep: str, final: bool) -> Kept:
    """The checkpoints to keep. Where none has a score, none has lost."""
    rows = results.rows
    if not any("score" in row.metrics for row in rows):
        return set(_checkpoints(results, range(len(rows))))
    there = [i for i, row in enumerate(rows) if row.checkpoint and "score" in row.metrics and not row.vetoes]
    ranked = sorted(there, key=lambda i: -rows[i].metrics["score"])
    equals = sorted(set(results.positions(results.sweet_spot.region)) & set(there), key=lambda i: rows[i].step)
    chosen = [] if results.best is None else [results.best]
    return set(_checkpoints(results, chosen + ranked[:1] + equals + ranked)[: checkpoints_kept(keep, final)])


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
