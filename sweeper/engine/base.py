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

from sweeper.forecast import Capacity

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


QUEUED, RUNNING = WorkerState(Phase.QUEUED), WorkerState(Phase.RUNNING)


@dataclass(frozen=True)
class Resources:
    """What a sweep asks for."""

    devices: int = 1  # of a worker
    cpu_workers: int = 1  # where there is no GPU


@dataclass(frozen=True)
class Workplace:
    """What a worker is told."""

    jobs: Path  # the folder of the queue
    store: Path


class Engine(ABC):
    """Workers are named by ids, which no other worker of this engine ever has again."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    @abstractmethod
    def capacity(self) -> Capacity:
        """Of the plan, within a second; after `prepare`, exactly."""

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
        """Asks workers to end, waits `grace` seconds, then ends them. No process of theirs is left."""

    @abstractmethod
    def adopt(self, workplace: Workplace) -> tuple[str, ...]:
        """The ids of workers that are still at a workplace whose sweep went away; none where they end with it."""

    def idle(self, meanwhile: Callable[[], None]) -> None:
        """Lets some time pass. An engine without processes of its own does a job here, and calls `meanwhile` as it does
        so."""
        time.sleep(POLL)
