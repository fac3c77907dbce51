"""What becomes of jobs whose workers end, whichever the engine."""

from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sweeper.engine import faults
from sweeper.engine.base import RUNNING, Engine, Phase, Resources, WorkerState, Workplace
from sweeper.engine.crew import ATTEMPTS, KILLS, Crew
from sweeper.engine.faults import CROWDED, DEAD, FORGIVEN, LOST, Fault, Suspects
from sweeper.engine.jobs import COMPLETE, FAIL, Outcome
from sweeper.engine.queue import Queue
from sweeper.engine.shared import SharedWork
from sweeper.forecast import Capacity
from sweeper.plan.compile import compile_plan
from sweeper.store import Store
from tests.sweeper.engine.light import task
from trainers.errors import SpecError
from trainers.files import MANIFEST, write_json

ONE = (task("done"),)


class Scripted(Engine):
    """Its workers do in `idle` what `script` says, one line a worker and a call: done, dies, lingers, or nothing."""

    def __init__(self, script, workers=1, retry=True):
        super().__init__(Resources())
        self.script, self.workers, self.retry = list(script), workers, retry
        self.found = {}
        self.lingers = ExitStack()  # what processes hold whose worker is gone
        self.calls = 0

    def capacity(self):
        return Capacity(self.workers)

    def prepare(self):
        pass

    def start(self, count, workplace):
        self.workplace = workplace
        ids = tuple(f"worker-{len(self.found) + i}" for i in range(count))
        self.found |= dict.fromkeys(ids, RUNNING)
        return ids

    def states(self):
        return dict(self.found)

    def stop(self, ids, grace=0):
        self.found |= dict.fromkeys(ids, WorkerState(Phase.GONE))

    def adopt(self, workplace):
        return ()

    def idle(self, meanwhile):
        self.calls += 1
        assert self.calls < 100
        self.lingers.close()
        for id in [id for id, state in self.found.items() if state == RUNNING]:
            does = self.script.pop(0) if self.script else "done"
            if does == "lingers":
                self.lingers.enter_context(Queue(self.workplace.jobs).take(Store(self.workplace.store)))
            elif does != "dies":
                with Queue(self.workplace.jobs).take(Store(self.workplace.store)) as job:
                    if job and does == "done":
                        job.finish(Outcome(COMPLETE))
                    if job and does.startswith("hands back"):
                        job.hand_back(1, does)
                    if job and does.startswith("error"):
                        job.fail_together(0, does)
            if does != "done":
                self.found[id] = WorkerState(Phase.GONE, "the process ended with code -9; see LOG", self.retry)


@pytest.fixture
def outcomes(tmp_path):
    """What became of jobs on an engine of the script, and how many workers it took."""
    place = Workplace(tmp_path / "jobs", tmp_path / "store")
    place.jobs.mkdir()

    def run(*script, tasks=ONE, **options):
        engine = Scripted(script, **options)
        with Crew(engine, place) as crew:
            jobs = [crew.add(each) for each in tasks]
            crew.wait(lambda jobs: None)
        return [job.outcome for job in jobs], len(engine.found)

    return run


def test_a_job_whose_worker_dies_is_tried_three_times(outcomes):
    (outcome,), workers = outcomes("taken", "taken")
    assert (outcome.state, workers) == (COMPLETE, 3)


def test_and_then_it_has_failed(outcomes):
    (first, second), workers = outcomes("taken", "taken", "taken", tasks=(task("done"), task("done", 1)))
    assert first == Outcome(FAIL, "tried 3 times: the process ended with code -9; see LOG", again=True)
    assert (second.state, workers) == (COMPLETE, 4)


def test_a_process_may_hold_a_job_a_little_longer_than_its_worker_is_there(outcomes):
    (outcome,), workers = outcomes("lingers")
    assert (outcome.state, workers) == (COMPLETE, 2)


def test_a_job_that_failed_in_one_of_several_processes_has_failed(outcomes):
    (outcome,), workers = outcomes("error: loss is nan")
    assert (outcome.state, outcome.reason.split(";")[0]) == (FAIL, "error: loss is nan")
    assert workers == 1


def test_one_that_only_lost_sight_of_another_process_is_tried_again(outcomes):
    (outcome,), _ = outcomes("error: [gloo] Connection closed by peer")
    assert outcome.state == COMPLETE


def test_one_that_was_handed_back_is_begun_anew_however_often_it_lost_its_worker(outcomes):
    (outcome,), workers = outcomes("taken", "hands back", "hands back", "taken", "done")
    assert (outcome.state, workers) == (COMPLETE, 5)


