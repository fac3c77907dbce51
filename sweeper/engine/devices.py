"""This machine's devices: which there are, who has which, and the locks that two sweeps share.

A GPU is named by its UUID: an index means another GPU to another process, in a container or under Slurm.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sweeper.plan.gpus import count_gpus as count_gpus
from sweeper.plan.gpus import listed
from trainers.errors import SpecError

CPU = "cpu"
MIG = "MIG-"  # what the UUID of a part of a GPU starts with


@dataclass(frozen=True)
class Lease:
    """The devices of one worker."""

    devices: tuple[str, ...]  # UUIDs of GPUs, or CPU, one for each process
    threads: int  # of each process

    @property
    def cpu(self) -> bool:
        return self.devices[0] == CPU


def cores() -> int:
    return len(os.sched_getaffinity(0))


def gpus() -> tuple[str, ...]:
    """The UUIDs of the GPUs that torch sees, in CUDA's order, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    count = torch.cuda.device_count()
    named = listed(os.environ.get("CUDA_VISIBLE_DEVICES", ""))[:count]
    if any(name.startswith(MIG) for name in named):  # CUDA shows a process one of them, but each is a device to lease
        return tuple(listed(os.environ["CUDA_VISIBLE_DEVICES"]))
    if torch.version.hip:  # AMD's GPUs are chosen by index
        return tuple(named or map(str, range(count)))
    return tuple(f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(count))


def leases(per_worker: int, cpu_workers: int = 1) -> list[Lease]:
    """This machine's devices, `per_worker` to a worker; without a GPU `cpu_workers` workers, which share the cores.

    Raises:
        SpecError: there are too few devices, or cores.
    """
    names = gpus()
    if not names:
        if cpu_workers > cores():
            raise SpecError(f"cpu_trials={cpu_workers}: this machine has {cores()} cores; use {cores()} or less.")
        return [Lease((CPU,) * per_worker, max(1, cores() // (cpu_workers * per_worker)))] * cpu_workers
    if per_worker > len(names):
        raise SpecError(f"gpus_per_trial={per_worker}: this machine has {len(names)}; use {len(names)} or less.")
    groups = [names[i : i + per_worker] for i in range(0, len(names) - per_worker + 1, per_worker)]
    return [Lease(group, max(1, cores() // len(names))) for group in groups]


def locks(lease: Lease) -> list[Path]:
    """One for each GPU and user of this machine, so that two sweeps take turns rather than run out of its memory."""
    folder = Path(tempfile.gettempdir()) / f"dreambooth-sweep-{os.getuid()}"
    return [folder / name for name in lease.devices if name != CPU]
