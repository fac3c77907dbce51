"""Processes wait for each other on the processor."""

import pytest
import torch
from torch import distributed

from trainers import processes
from trainers.processes import agreed, wait_for_all


@pytest.fixture
def on_gpus(monkeypatch):
    """A group as NCCL's would be: whoever waits in it keeps a GPU busy. Here it fails instead."""
    distributed.Backend.register_backend(
        "spinning", lambda store, rank, size, timeout: Spinning(rank, size), devices="cpu"
    )
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    distributed.init_process_group("spinning", store=distributed.HashStore(), rank=0, world_size=1)
    processes._group.cache_clear()
    yield
    distributed.destroy_process_group()
    processes._group.cache_clear()


class Spinning(distributed.ProcessGroup):
    def getBackendName(self):
        return "spinning"

    def barrier(self, *_, **__):
        raise AssertionError("waits in the GPUs' group")

    broadcast = allreduce = barrier


def test_nobody_waits_in_the_group_of_the_gpus(on_gpus):
    with pytest.raises(AssertionError):
        distributed.barrier()
    wait_for_all()
    assert agreed({"step": 3}) == {"step": 3}
    assert distributed.get_backend(processes._group()) == "gloo"


def test_one_process_waits_for_nobody():
    assert not distributed.is_initialized()
    wait_for_all()
    assert agreed(("a", torch.device("cpu"))) == ("a", torch.device("cpu"))