class Cards(Scripted):
    """A worker a device, named by letters. Of each call of `idle` the script says, for each worker: KIND DEVICE."""

    def __init__(self, devices, meets):
        super().__init__((), len(devices))
        self.devices, self.meets = devices, meets
        self.suspects, self.on, self.ran = Suspects(), {}, []

    def left_out(self):
        bad = self.suspects.unfit if all(map(self.suspects.suspect, self.devices)) else self.suspects.suspect
        return {device: self.suspects.reasons[device] for device in self.devices if bad(device)}

    def acquit(self, job):
        self.suspects.acquit(job)

    def start(self, count, workplace):
        busy = {self.on[id] for id, state in self.found.items() if state == RUNNING}
        free = [device for device in self.devices if device not in busy | self.left_out().keys()][:count]
        ids = super().start(len(free), workplace)
        self.on |= dict(zip(ids, free, strict=True))
        return ids

    def idle(self, meanwhile):
        for id in [id for id, state in self.found.items() if state == RUNNING]:
            device = self.on[id]
            with Queue(self.workplace.jobs).take(Store(self.workplace.store)) as job:
                if not job:
                    continue
                self.ran.append((device, job.training.spec.seed))
                kind = self.meets(device, job.training.spec.seed, len(self.ran))
                if not kind:
                    job.finish(Outcome(COMPLETE))
                    continue
                job.hand_back(0, kind)
                fault = Fault(device, kind, f"it is {kind}", job.id)
            self.suspects.add(fault)
            self.found[id] = WorkerState(Phase.GONE, "the process ended with code 1; see LOG", fault=fault)


@pytest.fixture
def on_cards(tmp_path):
    """What became of jobs, by their number; what was said; on which devices they ran."""
    place = Workplace(tmp_path / "jobs", tmp_path / "store")
    place.jobs.mkdir()

    def run(devices, meets, jobs=3):
        said = []
        engine = Cards(devices, meets)
        with Crew(engine, place, said.append) as crew:
            added = [crew.add(task("done", seed)) for seed in range(jobs)]
            crew.wait(lambda jobs: None)
        return [job.outcome for job in added], said, engine.ran

    return run


def test_a_dead_device_is_left_out_and_the_others_do_its_jobs(on_cards):
    found, said, ran = on_cards("ab", lambda device, job, count: DEAD if device == "a" else "")
    assert [outcome.state for outcome in found] == [COMPLETE] * 3
    assert said == ["a is left out: it is dead"]
    assert [device for device, _ in ran].count("a") == 1


def test_a_job_that_kills_every_device_it_meets_has_failed_and_the_devices_go_on(on_cards):
    found, said, ran = on_cards("ab", lambda device, job, count: DEAD if job == 0 else "")
    assert [outcome.state for outcome in found] == [FAIL, COMPLETE, COMPLETE]
    assert found[0].reason.startswith("on a and b: it is dead; see ")
    assert "a is used again" in said
    assert len([job for _, job in ran if job == 0]) == KILLS


def test_another_such_job_leaves_the_devices_to_the_others_too(on_cards):
    found, _, _ = on_cards("ab", lambda device, job, count: DEAD if job in (0, 5) else "", jobs=8)
    assert [outcome.state for outcome in found] == [FAIL if job in (0, 5) else COMPLETE for job in range(8)]


def test_the_only_device_is_tried_again_until_the_contexts_of_two_jobs_died_on_it(on_cards):
    """Then what waits has failed, with the reason."""
    found, said, ran = on_cards("a", lambda device, job, count: DEAD, jobs=4)
    assert [outcome.state for outcome in found] == [FAIL] * 4
    assert found[3].reason == "no device is left: a: it is dead"
    assert said == ["a: it is dead; it is tried again", "a is left out: it is dead"]
    assert {job for _, job in ran} == {0, 1}


def test_the_only_device_whose_context_died_once_goes_on(on_cards):
    found, _, _ = on_cards("a", lambda device, job, count: DEAD if count == 1 else "")
    assert [outcome.state for outcome in found] == [COMPLETE] * 3


def test_a_crowded_device_is_left_out_for_one_that_is_not_and_else_tried_again(on_cards):
    found, said, ran = on_cards("ab", lambda device, job, count: CROWDED if device == "a" else "")
    assert [outcome.state for outcome in found] == [COMPLETE] * 3
    assert [device for device, _ in ran].count("a") == 1
    assert said == ["a is left out: it is crowded"]


