"""A job and its files: how the sweep and its workers speak, across processes and machines.

NAME.json            what is to be done; written once
NAME.status.json     what is being done, for the progress display; a job that has it was begun
NAME.verdict.json    of a guided job: up to which step the sweep has decided, and why to stop there, if so
NAME.discarded.json  with keep=best or a number: the steps whose checkpoints have lost, for the worker to delete
NAME.error-N.json    of several processes: why the N-th failed
NAME.back-N.json     why the N-th process of a worker handed the job back for another worker
NAME.large.json      of a job that was too large for a device: the device's bytes, and the refusal
NAME.lost.json       how each process ended that had begun the job and never finished it
NAME.result.json     how it ended; written last
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeper.engine.faults import Fault
from sweeper.plan.config import decode
from sweeper.plan.types import Point, Training
from sweeper.store import claim
from trainers.files import read_json, write_json

REPORT_EVERY = 0.5  # seconds between status files

# In the words of a process that only misses another one.
CONSEQUENCES = ("gloo", "nccl", "rccl", "tcpstore", "distnetworkerror")
# Optuna's names for the state of a trial.
WAITING, RUNNING, COMPLETE, PRUNED, FAIL = "WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"


class HandedBack(Exception):
    """Another worker is to begin the job anew. Says why, and which device is at fault, if one is."""

    def __init__(self, reason: str, fault: Fault | None = None) -> None:
        super().__init__(reason)
        self.fault = fault


class Kind(str, Enum):
    """What a job is for; sweeper/engine/handlers.py carries it out."""

    CLASS_IMAGES = "class images"
    INVERSION = "inversion"
    BASELINE = "baseline"
    TRAIN = "train"  # samples and scores each checkpoint too
    SAMPLE = "sample"  # and score: more points of checkpoints, such as a slice of other prompts or noise
    SCORE = "score"  # on stored samples, where a scorecard lacks metrics of today
    EXPORT = "export"

    @property
    def shared(self) -> bool:
        """Whether it makes what several trainings need."""
        return self in (Kind.CLASS_IMAGES, Kind.INVERSION, Kind.BASELINE)


@dataclass(frozen=True)
class Export:
    """A checkpoint to be written as a diffusers folder, with the scheduler and the weights that it was scored with."""

    step: int
    scheduler: str
    use_ema: bool  # the moving average, where the training keeps one
    to: Path
    precision: str = "no"  # that it was sampled in


@dataclass(frozen=True)
class Task:
    """What a job is to do. Of every kind, `training` says for which model, subject and settings."""

    kind: Kind
    training: Training
    needs: tuple[str, ...] = ()  # ids of the jobs that must be COMPLETE before
    devices: int = 1  # of the worker that takes it, at least
    points: tuple[Point, ...] = ()  # baseline, sample: which
    export: Export | None = None
    early_stop: str | None = None  # train: "overfit" ends it once it overfits
    guided: bool = False  # train: it waits for the sweep's verdict after each checkpoint


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
    again: bool = False  # FAIL: the machine's fault, not the job's: the same command is to try it again


@dataclass(frozen=True)
class Verdict:
    step: int = 0  # the sweep has decided up to here
    reason: str = ""  # to stop there; empty: go on


@dataclass(frozen=True)
class Job:
    path: Path

    @property
    def id(self) -> str:
        return self.path.stem

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
    def _lost(self) -> Path:
        return self.path.with_suffix(".lost.json")

    @property
    def _result(self) -> Path:
        return self.path.with_suffix(".result.json")

    @cached_property
    def task(self) -> Task:
        task: Task = decode(Task, read_json(self.path))
        return task

    @property
    def training(self) -> Training:
        return self.task.training

    @property
    def title(self) -> str:
        """For a reader who knows the sweep: "class images", "baseline"."""
        return self.task.kind.value

    def decide(self, step: int, reason: str) -> None:
        """Lets the training go on from the checkpoint at `step`, or, with a reason, stops it there."""
        write_json(self._verdict, asdict(Verdict(step, reason)))

    @property
    def verdict(self) -> Verdict:
        return Verdict(**read_json(self._verdict)) if self._verdict.exists() else Verdict()

    def discard(self, steps: Iterable[int]) -> None:
        """Lets whoever holds the training delete its checkpoints at `steps`."""
        write_json(self._discarded, sorted(steps))

    @property
    def discarded(self) -> list[int]:
        return list(read_json(self._discarded)) if self._discarded.exists() else []

    def report(self, status: Status) -> None:
        write_json(self._status, asdict(status), lasting=False)  # of no use after a power cut

    @property
    def status(self) -> Status | None:
        found = _read(self._status)
        return None if found is None else Status(**found)

    def finish(self, outcome: Outcome) -> None:
        write_json(self._result, asdict(outcome))

    @property
    def outcome(self) -> Outcome | None:
        return Outcome(**read_json(self._result)) if self._result.exists() else None

    @property
    def waits(self) -> bool:
        """Whether nobody has begun it."""
        return not self._status.exists() and not self._result.exists()

    @property
    def died(self) -> bool:
        """Whether it was begun and its process ended without an outcome: the claim died with it."""
        if not self._status.exists() or self._result.exists():
            return False
        with claim(self.path, wait=False) as free:
            return free and not self._result.exists()

    def give_back(self, reason: str) -> None:
        """Lets another worker take a job whose process ended; `reason` says how, unless the process handed it back."""
        if not self.back:
            write_json(self._lost, [*self.lost, reason])
        for path in self._notes("error") + self._notes("back"):
            path.unlink()
        self._status.unlink(missing_ok=True)

    @property
    def lost(self) -> list[str]:
        """How the processes ended that had begun it before."""
        return list(read_json(self._lost)) if self._lost.exists() else []

    def fail_together(self, process: int, reason: str) -> None:
        """Notes why one of several processes failed; the others then fail because it is gone."""
        write_json(self.path.with_suffix(f".error-{process}.json"), reason)

    def hand_back(self, process: int, reason: str) -> None:
        """Notes that another worker is to begin it anew, which counts as no attempt."""
        write_json(self.path.with_suffix(f".back-{process}.json"), reason)

    def refuse(self, memory: int, reason: str) -> None:
        """Notes that it does not fit a device of `memory` bytes."""
        write_json(self._large, [memory, reason])

    @property
    def too_large(self) -> tuple[int, str]:
        """The bytes of a device that it does not fit, and why; 0 where there is none."""
        memory, reason = read_json(self._large) if self._large.exists() else (0, "")
        return memory, reason

    @property
    def _large(self) -> Path:
        return self.path.with_suffix(".large.json")

    def _notes(self, kind: str) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.stem}.{kind}-*.json"))

    @property
    def back(self) -> list[str]:
        """Why its worker handed it back."""
        return [read_json(path) for path in self._notes("back")]

    @property
    def causes(self) -> list[str]:
        """Why it failed, as noted by `fail_together`; without those who only missed another process."""
        reasons: list[str] = [read_json(path) for path in self._notes("error")]
        return [reason for reason in reasons if not any(word in reason.lower() for word in CONSEQUENCES)]


def _read(path: Path) -> Any:
    """The content of a file that another process may delete; None where there is none."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


class Reporter:
    """Writes a job's status at most every `REPORT_EVERY` seconds, and adds up the seconds of each kind of work.

    It is called between two steps and between two batches of images, so that is where a process that was asked to stop
    does: `stopping` makes the next call raise SystemExit. `meanwhile` is called as often as the status is written.
    """

    stopping = False

    def __init__(self, job: Job, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.job = job
        self.meanwhile = meanwhile
        self.seconds: dict[str, float] = {}
        self.fraction = 0.0
        self._last = 0.0

    def __call__(self, phase: str, done: int = 0, total: int = 0) -> None:
        if Reporter.stopping:
            raise SystemExit(143)
        now = time.monotonic()
        if now - self._last >= REPORT_EVERY or done == total:
            self._last = now
            self.job.report(Status(phase, done, total, self.fraction))
            self.meanwhile()

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(kind, time.monotonic() - start)

    def add(self, kind: str, seconds: float) -> None:
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
