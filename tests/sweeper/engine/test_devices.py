"""Which devices a machine has, and which worker gets which."""

import os
from types import SimpleNamespace

import pytest

from sweeper.engine.base import Resources
from sweeper.engine.devices import Lease, count_gpus, leases, locks
from sweeper.engine.local import LocalEngine, environment
from trainers.errors import SpecError


@pytest.fixture
def cores(monkeypatch):
    """A machine of eight cores without a GPU."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


@pytest.mark.parametrize(
    ("per_trial", "trials", "workers"),
    [
        (1, 1, [Lease(("cpu",), 8)]),
        (2, 1, [Lease(("cpu", "cpu"), 4)]),
        (1, 3, [Lease(("cpu",), 2)] * 3),
        (2, 2, [Lease(("cpu", "cpu"), 2)] * 2),
        (2, 8, [Lease(("cpu", "cpu"), 1)] * 8),
    ],
)
def test_trials_share_the_cores(cores, per_trial, trials, workers):
    assert leases(per_trial, trials) == workers


def test_more_trials_than_cores_are_refused(cores):
    with pytest.raises(SpecError, match=r"cpu_trials=9: this machine has 8 cores; use 8 or less\."):
        leases(1, 9)


UUIDS = [f"{i}0000000-0000-0000-0000-000000000000" for i in range(4)]


@pytest.fixture
def gpus(monkeypatch):
    """Call it with what CUDA_VISIBLE_DEVICES says, and which of the machine's GPUs torch then sees."""

    def machine(visible, seen):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr("torch.cuda.device_count", lambda: len(seen))
        monkeypatch.setattr(
            "torch.cuda.get_device_properties", lambda i: SimpleNamespace(uuid=UUIDS[seen[i]]), raising=False
        )

    return machine


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        (f"GPU-{UUIDS[3]},GPU-1", [3, 1]),  # a UUID may be cut short
        ("1,-1,2", [1]),
    ],
)
def test_gpus_are_leased_by_uuid_whatever_they_are_called(gpus, visible, seen):
    gpus(visible, seen)
    assert [lease.devices for lease in leases(1, 8)] == [(f"GPU-{UUIDS[i]}",) for i in seen]


def test_parts_of_a_gpu_keep_their_own_names(gpus):
    gpus("MIG-a,MIG-b", [0])  # CUDA shows a process one part
    assert [lease.devices for lease in leases(1)] == [("MIG-a",), ("MIG-b",)]


def test_several_gpus_to_a_worker_and_none_to_half_a_one(gpus):
    gpus(None, [0, 1, 2])
    (lease,) = leases(2, 8)
    assert lease.devices == (f"GPU-{UUIDS[0]}", f"GPU-{UUIDS[1]}")
    assert environment(lease)["CUDA_VISIBLE_DEVICES"] == ",".join(lease.devices)
    assert [path.name for path in locks(lease)] == list(lease.devices)
    with pytest.raises(SpecError, match=r"gpus_per_trial=4: this machine has 3; use 3 or less\."):
        leases(4)


@pytest.mark.parametrize(
    ("visible", "count"), [("0,1,2", 3), ("", 0), ("-1", 0), ("1,-1,2", 1), ("GPU-a,MIG-b", 2), (" 0, 1 ", 2)]
)
def test_gpus_are_counted_without_torch(monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


def test_the_capacity_is_that_of_the_leases_once_they_are_known(gpus, monkeypatch):
    gpus("0,1,2", [0, 1])  # one of three is not there
    engine = LocalEngine(Resources())
    assert engine.capacity().workers == 3
    engine.prepare()
    assert engine.capacity().workers == 2
