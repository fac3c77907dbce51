"""Any checkpoint of a sweep as a diffusers folder, written by a worker, as the sweet spot is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.spec import show
from sweeper.commands import python
from sweeper.engine.base import Resources, Workplace
from sweeper.engine.crew import Crew
from sweeper.engine.jobs import COMPLETE, Export, Kind, Task
from sweeper.engine.local import LocalEngine
from sweeper.engine.queue import new_folder
from sweeper.manage.sweeps import Found
from sweeper.plan.precision import kept_precision
from sweeper.results.exports import target
from sweeper.store import Store
from trainers.errors import SpecError
from trainers.files import is_complete


def chosen(found: Found, asked: Sequence[str]) -> dict[str, Any]:
    """The row of results.json that has the values asked for, as typed: lr=2e-6 steps=400. Raises SpecError."""
    rows = [row for row in found.results.get("checkpoints", []) if row["state"] == COMPLETE]
    if not rows:
        raise SpecError(f"{found.name} has no checkpoint yet.")
    settings = {name: value for name, _, value in (each.partition("=") for each in asked)}
    for name in settings:
        if name not in rows[0]["params"]:
            raise SpecError(f"{name} is no setting of this sweep; there are {', '.join(rows[0]['params'])}.")
    fitting = [row for row in rows if all(_is(row["params"][name], value) for name, value in settings.items())]
    if len(fitting) == 1:
        return dict(fitting[0])
    params = [row["params"] for row in fitting or rows]
    open_names = [name for name in params[0] if len({show(each[name]) for each in params}) > 1]
    values = "; ".join(f"{name}={','.join(dict.fromkeys(show(each[name]) for each in params))}" for name in open_names)
    said = f"{len(fitting)} checkpoints have that: say which too" if fitting else "no checkpoint has that; there are"
    raise SpecError(f"{' '.join(asked) or found.name}: {said} {values}.")


def _is(value: Any, typed: str) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(typed) == float(value)
        except ValueError:
            return False
    return typed in (show(value), str(value))


def export(found: Found, asked: Sequence[str]) -> Path:
    """Writes the folder where it is not there yet. Raises SpecError where that cannot be."""
    row = chosen(found, asked)
    params = row["params"]
    to = target(found.folder, row["training"], params)
    if is_complete(to):
        return to
    training = found.uses.trainings.get(row["training"]) if found.uses else None
    if training is None:
        raise SpecError(f"{found.name} is of an earlier version: run its command once more, then this.")
    store = Store(found.folder.parent / "store")
    if not is_complete(store.checkpoint(training.spec, params["steps"])):
        raise SpecError(
            f"this checkpoint was deleted (keep=best or a number): {found.results['command']} with keep=all and these "
            f"values alone trains it again, then {python()} -m sweeper export writes it."
        )
    precision = kept_precision(training.spec, params["sample_precision"])
    asked_for = Export(params["steps"], params["scheduler"], params["use_ema"], to, precision)
    engine = LocalEngine(Resources())
    engine.prepare()
    with Crew(engine, Workplace(new_folder(found.folder), store.root)) as crew:
        job = crew.add(Task(Kind.EXPORT, training, export=asked_for))
        crew.close()
        crew.wait(lambda jobs: None)
    outcome = job.outcome
    if outcome is None or outcome.state != COMPLETE:
        raise SpecError(f"it could not be written: {outcome.reason if outcome else 'no worker'}; see {job.log}")
    return to
