"""The local engine: this machine's devices leased to workers, one process for each device under accelerate."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from sweeper.engine import devices
from sweeper.engine.base import GRACE, RUNNING, Engine, Phase, Resources, WorkerState, Workplace
from sweeper.engine.devices import Lease
from sweeper.engine.faults import Notes, Suspects
from sweeper.engine.processes import die_with, end_sessions, members, writes
from sweeper.forecast import Capacity

PROJECT = Path(__file__).resolve().parents[2]
ACCELERATE = Path(__file__).with_name("accelerate.yaml")
WORKER = "sweeper.engine.worker"  # the module that is run
# How much freed memory stays with a process, and what is big enough to be no part of that: see mallopt(3) of glibc.
# By default it hands the activations of every training step back to the kernel, and faults them in again page by page:
# see docs/log.md, "Workers keep the memory that a step frees".
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(512 * 1024**2), "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2)}
# Of the GPU's memory: without it what is freed in pieces cannot be had as a whole. This name is known to every version
# of torch that we take; a user's own setting has it under any name.
GPU_ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
GPU_ALLOCATOR_NAMES = {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"}
# Threads that wait by spinning come to a stand where anything else runs on the machine: two threads on two busy cores
# took 10.9 s for a step that takes 0.42 s with this setting: see docs/log.md, "Spinning threads".
SPINS = {"GOMP_SPINCOUNT": "1000"}
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # whatever is needed was fetched before
# What tells accelerate and torchrun how to train: of the user's other projects, or of a job of MPI or Slurm around us.
FOREIGN = (
    *("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "PET_", "TORCHELASTIC_", "TORCH_ELASTIC_"),
    *("OMPI_COMM_", "MPI_LOCAL", "MV2_COMM_", "PMI_", "MASTER_ADDR", "MASTER_PORT"),
)
FOREIGN_NAMES = {"RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "FORK_LAUNCHED", "USE_TORCH_XLA"}


def own_environment() -> dict[str, str]:
    """The environment without what configures accelerate: a sweep's settings alone decide about results."""
    return {
        name: value for name, value in os.environ.items() if name not in FOREIGN_NAMES and not name.startswith(FOREIGN)
    }


def environment(lease: Lease) -> dict[str, str]:
    """Of a worker. What the user set stays where it changes the speed only."""
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    visible = ",".join(lease.devices)
    chosen = {"ACCELERATE_USE_CPU": "true"}
    if not lease.cpu:  # AMD's GPUs go by the first name where there is one
        chosen = dict.fromkeys({"HIP_VISIBLE_DEVICES"} & os.environ.keys() | {"CUDA_VISIBLE_DEVICES"}, visible)
    on_gpu = {} if lease.cpu or GPU_ALLOCATOR_NAMES & os.environ.keys() else GPU_ALLOCATOR
    return {
        **ALLOCATOR,
        **on_gpu,
        **SPINS,
        **own_environment(),
        "OMP_NUM_THREADS": str(lease.threads),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        **OFFLINE,
        **QUIET,
        **chosen,
    }


def command(lease: Lease, workplace: Workplace, log: Path, largest: int, module: str = WORKER) -> list[str]:
    count = len(lease.devices)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ACCELERATE)]
    launch += ["--num_processes", str(count)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    if count > 1:
        launch += ["--multi_gpu", "--main_process_port", "0"]
    elif lease.cpu:
        launch += ["--cpu"]
    told = ["--jobs", str(workplace.jobs), "--store", str(workplace.store), "--leave-with-sweep"]
    told += ["--notes", str(log), "--share", str(lease.share), "--largest", str(largest)]
    held = [f"--device={lock}" for lock in devices.locks(lease)]
    return [*launch, "--module", module, *told, *held]


class Worker:
    """One `accelerate launch` in a session of its own, so that a signal reaches all of its processes."""

    def __init__(self, lease: Lease, workplace: Workplace, log: Path, largest: int, module: str) -> None:
        self.lease = lease
        self.log = log
        self.jobs = workplace.jobs
        self.notes = Notes(log)
        self.state = RUNNING
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                command(lease, workplace, log, largest, module),
                env=environment(lease),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=functools.partial(die_with, os.getpid()),
            )

    def check(self) -> WorkerState:
        """GONE once its first process has ended, and all others after it."""
        if self.state.phase == Phase.RUNNING:
            if self.process.poll() is None:
                self.state = WorkerState(Phase.RUNNING, waits=self.notes.waits)
            else:
                end_sessions([self.process.pid], GRACE, self.writes)
                ended = f"the process ended with code {self.process.returncode}; see {self.log}"
                self.state = WorkerState(Phase.GONE, ended, fault=self.notes.fault)
        return self.state

    def writes(self, pid: int) -> str:
        return writes(self.jobs, pid)


