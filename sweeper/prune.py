"""keep=best or a number: the weights of losing checkpoints are deleted as they are scored. Scores and samples stay.

A deleted checkpoint that becomes the sweet spot is trained again for its export, bit for bit on a CPU.
"""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from sweeper.plan import Plan
from sweeper.results import PRUNED, Results
from sweeper.store import Store, claim
from trainers.files import MANIFEST

Kept = set[tuple[str, int]]  # checkpoints: (signature of the training, step)


def winners(results: Results, keep: str, final: bool) -> Kept:
    """The checkpoints to keep. Before the end, whatever may still be chosen is kept too."""
    free = [i for i, row in enumerate(results.rows) if "score" in row.metrics and not row.vetoes]
    ranked = sorted(free, key=lambda i: -results.rows[i].metrics["score"])
    chosen = [] if results.best is None else [results.best]
    kept = _checkpoints(results, chosen + ranked)[: 1 if keep == "best" else int(keep)]
    region = [] if final else results.positions(results.sweet_spot.region)
    return {*kept, *_checkpoints(results, region)}


def _checkpoints(results: Results, positions: Sequence[int]) -> list[tuple[str, int]]:
    """Of rows; several ways of sampling may have one checkpoint."""
    return list(dict.fromkeys((results.rows[i].training, results.rows[i].step) for i in positions))


def stopped(results: Results) -> set[str]:
    """Signatures of the trainings that were ended early, and will not go on."""
    return {training.signature for training in results.trainings if training.state == PRUNED}


def prune(plan: Plan, store: Store, kept: Kept, ended: Collection[str] = ()) -> None:
    """Deletes all checkpoints but `kept`, and the training states, of the trainings that are done or in `ended`."""
    for training in plan.trainings:
        signature = training.spec.signature
        if store.left(training).missing and signature not in ended:
            continue
        folder = store.training(training.spec)
        with claim(folder, wait=False) as mine:
            if mine:
                _delete(folder / "state")
                for step in training.steps:
                    if (signature, step) not in kept:
                        _delete(store.checkpoint(training.spec, step))


def _delete(folder: Path) -> None:
    """The manifest first: what is half deleted must not look complete."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
