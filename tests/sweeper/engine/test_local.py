"""Which workers there are on a machine."""

import os

import pytest

from sweeper.engine.local import Lease, leases
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


def test_gpus_are_leased_one_by_one_whatever_the_processor_could(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [lease.devices for lease in leases(1, 8)] == [("0",), ("1",), ("2",)]
    assert [lease.devices for lease in leases(2, 8)] == [("0", "1")]
