"""Work on many images at once, on as many as the device's memory holds: sampling, class images, encoders, losses.
Several processes share it."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache

from trainers.device import is_out_of_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

Share = tuple[int, int]  # which of how many processes
ALONE: Share = (0, 1)

# How many fitted of a kind of work where more did not, in this process.
FITS: dict[Hashable, int] = {}


def share_of(items: Sequence[Item], size: int, share: Share, device: torch.device | str) -> list[Item]:
    """The items that are this process's: of every so many batches one.

    On a CPU the batches are those of one process, `size` each, so that what is made of them is the same bits.
    Elsewhere they are as small as needed for each process to have one; all processes agree on that.
    """
    number, processes = share
    if torch.device(device).type != "cpu":
        size = max(1, min(size, -(-len(items) // processes)))
    starts = range(number * size, len(items), processes * size)
    return [item for start in starts for item in items[start : start + size]]


def in_batches(
    items: Sequence[Item], most: int, kind: Hashable, work: Callable[[Sequence[Item]], Result]
) -> Iterator[Result]:
    """What `work` makes of `items`, batch after batch, at most `most` at once.

    A batch that does not fit the device's memory is halved, for good in this process for work of the same `kind`.

    Raises:
        RuntimeError: not even one item fits (`is_out_of_memory`).
    """
    start = 0
    while start < len(items):
        batch = items[start : start + min(most, FITS.get(kind, most))]
        results = _fitting(batch, work)
        if results:
            start += len(batch)
            yield results[0]
        else:
            FITS[kind] = len(batch) // 2
            clear_device_cache(garbage_collection=True)  # here nothing refers to the frames of the error any more


def _fitting(batch: Sequence[Item], work: Callable[[Sequence[Item]], Result]) -> tuple[Result, ...]:
    """What `work` makes of a batch; nothing where it is too large."""
    try:
        return (work(batch),)
    except RuntimeError as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
        return ()


def sliced(device: torch.device | str) -> bool:
    """Whether images pass the autoencoder one by one, in which each takes 0.8 GB at 512 px. Not on a CPU: one by one
    they are rounded otherwise there than in the results that exist."""
    return torch.device(device).type != "cpu"