class LocalEngine(Engine):
    """Its workers end with the process that started them."""

    module = WORKER

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self._leases: list[Lease] = []
        self._single: list[Lease] = []  # of a GPU each, where a worker has several
        self._workers: dict[str, Worker] = {}
        self._suspects = Suspects()

    def capacity(self) -> Capacity:
        if self._leases:
            found = len(self._fit())
            return Capacity(max(1, found), found if self._leases[0].cpu else self._leases[0].share)
        asked = self.resources
        gpus = devices.count_gpus() or asked.devices * asked.absent
        if not gpus:
            devices.check_without_gpu(asked.devices, asked.cpu_workers, asked.gpu_workers)
            return Capacity(asked.cpu_workers, asked.cpu_workers)
        devices.check_gpus(asked.devices, gpus)
        return Capacity(gpus // asked.devices * asked.gpu_workers, asked.gpu_workers)

    def prepare(self) -> None:
        if not self._leases:
            asked = self.resources
            self._leases = devices.leases(asked.devices, asked.cpu_workers, asked.gpu_workers)
            if asked.devices > 1 and not self._leases[0].cpu:
                self._single = devices.leases(1)

    def _fit(self) -> list[Lease]:
        """What workers may have: of the devices without a fault; where there is none such, of those not left out."""
        return self._without(self._suspects.suspect) or self._without(self._suspects.unfit)

    def _without(self, bad: Callable[[str], bool]) -> list[Lease]:
        if not self._single:
            return [lease for lease in self._leases if not any(map(bad, lease.devices))]
        used = [worker.lease for worker in self._workers.values() if worker.state.phase == Phase.RUNNING]
        busy = {device for lease in used for device in lease.devices}
        free = [lease for lease in self._single if lease.devices[0] not in busy and not bad(lease.devices[0])]
        kept = [lease for lease in used if not any(map(bad, lease.devices))]
        return kept + devices.grouped(free, self.resources.devices)

    def left_out(self) -> Mapping[str, str]:
        used = {device for lease in self._fit() for device in lease.devices}
        count = self.resources.devices
        alone = {lease.devices[0]: f"gpus_per_trial={count} and no other is left for it" for lease in self._single}
        return {device: why for device, why in {**alone, **self._suspects.reasons}.items() if device not in used}

    def acquit(self, job: str) -> None:
        self._suspects.acquit(job)

    def largest(self) -> int:
        return max((lease.memory for lease in self._fit()), default=0)

    def start(self, count: int, workplace: Workplace) -> tuple[str, ...]:
        self.prepare()
        free = self._fit()
        for worker in self._workers.values():
            if self._look_at(worker).phase == Phase.RUNNING and worker.lease in free:
                free.remove(worker.lease)
        started = []
        for lease in free[:count]:
            id = f"worker-{len(self._workers)}"
            log = workplace.jobs / f"{id}.log"
            self._workers[id] = Worker(lease, workplace, log, self.largest(), self.module)
            started.append(id)
        return tuple(started)

    def states(self) -> Mapping[str, WorkerState]:
        return {id: self._look_at(worker) for id, worker in self._workers.items()}

    def _look_at(self, worker: Worker) -> WorkerState:
        known = worker.state.phase == Phase.GONE
        state = worker.check()
        if state.fault and not known:
            self._suspects.add(state.fault)
        return state

    def stop(self, ids: Collection[str], grace: float = GRACE) -> None:
        workers = [self._workers[id] for id in ids]
        places = {worker.jobs for worker in workers}
        sessions = [worker.process.pid for worker in workers]
        end_sessions(sessions, grace, lambda pid: any(writes(jobs, pid) for jobs in places))
        for worker in workers:
            worker.process.wait()
            self._look_at(worker)

    def written(self) -> str:
        running = [worker for worker in self._workers.values() if worker.state.phase == Phase.RUNNING]
        found = (worker.writes(pid) for worker in running for pid in members(worker.process.pid))
        return next(filter(None, found), "")

    def adopt(self, workplace: Workplace) -> tuple[str, ...]:
        return ()
