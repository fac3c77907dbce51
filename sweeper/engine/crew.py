"""What all engines have in common: as many workers as the jobs need, and what becomes of a job whose worker is gone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from sweeper.engine.base import Engine, Phase, WorkerState, Workplace
from sweeper.engine.faults import DEAD, Fault
from sweeper.engine.jobs import FAIL, Job, Outcome, Task
from sweeper.engine.processes import interrupts_call, say_writing
from sweeper.engine.queue import Queue
from sweeper.forecast import Capacity
from sweeper.store import NO_SPACE
from trainers.errors import SpecError

ATTEMPTS = 3  # at a job whose processes end
STARTS = 3  # in a row of workers that end without having done anything
KILLS = 2  # contexts that a job may end before it is taken for the reason


class Crew:
    """The workers of a queue while it is entered. On leaving it the queue is closed and the workers are stopped."""

    def __init__(self, engine: Engine, workplace: Workplace, say: Callable[[str], None] = lambda line: None) -> None:
        """say: gets a line for whoever watches the sweep."""
        self.engine = engine
        self.workplace = workplace
        self.say = say
        self.queue = Queue(workplace.jobs)
        self._gone: set[str] = set()  # workers whose end was dealt with
        self._barren = 0  # workers in a row that ended without having done anything
        self._finished = 0  # jobs when the last worker ended
        self._last_gone: WorkerState | None = None
        self._inherited: list[Job] = []  # jobs that were begun before this crew
        self._held = ExitStack()
        self._faults: dict[str, list[Fault]] = {}  # of devices, by the id of the job that met them
        self._left_out: Mapping[str, str] = {}  # devices, and why
        self._waiting: dict[str, str] = {}  # workers, and what for
        self._said: set[str] = set()

    def __enter__(self) -> "Crew":
        self._held.enter_context(self.queue.attended())
        self.engine.adopt(self.workplace)
        self._inherited = [job for job in self.queue.unfinished() if not job.waits]
        return self

    def __exit__(self, *_: object) -> None:
        self.queue.close()
        try:
            with interrupts_call(self._say_what_is_written):
                self.engine.stop(self._at_work())
        finally:
            self._held.close()

    def _say_what_is_written(self) -> None:
        say_writing(self.engine.written() or "what a worker is at")

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
        """Returns when every job has an outcome; calls `watch` meanwhile, which may add jobs. Raises KeyboardInterrupt
        where another process asks to stop."""

        def tick() -> None:
            if self.queue.asked_to_stop:
                raise KeyboardInterrupt
            self._check_workers()
            self._look_for_devices()
            self._say_who_waits()
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
            self._barren = 0 if lost or state.fault or finished > self._finished else self._barren + 1
            self._finished = finished
            if self._barren >= STARTS or (self._barren and not state.retry):
                self._give_up(f"no worker could be started: {state.reason}")
            if state.fault:
                self._deal_with(state.fault)
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
        fault = state.fault if state.fault and state.fault.job == job.id else None
        if fault and self._is_at_fault(job, fault):
            said = f"on {self._met(job)}: {fault.reason}; see {job.log}"
            job.finish(Outcome(FAIL, said, again=fault.kind != DEAD or not self._met_several(job)))
        elif job.back:
            self._say_what_came_back(job)
            job.give_back(state.reason)
        elif job.causes:
            job.finish(Outcome(FAIL, f"{job.causes[0]}; see {job.log}", again=job.causes[0] == NO_SPACE))
        elif state.retry and attempts < ATTEMPTS:
            job.give_back(state.reason)
        else:
            tried = f"tried {attempts} times: " if attempts > 1 else ""
            job.finish(Outcome(FAIL, f"{tried}{state.reason}", again=True))

    def _is_at_fault(self, job: Job, fault: Fault) -> bool:
        """Whether it is the job rather than the devices: it met the same on one after another, or again and again."""
        met = self._faults.setdefault(job.id, [])
        met.append(fault)
        if sum(each.kind == fault.kind for each in met) < (KILLS if fault.kind == DEAD else ATTEMPTS):
            return False
        if self._met_several(job):
            self.engine.acquit(job.id)
        return True

    def _met_several(self, job: Job) -> bool:
        """On one device alone it may be the device."""
        return len({fault.device for fault in self._faults[job.id]}) > 1

    def _met(self, job: Job) -> str:
        return " and ".join(dict.fromkeys(fault.device for fault in self._faults[job.id]))

    def _say_what_came_back(self, job: Job) -> None:
        memory, reason = job.too_large
        if memory:
            self.say(f"{job.id} goes to a larger device: {reason}")

    def _deal_with(self, fault: Fault) -> None:
        """Says which devices are left out, and fails what only those could have done."""
        self._say_left_out()
        again = f"{fault.device}: {fault.reason}; it is tried again"
        if fault.device not in self._left_out and again not in self._said:
            self._said.add(again)
            self.say(again)
        for job in self.queue.unfinished():
            memory, reason = job.too_large
            if job.waits and memory >= self.engine.largest() > 0:
                job.finish(Outcome(FAIL, f"no larger device is left: {reason}", again=True))

    def _say_left_out(self) -> bool:
        """Which devices are left out, or used again. Returns whether there are any of the latter."""
        left_out = self.engine.left_out()
        back = self._left_out.keys() - left_out.keys()
        for device in left_out.keys() - self._left_out.keys():
            self.say(f"{device} is left out: {left_out[device]}")
        for device in back:
            self.say(f"{device} is used again")
        self._left_out = left_out
        return bool(back)

    def _look_for_devices(self) -> None:
        """Where one is back, it gets a worker; where none is left, nothing that waits can be done."""
        if self._say_left_out():
            self._start_workers()
        if self._left_out and not self._at_work():
            self._start_workers()
            self._give_up("no device is left: " + "; ".join(map(": ".join, self._left_out.items())))

    def _say_who_waits(self) -> None:
        """Once, when it begins to wait."""
        waiting = {id: state.waits for id, state in self.engine.states().items() if state.waits}
        for id in waiting.keys() - self._waiting.keys():
            self.say(waiting[id])
        self._waiting = waiting

    def _give_up(self, reason: str) -> None:
        """Where no worker works, nothing that waits can be done."""
        if not self._at_work():
            for job in self.queue.unfinished():
                if job.waits:
                    job.finish(Outcome(FAIL, reason, again=True))

    def _fail_dependants(self) -> None:
        for job in self.queue.unfinished():
            failed = self.queue.failed_need(job) if job.waits else None
            if failed:
                needed, outcome = failed
                job.finish(Outcome(FAIL, f"{needed.title}: {outcome.reason}", again=outcome.again))
