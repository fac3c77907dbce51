"""What a sweep uses of the store, and how to train it again: plan.json in the sweep's folder.

Written before the first training, so that `python -m sweeper clean` knows what an unfinished sweep needs.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sweeper.plan.config import decode
from sweeper.plan.types import Plan, Training
from sweeper.store import Store
from trainers.files import read_json, understood, write_json

FILE = "plan.json"


@dataclass(frozen=True)
class Uses:
    folders: frozenset[str]  # of the store, from its root
    trainings: dict[str, Training]  # by signature, with one of their cells


def write_uses(folder: Path, plan: Plan, store: Store) -> None:
    """Notes the plan in the sweep's folder, unless it is noted."""
    path = folder / FILE
    folders = sorted({str(used.relative_to(store.root)) for used in _folders(plan, store)})
    if not path.exists() or read_json(path)["folders"] != folders:
        trainings = {t.spec.signature: asdict(replace(t, cells=t.cells[:1])) for t in plan.trainings}
        write_json(path, {"folders": folders, "trainings": trainings})


def _folders(plan: Plan, store: Store) -> Iterable[Path]:
    for training in plan.trainings:
        spec = training.spec
        yield store.training(spec)
        yield from (store.baselines(spec, point) for point in training.points)
        if spec.prior and not spec.prior.folder:
            yield store.class_images(spec)


def read_uses(folder: Path) -> Uses | None:
    """None of a sweep that an earlier version has begun."""
    path = folder / FILE
    if not path.exists():
        return None
    with understood(path):
        content = read_json(path)
        trainings = {signature: decode(Training, each) for signature, each in content["trainings"].items()}
        return Uses(frozenset(content["folders"]), trainings)
