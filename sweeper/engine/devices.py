"""This machine's devices: which there are, who has which, and the locks that two sweeps share.

A GPU is named by its UUID: an index means another GPU to another process, in a container or under Slurm.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sweeper.plan.gpus import count_gpus as count_gpus
from sweeper.plan.gpus import listed, visible
from trainers.errors import SpecError
from trainers.machine import cores

CPU = "cpu"
WHOLE = 2**20  # bytes of a lock: what a device is divided into
MIG = "MIG-"  # what the UUID of a part of a GPU starts with


@dataclass(frozen=True)
class Lease:
    """The devices of one worker."""

    devices: tuple[str, ...]  # UUIDs of GPUs, or CPU, one for each process
    threads: int  # of each process
    share: int = 1  # workers on one device
    memory: int = 0  # bytes of the smallest of its devices, or of its share; 0: not known

    @property
    def cpu(self) -> bool:
        return self.devices[0] == CPU


def gpus() -> tuple[str, ...]:
    """The UUIDs of the GPUs that torch sees, in CUDA's order, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    count = torch.cuda.device_count()
    named = listed(visible() or "")[:count]
    if any(name.startswith(MIG) for name in named):  # CUDA shows a process one of them, but each is a device to lease
        return tuple(listed(visible() or ""))
    if torch.version.hip:  # AMD's GPUs are chosen by index
        return tuple(named or map(str, range(count)))
    return tuple(f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(count))


def memory(names: Sequence[str]) -> list[int]:
    """Bytes of each GPU of `gpus()`; 0 of a part of one, of which the driver tells nothing before it is used."""
    import torch

    whole = [not name.startswith(MIG) for name in names]
    return [int(torch.cuda.get_device_properties(i).total_memory) if all(whole) else 0 for i in range(len(names))]


def leases(per_worker: int, cpu_workers: int = 1, per_gpu: int = 1) -> list[Lease]:
    """This machine's devices, `per_worker` to a worker or `per_gpu` workers to one; without a GPU `cpu_workers`
    workers, which share the cores.

    Raises:
        SpecError: there are too few devices, or cores.
    """
    names = gpus()
    if not names:
        check_without_gpu(per_worker, cpu_workers, per_gpu)
        return [Lease((CPU,) * per_worker, max(1, cores() // (cpu_workers * per_worker)))] * cpu_workers
    check_gpus(per_worker, len(names))
    sizes = memory(names)
    threads = max(1, cores() // (len(names) * per_gpu))
    single = [Lease((name,), threads, per_gpu, size // per_gpu) for name, size in zip(names, sizes, strict=True)]
    found = grouped(single, per_worker)
    return [lease for _ in range(per_gpu) for lease in found]  # each card gets one before any gets two


def grouped(single: Sequence[Lease], per_worker: int) -> list[Lease]:
    """Leases of `per_worker` devices each, in their order; what is no whole group is left."""
    groups = [single[i : i + per_worker] for i in range(0, len(single) - per_worker + 1, per_worker)]
    return [
        replace(
            group[0],
            devices=tuple(device for lease in group for device in lease.devices),
            memory=min(lease.memory for lease in group),
        )
        for group in groups
    ]


def check_gpus(per_worker: int, there: int) -> None:
    """Raises SpecError where a worker is to have more GPUs than there are."""
    if per_worker > there:
        raise SpecError(f"gpus_per_trial={per_worker}: this machine has {there}; use {there} or less.")


def check_without_gpu(per_worker: int, cpu_workers: int, per_gpu: int) -> None:
    """Raises SpecError where several trials are asked for on each GPU, and there is none; or more processes than there
    are cores."""
    if per_gpu > 1:
        raise SpecError(f"trials_per_gpu={per_gpu}: there is no GPU here; cpu_trials={per_gpu} shares the cores.")
    if per_worker > cores():
        raise SpecError(
            f"gpus_per_trial={per_worker}: there is no GPU here, and {cores()} cores; use {cores()} or less."
        )
    if cpu_workers > cores():
        raise SpecError(f"cpu_trials={cpu_workers}: this machine has {cores()} cores; use {cores()} or less.")


def locks(lease: Lease) -> list[Path]:
    """A file for each GPU and user of this machine, so that two sweeps take turns rather than run out of its memory."""
    folder = Path(tempfile.gettempdir()) / f"dreambooth-sweep-{os.getuid()}"
    return [folder / name for name in lease.devices if name != CPU]


@contextmanager
def claim_share(lock: Path, of: int = 1) -> Iterator[bool]:
    """Holds one of the `of` shares of a device for this process; yields False where none is free.

    A share is a range of bytes of the lock, so that sweeps that divide a device differently exclude each other where
    they would take more than the whole. The lock dies with its process.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "ab") as file:
        yield any(_lock(file, WHOLE * i // of, WHOLE * (i + 1) // of) for i in range(of))


def _lock(file: BinaryIO, start: int, end: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, end - start, start)
    except OSError:
        return False
    return True
