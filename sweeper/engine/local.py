"""The local engine: this machine's devices leased to workers, one process per device under accelerate."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweeper.engine import jobs
from sweeper.engine.jobs import FAIL, Job, Outcome
from trainers.errors import SpecError

PROJECT = Path(__file__).resolve().parents[2]
POLL = 0.1  # seconds
GRACE = 10.0  # seconds between asking a process to end and ending it
PR_SET_PDEATHSIG = 1
# How much freed memory stays with a process, and what is big enough to be no part of that: see mallopt(3) of glibc.
# By default it hands the activations of every training step back to the kernel, and faults them in again page by page.
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(512 * 1024**2), "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2)}


@dataclass(frozen=True)
class Lease:
    """The devices of one worker; none stands for the processor."""

    devices: tuple[str, ...]
    threads: int


def leases(per_trial: int, cpu_trials: int = 1) -> list[Lease]:
    """This machine's devices, `per_trial` to a worker; without a GPU `cpu_trials` workers, which share the cores.

    Raises:
        SpecError: there are too few devices, or cores.
    """
    import torch

    cores = len(os.sched_getaffinity(0))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if not count:
        if cpu_trials > cores:
            raise SpecError(f"cpu_trials={cpu_trials}: this machine has {cores} cores; use {cores} or less.")
        return [Lease(("cpu",) * per_trial, max(1, cores // (cpu_trials * per_trial)))] * cpu_trials
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    if per_trial > count:
        raise SpecError(f"gpus_per_trial={per_trial}: this machine has {count}; use {count} or less.")
    groups = [names[i : i + per_trial] for i in range(0, count - per_trial + 1, per_trial)]
    return [Lease(tuple(group), max(1, cores // count)) for group in groups]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Worker:
    """One `accelerate launch` in a session of its own, so that a signal reaches all of its processes."""

    def __init__(self, lease: Lease, jobs_folder: Path, store: Path, log: Path) -> None:
        self.lease, self.log = lease, log
        cpu = lease.devices[0] == "cpu"
        environment = {
            **ALLOCATOR,
            **os.environ,
            "OMP_NUM_THREADS": str(lease.threads),
            # Threads that wait by spinning for milliseconds come to a stand where anything else runs on the machine:
            # two threads on two busy cores took 10.9 s for what took 0.33 s so. Measured, see docs/log.md.
            "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",  # whatever is needed was fetched before
            "TRANSFORMERS_VERBOSITY": "error",
            "DIFFUSERS_VERBOSITY": "error",
            **({"ACCELERATE_USE_CPU": "true"} if cpu else {"CUDA_VISIBLE_DEVICES": ",".join(lease.devices)}),
        }
        count = len(lease.devices)
        several = ["--multi_gpu", "--main_process_port", "0"] if count > 1 else ["--cpu"] if cpu else []
        command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(count)]
        command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", *several]
        command += ["--module", "sweeper.engine.worker", "--jobs", str(jobs_folder), "--store", str(store)]
        command += [f"--device={lock}" for lock in self.locks]
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def locks(self) -> list[Path]:
        """One per GPU and user of this machine, so that two sweeps take turns rather than run out of its memory."""
        folder = Path(tempfile.gettempdir()) / f"dreambooth-sweep-{os.getuid()}"
        return [folder / f"gpu-{name}" for name in self.lease.devices if name != "cpu"]

    @property
    def group(self) -> set[int]:
        """The processes of the worker that are still there."""
        import psutil

        return {p.pid for p in psutil.process_iter() if _session(p.pid) == self.process.pid and _alive(p)}

    def stop(self) -> None:
        """Asks every process to end, waits, then ends them."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.group:
                break
            os.killpg(self.process.pid, number)
            deadline = time.monotonic() + GRACE
            while self.group and time.monotonic() < deadline:
                time.sleep(POLL)
        self.process.wait()


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _alive(process) -> bool:
    import psutil

    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class LocalEngine:
    """Keeps one worker per lease until it is left; a worker that died is replaced, its training has failed."""

    def __init__(self, leased: list[Lease], folder: Path, store: Path) -> None:
        self.folder, self.store, self.leased = folder, store, leased
        self.workers: list[Worker] = []
        self.jobs: list[Job] = []

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *_: object) -> None:
        jobs.close(self.folder)
        for worker in self.workers:
            worker.stop()

    def add(self, job: Job) -> Job:
        self.jobs.append(job)
        if len(self.workers) < min(len(self.jobs), len(self.leased)):
            self._start(self.leased[len(self.workers)])
        return job

    def wait(self, watch: Callable[[list[Job]], None]) -> None:
        """Returns when every job has an outcome; calls `watch` meanwhile."""
        while True:
            self._bury()
            watch(self.jobs)
            if all(job.outcome for job in self.jobs):
                return
            time.sleep(POLL)

    def _start(self, lease: Lease) -> None:
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker(lease, self.folder, self.store, log))

    def _bury(self) -> None:
        """Fails the trainings whose worker died, and starts another worker in its place."""
        for index, worker in enumerate(self.workers):
            if worker.process.poll() is None:
                continue
            worker.stop()
            lost = [job for job in self.jobs if jobs.died(job)]
            for job in lost:
                ended = f"the process ended with code {worker.process.returncode}"
                job.finish(Outcome(FAIL, f"{(job.reasons or [ended])[0]}; see {worker.log}"))
            waiting = [job for job in self.jobs if job.outcome is None and job.status is None]
            if waiting and not lost:
                for job in waiting:
                    job.finish(Outcome(FAIL, f"no worker could be started; see {worker.log}"))
            elif lost:  # also where nothing waits: more may come, of a search or to export
                self.workers[index] = Worker(worker.lease, self.folder, self.store, worker.log)