def test_a_device_that_may_have_recovered_is_used_again(on_cards, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def meets(device, job, count):
        now[0] += FORGIVEN / 2
        return CROWDED if count == 1 else ""

    found, said, ran = on_cards("ab", meets, jobs=6)
    assert [outcome.state for outcome in found] == [COMPLETE] * 6
    assert said == ["a is left out: it is crowded", "a is used again"]
    assert [device for device, _ in ran][:3] == ["a", "b", "b"]
    assert [device for device, _ in ran].count("a") > 1


def test_but_not_for_ever(on_cards):
    found, _, ran = on_cards("a", lambda device, job, count: CROWDED, jobs=1)
    assert (found[0].state, len(ran)) == (FAIL, ATTEMPTS)
    assert found[0].reason.startswith("on a: it is crowded; see ")


def test_a_job_that_is_added_when_no_device_is_left_has_failed(tmp_path):
    place = Workplace(tmp_path, tmp_path / "store")
    engine = Cards("a", lambda device, job, count: LOST)
    with Crew(engine, place) as crew:
        first = crew.add(task("done"))
        crew.wait(lambda jobs: None)
        second = crew.add(task("done", 1))
        crew.wait(lambda jobs: None)
    assert first.outcome == second.outcome == Outcome(FAIL, "no device is left: a: it is lost", again=True)


def test_a_job_that_is_too_large_for_all_that_is_left_has_failed(tmp_path):
    place = Workplace(tmp_path, tmp_path / "store")

    class Left(Cards):
        def largest(self):
            return 24 if "b" not in self.left_out() else 8

    def meets(device, job, count):
        return LOST if device == "b" else ""

    engine = Left("ab", meets)
    with Crew(engine, place) as crew:
        crew.add(task("done"))
        large = crew.add(task("done", 1))
        large.refuse(8, "it needs 10 GB")
        crew.wait(lambda jobs: None)
    assert large.outcome == Outcome(FAIL, "no larger device is left: it needs 10 GB", again=True)


def test_who_waits_for_memory_is_said_once(tmp_path):
    engine, said = Scripted(("taken",)), []
    with Crew(engine, Workplace(tmp_path, tmp_path / "store"), said.append) as crew:
        crew.add(task("done"))
        engine.found["worker-0"] = WorkerState(Phase.RUNNING, waits="waits until a has room")
        for _ in range(3):
            crew._say_who_waits()
    assert said == ["waits until a has room"]


def test_where_no_worker_works_the_jobs_have_failed(outcomes):
    found, workers = outcomes("dies", "dies", "dies", tasks=(task("done"), task("done", 1)))
    reason = "no worker could be started: the process ended with code -9; see LOG"
    assert found == [Outcome(FAIL, reason, again=True)] * 2
    assert workers == 3


def test_an_engine_may_say_that_another_worker_fares_no_better(outcomes):
    (outcome,), workers = outcomes("dies", retry=False)
    assert (outcome.state, workers) == (FAIL, 1)


def test_no_more_workers_than_jobs_and_than_there_is_room_for(outcomes):
    tasks = [task("done", seed) for seed in range(5)]
    assert outcomes(tasks=tasks, workers=3)[1] == 3
    assert outcomes(tasks=tasks[:2], workers=3)[1] == 2


def test_a_job_for_more_devices_than_a_worker_has_is_refused(tmp_path):
    crew = Crew(Scripted(()), Workplace(tmp_path, tmp_path))
    with pytest.raises(SpecError, match="a job needs 2 devices, and a worker has 1"):
        crew.add(replace(task("done"), devices=2))


@pytest.fixture
def shared(tmp_path, make_cell):
    """The kinds of jobs that trainings need, for an engine with so many workers."""
    cells = [make_cell(lr=lr, prior=True) for lr in (1e-6, 2e-6)]
    first, second = compile_plan(cells).trainings
    store = Store(tmp_path / "store")

    def needs(workers):
        place = Workplace(tmp_path / f"jobs-{workers}", store.root)
        place.jobs.mkdir()
        work = SharedWork(Crew(Scripted((), workers), place), store)
        of_first, of_second = work.needs(first), work.needs(second)
        assert of_first == of_second  # made once
        return [job.task.kind.value for job in of_first]

    return needs, store, first


def test_what_several_trainings_need_is_made_once_by_jobs_of_its_own(shared):
    needs, store, training = shared
    assert needs(1) == []
    assert needs(2) == ["class images", "baseline"]
    write_json(store.class_images(training.spec) / MANIFEST, {})
    assert needs(3) == ["baseline"]
    write_json(store.baselines(training.spec, training.points[0]) / "values.json", {})
    assert needs(4) == []


def test_workers_can_tell_whether_the_sweep_is_there(tmp_path):
    queue = Queue(tmp_path)
    assert queue.deserted
    with queue.attended():
        assert not queue.deserted
    assert queue.deserted
