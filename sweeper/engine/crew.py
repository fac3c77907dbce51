"""What all engines have in common: as many workers as the jobs need, and what becomes of a job whose worker is gone."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from sweeper.engine.base import Engine, Phase, WorkerState, Workplace
from sweeper.engine.jobs import FAIL, Job, Outcome, Task
from sweeper.engine.queue import Queue
from sweeper.forecast import Capacity
from trainers.errors import SpecError

ATTEMPTS = 3  # at a job whose processes end
STARTS = 3  # in a row of workers that end without having done anything


class Crew:
    """The workers of a queue while it is entered. On leaving it the queue is closed and the workers are stopped."""

    def __init__(self, engine: Engine, workplace: Workplace) -> None:
        self.engine, self.workplace = engine, workplace
        self.queue = Queue(workplace.jobs)
        self._gone: set[str] = set()  # workers whose end was dealt with
        self._barren = 0  # workers in a row that ended without having done anything
        self._finished = 0  # jobs when the last worker ended
        self._last_gone: WorkerState | None = None
        self._inherited: list[Job] = []  # jobs that were begun before this crew
        self._held = ExitStack()

    def __enter__(self) -> "Crew":
        self._held.enter_context(self.queue.attended())
        self.engine.adopt(self.workplace)
        self._inherited = [job for job in self.queue.unfinished() if not job.waits]
        return self

    def __exit__(self, *_: object) -> None:
        self.queue.close()
        try:
            self.engine.stop(self._at_work())
        finally:
            self._held.close()

    def close(self) -> None:
        """Says that no more jobs will come: workers without one end."""
        self.queue.close()

    @property
    def capacity(self) -> Capacity:
        return self.engine.capacity()

    @property
    def jobs(self) -> list[Job]:
        return self.queue.jobs()

    def add(self, task: Task) -> Job:
        if task.devices > self.engine.resources.devices:
            raise SpecError(f"a job needs {task.devices} devices, and a worker has {self.engine.resources.devices}.")
        job = self.queue.add(task)
        self._start_workers()
        return job

    def wait(self, watch: Callable[[Sequence[Job]], None]) -> None:
        """Returns when every job has an outcome; calls `watch` meanwhile, which may add jobs."""

        def tick() -> None:
            self._check_workers()
            self._fail_dependants()
            watch(self.queue.jobs())

        while True:
            tick()
            if not self.queue.unfinished():
                return
            self.engine.idle(tick)

    def _at_work(self) -> list[str]:
        return [id for id, state in self.engine.states().items() if state.phase != Phase.GONE]

    def _start_workers(self) -> None:
        there = len(self._at_work())
        wanted = min(len(self.queue.unfinished()), self.capacity.workers) - there
        if wanted > 0 and (self._barren < STARTS or not there):
            self.engine.start(wanted, self.workplace)

    def _check_workers(self) -> None:
        """Deals with each worker that is gone, and starts another in its place where one is needed."""
        gone = {id: state for id, state in self.engine.states().items() if state.phase == Phase.GONE}
        inherited = list(self._inherited)
        new = [state for id, state in gone.items() if id not in self._gone]
        self._gone |= set(gone)
        for state in new:
            self._last_gone = state
            lost = self._give_back_lost(state)
            finished = len(self.queue.jobs()) - len(self.queue.unfinished())
            self._barren = 0 if lost or finished > self._finished else self._barren + 1
            self._finished = finished
            if self._barren >= STARTS or (self._barren and not state.retry):
                self._give_up(state)
        # Of several processes one may hold the job a little longer than the worker is there.
        late = self._give_back_lost(self._last_gone) if self._last_gone else False
        for job in [job for job in self._inherited if job.died]:
            self._inherited.remove(job)
            job.give_back("its sweep ended, and its worker with it")
        if new or late or self._inherited != inherited:
            self._start_workers()

    def _give_back_lost(self, state: WorkerState) -> bool:
        """Deals with the jobs whose processes have ended. Returns whether there were any."""
        lost = [job for job in self.queue.unfinished() if job.died]
        for job in lost:
            self._give_back(job, state)
        return bool(lost)

    def _give_back(self, job: Job, state: WorkerState) -> None:
        """A job that failed by itself has FAILed; another that lost its worker is tried again."""
        attempts = len(job.lost) + 1
        if job.causes:
            job.finish(Outcome(FAIL, f"{job.causes[0]}; see {job.log}"))
        elif state.retry and attempts < ATTEMPTS:
            job.give_back(state.reason)
        else:
            tried = f"tried {attempts} times: " if attempts > 1 else ""
            job.finish(Outcome(FAIL, f"{tried}{state.reason}"))

    def _give_up(self, state: WorkerState) -> None:
        """Where no worker works, nothing that waits can be done."""
        if not self._at_work():
            for job in self.queue.unfinished():
                if job.waits:
                    job.finish(Outcome(FAIL, f"no worker could be started: {state.reason}"))

    def _fail_dependants(self) -> None:
        for job in self.queue.unfinished():
            failed = self.queue.failed_need(job) if job.waits else None
            if failed:
                needed, outcome = failed
                job.finish(Outcome(FAIL, f"{needed.title}: {outcome.reason}"))
