"""The processes of one training, and how they wait for each other: on the processor, so that no GPU spins meanwhile."""

from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
from torch import distributed

PATIENCE = timedelta(hours=12)  # of each with the others
Value = TypeVar("Value")


@cache
def _group() -> distributed.ProcessGroup | None:
    """None: the usual one. A process that waits in NCCL keeps its GPU busy, so beside NCCL there is one of gloo, which
    all processes make when they first wait."""
    return None if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo", timeout=PATIENCE)


def wait_for_all() -> None:
    """Returns when all processes have come here."""
    if distributed.is_initialized():
        distributed.barrier(group=_group())


def agreed(value: Value) -> Value:
    """What the first process has, for all of them."""
    if not distributed.is_initialized():
        return value
    message = [value]
    distributed.broadcast_object_list(message, src=0, group=_group(), device=torch.device("cpu"))
    return message[0]
