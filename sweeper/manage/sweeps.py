"""The sweeps in an output folder: what each is doing, and what it holds on disk. Imports no torch."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.spec import show
from sweeper.engine.jobs import Job
from sweeper.engine.queue import Queue
from sweeper.names import OWNER, SEARCH
from sweeper.results.uses import Uses, read_uses
from sweeper.store import Store
from trainers.errors import SpecError
from trainers.files import read_json

RUNNING, FINISHED, UNFINISHED = "running", "finished", "unfinished"


@dataclass(frozen=True)
class Found:
    """One sweep in an output folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def queue(self) -> Queue | None:
        """The jobs of its last run, and of those that run the first."""
        runs = [Queue(path) for path in sorted((self.folder / "jobs").glob("*")) if path.is_dir()]
        return next((queue for queue in runs if not queue.deserted), runs[-1] if runs else None)

    @property
    def state(self) -> str:
        if self.queue and not self.queue.deserted:
            return RUNNING
        return FINISHED if self.results and not self.results.get("running") else UNFINISHED

    @cached_property
    def results(self) -> dict[str, Any]:
        """Of results.json; empty where there is none yet."""
        path = self.folder / "results.json"
        return dict(read_json(path)) if path.exists() else {}

    @cached_property
    def uses(self) -> Uses | None:
        return read_uses(self.folder)

    @property
    def is_search(self) -> bool:
        return bool(read_json(self.folder / OWNER).get("kind") == SEARCH)

    @property
    def answer(self) -> str:
        """Of a finished sweep: the sweet spot, or its verdict."""
        spot = self.results.get("sweet_spot") or {}
        axes = [*self.results.get("axes", ()), "steps"]
        params = spot.get("params") or {}
        words = " ".join(f"{name}={show(params[name])}" for name in dict.fromkeys(axes) if name in params)
        return words or str(spot.get("verdict", ""))


def sweeps(output_dir: Path) -> list[Found]:
    """Every sweep there, the oldest first. Raises SpecError where the folder is none of sweeps."""
    if not output_dir.is_dir():
        raise SpecError(f"{output_dir} is no folder; give the output_dir of your sweeps with --output-dir.")
    owners = sorted(output_dir.glob(f"*/{OWNER}"), key=lambda path: path.stat().st_mtime)
    return [Found(path.parent) for path in owners]


def named(output_dir: Path, name: str) -> Found:
    """The sweep of a name, or of the only name that begins so. Raises SpecError."""
    found = sweeps(output_dir)
    fitting = [each for each in found if each.name == name] or [each for each in found if each.name.startswith(name)]
    if len(fitting) != 1:
        names = ", ".join(each.name for each in fitting or found) or "none"
        raise SpecError(f"{name}: {'several sweeps begin so' if fitting else 'no sweep there has this name'}: {names}.")
    return fitting[0]


def doing(found: Found) -> Iterator[str]:
    """What each job of its last run is at, a line each; first how many have ended."""
    if found.queue is None:
        return
    jobs = found.queue.jobs()
    ended = [job for job in jobs if job.outcome]
    states = [job.outcome.state for job in ended if job.outcome]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    yield f"{len(ended)} of {len(jobs)} jobs so far have ended" + (f": {counts}" if counts else "")
    yield from filter(None, map(_at, jobs))


def _at(job: Job) -> str:
    status = None if job.outcome else job.status
    if status is None:
        return ""
    count = f" {status.done} of {status.total}" if status.total else ""
    return f"{job.id}: {status.phase}{count}, {status.fraction:.0%} of its steps; log {job.log}"


def stop(found: Found, patience: float = 600) -> str:
    """Asks a running sweep to end as Ctrl-C does, and waits until it has. Says what became of it."""
    if found.queue is None or found.state != RUNNING:
        return f"{found.name} does not run."
    found.queue.ask_to_stop()
    deadline = time.monotonic() + patience
    while not found.queue.deserted:
        if time.monotonic() > deadline:
            return f"{found.name} was asked to stop and still writes; it ends as soon as that is done."
        time.sleep(0.2)
    return f"{found.name} has stopped; the same command goes on from here."


def size(paths: Iterable[Path]) -> int:
    """Bytes of the files in folders."""
    return sum(file.lstat().st_size for path in paths for file in path.rglob("*") if not file.is_dir())


def held(output_dir: Path) -> list[tuple[Found, int, int, int]]:
    """Of each sweep the bytes of its own folder, of what only it uses of the store, and of what it shares there."""
    found = sweeps(output_dir)
    root = Store(output_dir / "store").root
    used = {each.folder: used_folders(each) for each in found}
    sizes = {path: size([root / path]) for path in set[str]().union(*used.values())}
    rows = []
    for each in found:
        others = set[str]().union(*(used[other.folder] for other in found if other is not each))
        own = [path for path in used[each.folder] if path not in others]
        shared = used[each.folder] & others
        rows.append((each, size([each.folder]), sum(map(sizes.__getitem__, own)), sum(map(sizes.__getitem__, shared))))
    return rows


def used_folders(found: Found) -> frozenset[str]:
    """Folders of the store, as far as is known: of a sweep of an earlier version what its results name."""
    if found.uses:
        return found.uses.folders
    rows = found.results.get("checkpoints", [])
    baselines = {f"baselines/{Path(row['untuned']).name}" for row in rows if row.get("untuned")}
    return frozenset({f"trainings/{row['training']}" for row in rows} | baselines)
