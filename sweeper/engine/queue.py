"""The jobs of one run of a sweep: a folder, from which workers take them in the order in which they were added."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sweeper.engine.jobs import COMPLETE, Job, Kind, Outcome, Status, Task
from sweeper.store import Store, claim, is_claimed
from trainers.files import write_json

CLOSED = "closed"  # a file: no more will come
STOP = "stop"  # a file: the sweep is asked to end as Ctrl-C ends it
SWEEP = "sweep"  # claimed by the process that waits for the jobs

Suits = Callable[[Job], bool]


def new_folder(sweep: Path) -> Path:
    """A folder for the jobs of this run of the sweep; two runs at once have one each."""
    (sweep / "jobs").mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=sweep / "jobs"))


class Queue:
    """Jobs can be added, by one process, while any number of workers take them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs: dict[str, Job] = {}  # by id, in the order added
        self._outcomes: dict[str, Outcome] = {}  # final, so each is read once

    def add(self, task: Task) -> Job:
        number = len(list(self.folder.glob("[0-9]*.log")))
        job = Job(self.folder / f"{number:05d}-{task.training.spec.signature}.json")
        job.log.touch()
        write_json(job.path, asdict(task))
        return self._jobs.setdefault(job.id, job)

    def jobs(self) -> list[Job]:
        for path in sorted(self.folder.glob("[0-9]*-" + "[0-9a-f]" * 16 + ".json")):
            if path.stem not in self._jobs:
                self._jobs[path.stem] = Job(path)
        return list(self._jobs.values())

    def outcome(self, job: Job) -> Outcome | None:
        if job.id not in self._outcomes:
            outcome = job.outcome
            if outcome:
                self._outcomes[job.id] = outcome
        return self._outcomes.get(job.id)

    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs() if self.outcome(job) is None]

    def failed_need(self, job: Job) -> tuple[Job, Outcome] | None:
        """A job that this one needs and that ended without being COMPLETE, with its outcome."""
        for needed in self._needs(job):
            outcome = self.outcome(needed)
            if outcome and outcome.state != COMPLETE:
                return needed, outcome
        return None

    def _needs(self, job: Job) -> list[Job]:
        return [Job(self.folder / f"{id}.json") for id in job.task.needs]

    def _is_ready(self, job: Job, store: Store, devices: int, suits: Suits) -> bool:
        if job.task.devices > devices or not job.waits:
            return False
        outcomes = [self.outcome(needed) for needed in self._needs(job)]
        return (
            all(outcome and outcome.state == COMPLETE for outcome in outcomes)
            and not _is_elsewhere(job, store)
            and suits(job)
        )

    @contextmanager
    def take(self, store: Store, devices: int = 1, suits: Suits = lambda job: True) -> Iterator[Job | None]:
        """The first job that is ready for a worker with so many devices, held until the block ends; None where there is
        none for now. suits: whether the worker can do a job that is ready.

        What another sweep is at is left for later: when its turn comes, most of it is there.
        """
        for job in self.unfinished():
            if self._is_ready(job, store, devices, suits):
                with claim(job.path, wait=False) as mine:
                    if mine and job.waits:
                        job.report(Status("starting"))
                        yield job
                        return
        yield None

    def close(self) -> None:
        (self.folder / CLOSED).touch()

    @property
    def closed(self) -> bool:
        return (self.folder / CLOSED).exists()

    def ask_to_stop(self) -> None:
        (self.folder / STOP).touch()

    @property
    def asked_to_stop(self) -> bool:
        return (self.folder / STOP).exists()

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Held by the sweep while it waits for the jobs; see `deserted`."""
        with claim(self.folder / SWEEP):
            yield

    @property
    def deserted(self) -> bool:
        """Whether the sweep's own process is gone, so that nobody decides about guided jobs or adds others."""
        return not is_claimed(self.folder / SWEEP)


def _is_elsewhere(job: Job, store: Store) -> bool:
    """Whether another process writes what the job is to write."""
    task = job.task
    spec = job.task.training.spec
    if task.kind == Kind.CLASS_IMAGES:
        folders = [store.class_images(spec)]
    elif task.kind == Kind.BASELINE:
        folders = [store.baselines(spec, point) for point in task.points]
    elif task.kind == Kind.INVERSION:
        return False
    else:
        folders = [store.training(spec)]
    return any(map(is_claimed, folders))
