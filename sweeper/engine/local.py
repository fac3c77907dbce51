"""The local engine: this machine's devices leased to workers, one process for each device under accelerate."""

import functools
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from sweeper.engine import devices
from sweeper.engine.base import GRACE, RUNNING, Engine, Phase, Resources, WorkerState, Workplace
from sweeper.engine.devices import Lease
from sweeper.engine.processes import die_with, end_sessions
from sweeper.forecast import Capacity

PROJECT = Path(__file__).resolve().parents[2]
ACCELERATE = Path(__file__).with_name("accelerate.yaml")
WORKER = "sweeper.engine.worker"  # the module that is run
# How much freed memory stays with a process, and what is big enough to be no part of that: see mallopt(3) of glibc.
# By default it hands the activations of every training step back to the kernel, and faults them in again page by page:
# see docs/log.md, "Workers keep the memory that a step frees".
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(512 * 1024**2), "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2)}
# Threads that wait by spinning come to a stand where anything else runs on the machine: two threads on two busy cores
# took 10.9 s for a step that takes 0.42 s with this setting: see docs/log.md, "Spinning threads".
SPINS = {"GOMP_SPINCOUNT": "1000"}
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # whatever is needed was fetched before
# What tells accelerate and torchrun how to train: of the user's other projects, or of a job of MPI or Slurm around us.
FOREIGN = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "PET_", "TORCHELASTIC_", "TORCH_ELASTIC_")
FOREIGN += ("OMPI_COMM_", "MPI_LOCAL", "MV2_COMM_", "PMI_", "MASTER_ADDR", "MASTER_PORT")
FOREIGN_NAMES = {"RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "FORK_LAUNCHED", "USE_TORCH_XLA"}


def own_environment() -> dict[str, str]:
    """The environment without what configures accelerate: a sweep's settings alone decide about results."""
    return {
        name: value for name, value in os.environ.items() if name not in FOREIGN_NAMES and not name.startswith(FOREIGN)
    }


def environment(lease: Lease) -> dict[str, str]:
    """Of a worker. What the user set stays where it changes the speed only."""
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    chosen = {"ACCELERATE_USE_CPU": "true"} if lease.cpu else {"CUDA_VISIBLE_DEVICES": ",".join(lease.devices)}
    return {
        **ALLOCATOR,
        **SPINS,
        **own_environment(),
        "OMP_NUM_THREADS": str(lease.threads),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        **OFFLINE,
        **QUIET,
        **chosen,
    }


def command(lease: Lease, workplace: Workplace, module: str = WORKER) -> list[str]:
    count = len(lease.devices)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ACCELERATE)]
    launch += ["--num_processes", str(count)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    if count > 1:
        launch += ["--multi_gpu", "--main_process_port", "0"]
    elif lease.cpu:
        launch += ["--cpu"]
    told = ["--jobs", str(workplace.jobs), "--store", str(workplace.store), "--leave-with-sweep"]
    held = [f"--device={lock}" for lock in devices.locks(lease)]
    return [*launch, "--module", module, *told, *held]


class Worker:
    """One `accelerate launch` in a session of its own, so that a signal reaches all of its processes."""

    def __init__(self, lease: Lease, workplace: Workplace, log: Path, module: str) -> None:
        self.lease, self.log = lease, log
        self.state = RUNNING
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                command(lease, workplace, module),
                env=environment(lease),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=functools.partial(die_with, os.getpid()),
            )

    def check(self) -> WorkerState:
        """GONE once its first process has ended, and all others after it."""
        if self.state == RUNNING and self.process.poll() is not None:
            end_sessions([self.process.pid], GRACE)
            code = self.process.returncode
            self.state = WorkerState(Phase.GONE, f"the process ended with code {code}; see {self.log}")
        return self.state


class LocalEngine(Engine):
    """Its workers end with the process that started them."""

    module = WORKER

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self._leases: list[Lease] = []
        self._workers: dict[str, Worker] = {}

    def capacity(self) -> Capacity:
        if self._leases:
            found = len(self._leases)
            return Capacity(found, found if self._leases[0].cpu else 1)
        gpus = devices.count_gpus()
        if not gpus:
            return Capacity(self.resources.cpu_workers, self.resources.cpu_workers)
        return Capacity(max(1, gpus // self.resources.devices))

    def prepare(self) -> None:
        if not self._leases:
            self._leases = devices.leases(self.resources.devices, self.resources.cpu_workers)

    def start(self, count: int, workplace: Workplace) -> tuple[str, ...]:
        self.prepare()
        free = list(self._leases)
        for worker in self._workers.values():
            if worker.check() == RUNNING:
                free.remove(worker.lease)
        started = []
        for lease in free[:count]:
            id = f"worker-{len(self._workers)}"
            self._workers[id] = Worker(lease, workplace, workplace.jobs / f"{id}.log", self.module)
            started.append(id)
        return tuple(started)

    def states(self) -> Mapping[str, WorkerState]:
        return {id: worker.check() for id, worker in self._workers.items()}

    def stop(self, ids: Collection[str], grace: float = GRACE) -> None:
        workers = [self._workers[id] for id in ids]
        end_sessions([worker.process.pid for worker in workers], grace)
        for worker in workers:
            worker.process.wait()
            worker.check()

    def adopt(self, workplace: Workplace) -> tuple[str, ...]:
        return ()
