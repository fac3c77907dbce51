"""keep=best or a number: the weights of losing checkpoints are deleted as they are scored. Scores and samples stay.

A deleted checkpoint can be had again: the same command with keep=all trains it again, bit for bit on a CPU.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from sweeper.plan import Plan
from sweeper.results import Results
from sweeper.store import Store, claim
from trainers.files import MANIFEST


def losers(results: Results, keep: str, final: bool) -> set[tuple[str, int]]:
    """(training, step) of the checkpoints not to keep. Before the end, whatever may still be chosen is kept too."""
    if keep == "all":
        return set()
    best = [] if results.best is None else [results.best]
    free = [i for i, row in enumerate(results.rows) if "score" in row.metrics and not row.vetoes]
    ranked = sorted(free, key=lambda i: -results.rows[i].metrics["score"])
    kept = list(dict.fromkeys([*best, *ranked]))[: 1 if keep == "best" else int(keep)]
    if not final:
        kept += best + results.positions(results.sweet_spot.region)
    wanted = {(results.rows[i].training, results.rows[i].step) for i in kept}
    return {(row.training, row.step) for row in results.rows} - wanted


def prune(plan: Plan, store: Store, lost: Iterable[tuple[str, int]]) -> None:
    """Deletes the checkpoints `lost`, and the training states, of the plan's trainings that are done."""
    lost = set(lost)
    for training in plan.trainings if lost else ():
        if store.left(training).missing:
            continue
        folder = store.training(training.spec)
        with claim(folder, wait=False) as mine:
            if mine:
                _delete(folder / "state")
                for step in training.steps:
                    if (training.spec.signature, step) in lost:
                        _delete(store.checkpoint(training.spec, step))


def _delete(folder: Path) -> None:
    """The manifest first: what is half deleted must not look complete."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
