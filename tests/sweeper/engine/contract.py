"""What every engine has to pass: subclass `Contract`, and name the engine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from sweeper.engine.base import Phase, Resources, Workplace
from sweeper.engine.crew import Crew
from sweeper.engine.jobs import COMPLETE, FAIL, Kind, Task
from sweeper.engine.local import PROJECT
from sweeper.store import Store
from tests.sweeper.engine import light
from tests.sweeper.engine.light import ran, task
from tests.sweeper.tiny_sweep import trainings

SECONDS = 120  # until a test is given up


def processes(workplace):
    """Of workers at the workplace."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(workplace.jobs) in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def wait_until(condition, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _one_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    torch.set_num_threads(1)


@pytest.fixture
def workplace(tmp_path):
    place = Workplace(tmp_path / "jobs", tmp_path / "store")
    place.jobs.mkdir()
    place.store.mkdir()
    yield place
    wait_until(lambda: not processes(place), 10)  # no orphan, whatever happened


# What a user, or a job of MPI around the sweep, may have told accelerate and torchrun. It would change results,
# or let no worker start.
CONFIGURED = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config: {fsdp_version: 2, fsdp_offload_params: true, fsdp_sharding_strategy: FULL_SHARD}
dynamo_config: {dynamo_backend: INDUCTOR}
mixed_precision: bf16
gpu_ids: "7"
num_processes: 3
num_machines: 1
machine_rank: 0
main_process_port: 1
use_cpu: true
debug: true
enable_cpu_affinity: true
"""
VARIABLES = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "3",
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "FSDP_VERSION": "2",
    "FSDP_SHARDING_STRATEGY": "1",
    "PMI_SIZE": "2",
    "PMI_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "nowhere.invalid",
    "PET_NNODES": "2",
    "PET_NPROC_PER_NODE": "4",
}


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """A user with an `accelerate` configuration and variables of their own."""
    file = tmp_path / "cache" / "accelerate" / "default_config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIGURED)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


class Contract:
    light: type  # the engine, with workers that do what light.py says
    real: type  # the engine, with workers that train
    killable = True  # a worker is a process of its own

    def crew(self, workplace, engine=None):
        return Crew((engine or self.light)(Resources()), workplace)

    def test_its_capacity_is_known_before_and_after_it_looked_for_devices(self):
        engine = self.light(Resources())
        assert engine.capacity().workers >= 1
        engine.prepare()
        assert engine.capacity().workers >= 1
        assert not engine.states()

    def test_jobs_are_done_in_order_of_need_and_fail_with_reason_and_log(self, workplace):
        with self.crew(workplace) as crew:
            first, bad = crew.add(task("done", 1)), crew.add(task("fail", 2))
            after = crew.add(task("done", 3, needs=[first, bad]))
            last = crew.add(task("done", 4, needs=[first]))
            crew.wait(lambda jobs: None)
            assert (bad.outcome.state, bad.outcome.reason) == (FAIL, "ValueError: as asked")
            assert "Traceback" in bad.log.read_text()
            assert (after.outcome.state, after.outcome.reason) == (FAIL, "train: ValueError: as asked")
            assert (first.outcome.state, last.outcome.state) == (COMPLETE, COMPLETE)
            order = ran(workplace.store)
            assert sorted(order) == sorted([first.id, bad.id, last.id])
            assert order.index(first.id) < order.index(last.id)
            assert {state.phase for state in crew.engine.states().values()} <= {Phase.QUEUED, Phase.RUNNING}

    def test_a_job_may_be_added_while_workers_run(self, workplace):
        added = []

        def watch(jobs):
            if not added and jobs[0].status:
                added.append(crew.add(task("done", 2)))
                (workplace.store / "go").touch()

        with self.crew(workplace) as crew:
            crew.add(task("wait", 1))
            crew.wait(watch)
            assert [job.outcome.state for job in crew.jobs] == [COMPLETE, COMPLETE]
            assert len(crew.jobs) == 2

    def test_it_stops_within_seconds_in_the_middle_of_a_job(self, workplace):
        def interrupt(jobs):
            if jobs[0].status and jobs[0].status.phase == "waiting":
                raise KeyboardInterrupt

        crew = self.crew(workplace)
        with crew:
            job = crew.add(task("wait"))
            with pytest.raises(KeyboardInterrupt):
                crew.wait(interrupt)
            start = time.monotonic()
        assert time.monotonic() - start < 8
        assert not processes(workplace)
        assert {state.phase for state in crew.engine.states().values()} <= {Phase.GONE}
        assert job.outcome is None

    def test_an_error_of_the_watching_sweep_is_not_the_jobs(self, workplace):
        def watch(jobs):
            if jobs[0].status:
                raise LookupError("of the sweep")

        with self.crew(workplace) as crew:
            job = crew.add(task("wait"))
            with pytest.raises(LookupError, match="of the sweep"):
                crew.wait(watch)
        assert job.outcome is None

    def test_a_job_is_taken_again_when_its_worker_was_killed(self, workplace):
        if not self.killable:
            pytest.skip("its worker is the sweep itself")
        with self.crew(workplace) as crew:
            job = crew.add(task("die", deaths=1))
            crew.wait(lambda jobs: None)
            assert job.outcome.state == COMPLETE
            assert len(job.lost) == 1
            assert str(workplace.jobs) in job.lost[0]  # where the log is
            assert ran(workplace.store) == [job.id, job.id]

    @pytest.mark.faults
    def test_what_a_killed_sweep_left_is_done_by_the_next(self, workplace):
        name = f"{type(self).__module__}:{type(self).__qualname__}"
        command = [sys.executable, "-m", __name__, name, str(workplace.jobs), str(workplace.store)]
        sweep = subprocess.Popen(command, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)})
        wait_until(lambda: ran(workplace.store))
        os.kill(sweep.pid, signal.SIGKILL)
        sweep.wait()
        with self.crew(workplace) as crew:
            (workplace.store / "go").touch()
            crew.wait(lambda jobs: None)
            assert [job.outcome.state for job in crew.jobs] == [COMPLETE]

    def test_a_training_gives_the_same_bits_on_every_engine(self, workplace, models, reference, configured):
        """Whatever the user told accelerate."""
        (training,) = trainings(*models)
        with self.crew(workplace, self.real) as crew:
            job = crew.add(Task(Kind.TRAIN, training))
            crew.wait(lambda jobs: None)
            assert job.outcome.state == COMPLETE, job.outcome
        assert contents(workplace.store) == reference


def contents(store: Path):
    """Scores and weights, by file."""
    files = [*store.glob("trainings/*/checkpoints/*/unet/*.safetensors"), *store.glob("trainings/**/*.png")]
    values = {path.relative_to(store): path.read_bytes() for path in files}
    scores = {path.relative_to(store): _values(path) for path in store.glob("trainings/**/scores.json")}
    assert files
    assert scores
    return values | scores


def _values(path):
    from trainers.files import read_json

    return read_json(path)["values"]


@pytest.fixture(scope="session")
def reference(models, tmp_path_factory):
    """The contents of a store after the training, without any engine."""
    from accelerate import PartialState

    from sweeper.engine.queue import Queue
    from sweeper.engine.worker import run_job

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("reference")
    (training,) = trainings(*models)
    job = Queue(root).add(Task(Kind.TRAIN, training))
    run_job(job, Store(root / "store"), PartialState(cpu=True))
    return contents(root / "store")


def sweep_to_be_killed(name, jobs, store):
    module, _, contract = name.partition(":")
    engine = getattr(__import__(module, fromlist=[contract]), contract).light
    with Crew(engine(Resources()), Workplace(Path(jobs), Path(store))) as crew:
        crew.add(light.task("wait"))
        crew.wait(lambda jobs: None)


if __name__ == "__main__":
    sweep_to_be_killed(*sys.argv[1:])
