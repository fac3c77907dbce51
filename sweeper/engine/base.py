"""The seam between a sweep and the machines it runs on.

An engine places workers, never trainings. A worker is a process, or several that train together, which takes jobs from
the folder of the queue until that is closed (sweeper/engine/worker.py). What is common to all engines lives in
sweeper/engine/crew.py; tests/sweeper/engine/contract.py is what every engine has to pass.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sweeper.engine.faults import Fault
from sweeper.forecast import Capacity
from trainers.errors import SpecError

POLL = 0.1  # seconds
GRACE = 10.0  # seconds between asking a process to end and ending it


class Phase(Enum):
    QUEUED = "QUEUED"  # asked for; no machine has it yet
    RUNNING = "RUNNING"
    GONE = "GONE"


@dataclass(frozen=True)
class WorkerState:
    phase: Phase
    reason: str = ""  # GONE: how it ended, and where its log is
    retry: bool = True  # GONE: whether another worker may fare better
    fault: Fault | None = None  # GONE: of a device of its
    waits: str = ""  # RUNNING: what keeps it from taking a job


QUEUED, RUNNING = WorkerState(Phase.QUEUED), WorkerState(Phase.RUNNING)


@dataclass(frozen=True)
class Resources:
    """What a sweep asks for."""

    devices: int = 1  # of a worker
    cpu_workers: int = 1  # where there is no GPU
    gpu_workers: int = 1  # on each GPU
    absent: bool = False  # only to be planned, for GPUs that are not here


@dataclass(frozen=True)
class Workplace:
    """What a worker is told."""

    jobs: Path  # the folder of the queue
    store: Path


class Engine(ABC):
    """Workers are named by ids, which no other worker of this engine ever has again."""

    def __init__(self, resources: Resources) -> None:
        """Raises SpecError for resources that contradict each other."""
        self.resources = resources
        if resources.devices > 1 and resources.gpu_workers > 1:
            raise SpecError(
                f"gpus_per_trial={resources.devices} and trials_per_gpu={resources.gpu_workers} contradict each other: "
                "a trial has several GPUs, or a GPU several trials."
            )

    @abstractmethod
    def capacity(self) -> Capacity:
        """Of the plan, within a second; after `prepare`, exactly. Raises SpecError where there cannot be any."""

    @abstractmethod
    def prepare(self) -> None:
        """Finds the devices.

        Raises:
            SpecError: there are too few for the resources asked for.
        """

    @abstractmethod
    def start(self, count: int, workplace: Workplace) -> tuple[str, ...]:
        """Asks for workers; returns their ids."""

    @abstractmethod
    def states(self) -> Mapping[str, WorkerState]:
        """Of all workers that were started or adopted. One that is GONE has no process left and stays GONE."""

    @abstractmethod
    def stop(self, ids: Collection[str], grace: float = GRACE) -> None:
        """Asks workers to end, waits `grace` seconds, and as long as one writes a folder (`written`), then ends them.
        No process of theirs is left."""

    def written(self) -> str:
        """What a worker writes just now, such as a training state; "" where none does."""
        return ""

    @abstractmethod
    def adopt(self, workplace: Workplace) -> tuple[str, ...]:
        """The ids of workers that are still at a workplace whose sweep went away; none where they end with it."""

    def acquit(self, job: str) -> None:  # noqa: B027  - an engine without devices of its own has nothing to do
        """A job ended the context of every device that it met: that is nothing against the devices."""

    def left_out(self) -> Mapping[str, str]:
        """The devices that no worker is started on, as they are at fault, and why."""
        return {}

    def largest(self) -> int:
        """Bytes of the largest device that is left, which each worker knows at its start; 0 where that is not known."""
        return 0

    def idle(self, meanwhile: Callable[[], None]) -> None:
        """Lets some time pass. An engine without processes of its own does a job here, and calls `meanwhile` as it does
        so."""
        time.sleep(POLL)
