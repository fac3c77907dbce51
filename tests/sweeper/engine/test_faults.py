"""Two processes that train together: an error in one of them ends both within a minute, and is no riddle afterwards."""

import os
import signal
import threading
import time

import pytest

from sweeper.engine.base import Resources
from sweeper.engine.crew import Crew
from sweeper.engine.jobs import COMPLETE, FAIL, Kind, Task
from sweeper.engine.local import LocalEngine
from sweeper.store import Store
from tests.sweeper.engine.contract import _one_core, configured, processes, wait_until, workplace  # noqa: F401
from tests.sweeper.tiny_sweep import trainings
from trainers.files import read_json, saved_step, write_json

pytestmark = pytest.mark.gpus

SECONDS = 300  # until a test is given up


class FaultyLocal(LocalEngine):
    module = "tests.sweeper.engine.faulty"

    def stop(self, ids, grace=2):
        super().stop(ids, grace)


@pytest.fixture(autouse=True)
def _a_core_each(_one_core, monkeypatch):  # noqa: F811
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def training(models):
    return trainings(*models, "batch_size=4")[0]


def run(workplace, training, devices, seconds=SECONDS, **fault):  # noqa: F811
    """The job, once it has an outcome, and how many seconds after the fault that was known to the sweep."""
    write_json(workplace.store / "fault.json", fault)
    deadline = time.monotonic() + seconds
    known = []

    def watch(jobs):
        assert time.monotonic() < deadline, (workplace.jobs / "worker-0.log").read_text()
        if not known and (jobs[0].outcome or "worker-1" in crew.engine.states()):
            known.append(time.time())

    with Crew(FaultyLocal(Resources(devices)), workplace) as crew:
        job = crew.add(Task(Kind.TRAIN, training, devices=devices))
        crew.wait(watch)
    return job, known[0] - float((workplace.store / "struck").read_text())


@pytest.mark.faults
def test_out_of_memory_in_one_of_two_halves_the_batch_of_both(workplace, training, configured):  # noqa: F811
    """Whatever the user told accelerate: this is also the test of that with several processes."""
    job, seconds = run(workplace, training, 2, kind="memory", place="step", rank=1)
    print(f"both ended {seconds:.1f} s after the error")
    assert (job.outcome.state, job.lost) == (COMPLETE, [])
    note = read_json(Store(workplace.store).note(training.spec))
    assert note == "out of memory with batch 4 x 1; trained with 2 x 2 (batch size x accumulation)"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("kind", "place", "rank", "state", "lost", "words"),
    [
        ("error", "step", 1, FAIL, 0, "ValueError: as asked"),
        ("error", "sampling", 0, FAIL, 0, "ValueError: as asked"),
        ("error", "checkpoint", 0, FAIL, 0, "ValueError: as asked"),
        ("memory", "step", 0, COMPLETE, 0, ""),
        ("kill", "step", 1, COMPLETE, 1, ""),
        ("kill", "sampling", 0, COMPLETE, 1, ""),
        ("kill", "checkpoint", 0, COMPLETE, 1, ""),
        ("deaf", "step", 1, FAIL, 0, "ValueError: as asked"),
    ],
)
def test_an_error_in_one_of_two_ends_both(workplace, training, kind, place, rank, state, lost, words):  # noqa: F811
    job, seconds = run(workplace, training, 2, kind=kind, place=place, rank=rank)
    print(f"both ended {seconds:.1f} s after the fault")
    assert (job.outcome.state, len(job.lost)) == (state, lost), job.outcome
    assert words in job.outcome.reason


@pytest.mark.faults
@pytest.mark.parametrize("devices", [1, 2])
def test_a_state_that_is_being_written_is_written_to_its_end(workplace, models, devices, capsys):  # noqa: F811
    """Ctrl-C stops a training, which writes its state for longer than a worker has to end, and with two than torchrun
    gives it. A second Ctrl-C only says so."""
    (training,) = trainings(*models, "steps=300", "eval_every=0", f"batch_size={devices}")
    seconds = 6 if devices == 1 else 45
    write_json(workplace.store / "fault.json", {"kind": "slow", "place": "state", "rank": 0, "seconds": seconds})
    store = Store(workplace.store)
    again = threading.Timer(4, os.kill, (os.getpid(), signal.SIGINT))

    def interrupt(jobs):
        if jobs[0].status and jobs[0].status.phase == "training" and jobs[0].status.done:
            again.start()
            raise KeyboardInterrupt

    with Crew(FaultyLocal(Resources(devices)), workplace) as crew:
        job = crew.add(Task(Kind.TRAIN, training, devices=devices))
        with pytest.raises(KeyboardInterrupt):
            crew.wait(interrupt)
    assert (workplace.store / "written").exists()
    assert not processes(workplace)
    assert f"stops when {store.training(training.spec)}/state/" in capsys.readouterr().err
    step = saved_step(store.training(training.spec))
    assert 0 < step < 300
    assert job.outcome is None
    (workplace.store / "steps").unlink()
    (workplace.jobs / "closed").unlink()
    with Crew(FaultyLocal(Resources(devices)), workplace) as crew:
        crew.wait(lambda jobs: None)
    assert job.outcome.state == COMPLETE
    assert int((workplace.store / "steps").read_text().split()[0]) == step
