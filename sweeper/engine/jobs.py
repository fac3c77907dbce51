"""How the sweep and its workers speak: files in one folder, so that it works across processes and machines.

NAME.json           the training to run; workers take them in the order of their names
NAME.status.json    what is being done, for the progress display
NAME.verdict.json   of a guided job: up to which step its scores were judged, and why to stop there, if so
NAME.discarded.json    with keep=best or a number: the steps whose checkpoints have lost, for the worker to delete
NAME.result.json    how it ended; written last
closed              no more will come
"""

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sweeper.plan.config import decode
from sweeper.plan.types import Training
from sweeper.store import Store, claim, is_claimed
from trainers.files import read_json, write_json

CLOSED = "closed"
REPORT_EVERY = 0.2  # seconds between status files


# Optuna's names for the state of a trial.
WAITING, RUNNING, COMPLETE, PRUNED, FAIL = "WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"


@dataclass(frozen=True)
class Status:
    phase: str  # in words: "training", "sampling step 100"
    done: int = 0
    total: int = 0
    fraction: float = 0.0  # of the whole job


@dataclass(frozen=True)
class Outcome:
    state: str  # COMPLETE | PRUNED | FAIL
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)  # by kind of work
    rates: dict[str, float] = field(default_factory=dict)  # see forecast.remember


@dataclass(frozen=True)
class Export:
    """A checkpoint to be written as a diffusers folder, with the scheduler and the weights that it was judged with."""

    step: int
    scheduler: str
    use_ema: bool  # the moving average, where the training keeps one
    to: Path


@dataclass(frozen=True)
class Job:
    path: Path

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def _status(self) -> Path:
        return self.path.with_suffix(".status.json")

    @property
    def _verdict(self) -> Path:
        return self.path.with_suffix(".verdict.json")

    @property
    def _discarded(self) -> Path:
        return self.path.with_suffix(".discarded.json")

    @property
    def _result(self) -> Path:
        return self.path.with_suffix(".result.json")

    @property
    def training(self) -> Training:
        return decode(Training, read_json(self.path)["training"])

    @property
    def export(self) -> Export | None:
        asked = read_json(self.path)["export"]
        return Export(**{**asked, "to": Path(asked["to"])}) if asked else None

    @property
    def early_stop(self) -> str | None:
        return read_json(self.path)["early_stop"]

    @property
    def guided(self) -> bool:
        """Whether it waits for the sweep's verdict after each checkpoint."""
        return read_json(self.path)["guided"]

    def judge(self, step: int, reason: str) -> None:
        """Lets the training go on from the checkpoint at `step`, or, with a reason, stops it there."""
        write_json(self._verdict, {"step": step, "reason": reason})

    @property
    def verdict(self) -> tuple[int, str]:
        found = read_json(self._verdict) if self._verdict.exists() else {"step": 0, "reason": ""}
        return found["step"], found["reason"]

    def discard(self, steps: Iterable[int]) -> None:
        """Lets whoever holds the training delete its checkpoints at `steps`."""
        write_json(self._discarded, sorted(steps))

    @property
    def discarded(self) -> list[int]:
        return read_json(self._discarded) if self._discarded.exists() else []

    @property
    def status(self) -> Status | None:
        return Status(**read_json(self._status)) if self._status.exists() else None

    @property
    def outcome(self) -> Outcome | None:
        return Outcome(**read_json(self._result)) if self._result.exists() else None

    def fail_together(self, process: int, reason: str) -> None:
        """Notes why one of several processes failed; the others then fail of its absence."""
        write_json(self.path.with_suffix(f".error-{process}.json"), reason)

    @property
    def reasons(self) -> list[str]:
        """Of `fail_together`, causes before consequences."""
        reasons = [read_json(path) for path in sorted(self.path.parent.glob(f"{self.path.stem}.error-*.json"))]
        return sorted(reasons, key=lambda reason: "gloo" in reason.lower() or "nccl" in reason.lower())

    def finish(self, outcome: Outcome) -> None:
        write_json(self._result, asdict(outcome))

    def report(self, status: Status) -> None:
        write_json(self._status, asdict(status))


class Reporter:
    """Writes a job's status at most every `REPORT_EVERY` seconds, and adds up the seconds of each kind of work.

    It is called between two steps and between two batches of images, so that is where a process that was asked to stop
    does: `stopping` makes the next call raise SystemExit.
    """

    stopping = False

    def __init__(self, job: Job) -> None:
        self.job, self.seconds, self.fraction, self._last = job, {}, 0.0, 0.0

    def __call__(self, phase: str, done: int = 0, total: int = 0) -> None:
        if Reporter.stopping:
            raise SystemExit(143)
        now = time.monotonic()
        if now - self._last >= REPORT_EVERY or done == total:
            self._last = now
            self.job.report(Status(phase, done, total, self.fraction))

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(kind, time.monotonic() - start)

    def add(self, kind: str, seconds: float) -> None:
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds


def new_folder(sweep: Path) -> Path:
    """A folder for the jobs of this run of the sweep; two runs at once have one each."""
    (sweep / "jobs").mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=sweep / "jobs"))


def add(
    folder: Path,
    training: Training,
    export: Export | None = None,
    early_stop: str | None = None,
    guided: bool = False,
) -> Job:
    """Asks for a training, or for the export of one of its checkpoints."""
    number = len(list(folder.glob("[0-9]*.log")))
    path = folder / f"{number:05d}-{training.spec.signature}.json"
    Job(path).log.touch()
    exported = export and asdict(export)
    asked = {"training": asdict(training), "export": exported, "early_stop": early_stop, "guided": guided}
    write_json(path, asked)
    return Job(path)


def close(folder: Path) -> None:
    (folder / CLOSED).touch()


def died(job: Job) -> bool:
    """Whether the job was begun and its process ended without an outcome: the claim died with it."""
    if job.status is None or job.outcome:
        return False
    with claim(job.path, wait=False) as free:
        return free and job.outcome is None


def is_closed(folder: Path) -> bool:
    return (folder / CLOSED).exists()


@contextmanager
def next_job(folder: Path, store: Store) -> Iterator[Job | None]:
    """The first job nobody has begun, held until the block ends; None where there is none for now.

    A training that another sweep is at is left for later: when its turn comes, most of it is there.
    """
    for path in sorted(folder.glob("[0-9]*-" + "[0-9a-f]" * 16 + ".json")):
        job = Job(path)
        if job.status is None and not is_claimed(store.training(job.training.spec)):
            with claim(path, wait=False) as mine:
                if mine and job.status is None:
                    job.report(Status("starting"))
                    yield job
                    return
    yield None
