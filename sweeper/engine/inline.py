"""The inline engine: jobs run one after another in the sweep's own process, where a debugger stops at a breakpoint."""

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sweeper.engine import devices
from sweeper.engine.base import GRACE, RUNNING, Engine, Phase, Resources, WorkerState, Workplace
from sweeper.engine.local import OFFLINE, QUIET, SPINS, own_environment
from sweeper.engine.processes import undisturbed
from sweeper.engine.queue import Queue
from sweeper.engine.worker import Handler, carry_out, run_job
from sweeper.forecast import Capacity
from sweeper.store import Store
from trainers import files
from trainers.errors import SpecError

if TYPE_CHECKING:
    from accelerate import PartialState

ID = "inline"


class Interrupted(BaseException):
    """What the sweep raised while it watched a job; it must pass the job's own handling of errors."""


class InlineEngine(Engine):
    """Its one worker is the calling process, which works in `idle`."""

    handler: Handler = staticmethod(carry_out)

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        asked = {
            "gpus_per_trial": resources.devices,
            "cpu_trials": resources.cpu_workers,
            "trials_per_gpu": resources.gpu_workers,
        }
        for name, count in asked.items():
            if count > 1:
                raise SpecError(f"{name}={count}: hydra/launcher=inline has one process; use hydra/launcher=local.")
        self._workplace: Workplace | None = None
        self._stopped = False

    def capacity(self) -> Capacity:
        return Capacity(1)

    def prepare(self) -> None:
        """Nothing to find; but the threads' library reads its settings when torch is first imported."""
        for name, value in SPINS.items():
            os.environ.setdefault(name, value)

    def start(self, count: int, workplace: Workplace) -> tuple[str, ...]:
        if self._workplace or not count:
            return ()
        self._workplace = workplace
        files.while_writing = undisturbed
        return (ID,)

    def states(self) -> Mapping[str, WorkerState]:
        if not self._workplace:
            return {}
        return {ID: WorkerState(Phase.GONE, "stopped") if self._stopped else RUNNING}

    def stop(self, ids: Collection[str], grace: float = GRACE) -> None:
        self._stopped = self._stopped or ID in ids

    def adopt(self, workplace: Workplace) -> tuple[str, ...]:
        return ()

    def idle(self, meanwhile: Callable[[], None]) -> None:
        if self._workplace and not self._stopped:
            self._work(self._workplace, meanwhile)
        else:
            super().idle(meanwhile)

    def _work(self, workplace: Workplace, meanwhile: Callable[[], None]) -> None:
        """Does the next job; waits a moment where none is ready."""
        store = Store(workplace.store)
        lease = _lease()
        with ExitStack() as held:
            mine = all(held.enter_context(devices.claim_share(lock)) for lock in devices.locks(lease))
            job = held.enter_context(Queue(workplace.jobs).take(store)) if mine else None
            if job:
                try:
                    run_job(job, store, _process(lease), self.handler, _passing(meanwhile))
                except Interrupted as interrupted:
                    raise interrupted.__cause__ or interrupted from None
        if job is None:
            super().idle(meanwhile)


def _passing(meanwhile: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        try:
            meanwhile()
        except Exception as error:
            raise Interrupted from error

    return call


def _lease() -> devices.Lease:
    """The first device, with the environment that a worker of the local engine has."""
    for foreign in os.environ.keys() - own_environment().keys():
        del os.environ[foreign]
    os.environ.update(OFFLINE | QUIET)  # before torch and the hub's libraries are imported
    return devices.leases(1)[0]


def _process(lease: devices.Lease) -> "PartialState":
    """This process, with the threads that a worker of the local engine has."""
    import torch
    from accelerate import PartialState

    torch.set_num_threads(lease.threads)
    return PartialState(cpu=lease.cpu)
