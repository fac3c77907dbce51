"""What is known of the device that a worker computes on, and which error is the device's rather than its job's."""

import torch

from sweeper.engine.faults import CROWDED, DEAD, Fault
from sweeper.engine.jobs import CONSEQUENCES, HandedBack
from trainers.device import is_out_of_memory

GB = 1024**3
# What others may hold without being a neighbour: a desktop, another process's context.
CROWD = GB
# What a process holds besides its tensors: its context, and the buffers of NCCL where it speaks to others.
CONTEXT, BUFFERS = int(0.6 * GB), GB
# In the message of an error after which a context computes nothing any more, where it is not a torch.AcceleratorError.
DEADLY = ("cuda error", "hip error", "device-side assert", "status_execution_failed")


class Card:
    """What is known of the device that a worker computes on; a processor here, of which nothing can be at fault."""

    name = "cpu"
    total = 0  # bytes; 0: not asked
    share = 1  # workers on it

    @property
    def free(self) -> int:
        """Bytes that anybody could take now."""
        return 0

    @property
    def own(self) -> int:
        """Bytes that this process holds."""
        return 0

    def check(self) -> None:
        """Computes something. Raises what the device raises."""

    @property
    def part(self) -> int:
        """Bytes that are this worker's."""
        return self.total // self.share

    @property
    def strangers(self) -> int:
        """Bytes that others hold of this worker's part; 0 where that is no more than a desktop takes."""
        siblings = self.total - self.part
        held = self.total - self.free - self.own - siblings
        return held if self.total and held >= CROWD else 0

    @property
    def room(self) -> int:
        """Bytes that a job may need now, once this process has let go what it has."""
        return self.part - self.strangers


class Gpu(Card):
    def __init__(self, name: str, device: torch.device, share: int = 1) -> None:
        self.name = name
        self.device = device
        self.share = share
        self.total = int(torch.cuda.get_device_properties(device).total_memory)
        if share > 1:  # what is too large is out of memory itself, rather than the one beside it
            from trainers.memory import LIBRARIES  # seconds

            part = self.part - LIBRARIES["cuda"]
            torch.cuda.set_per_process_memory_fraction(max(0.0, part / self.total), device.index)

    @property
    def free(self) -> int:
        return int(torch.cuda.mem_get_info(self.device)[0])

    @property
    def own(self) -> int:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        return int(torch.cuda.memory_reserved(self.device)) + CONTEXT + BUFFERS * several

    def check(self) -> None:
        torch.ones(8, 8, device=self.device).mm(torch.ones(8, 8, device=self.device)).sum().item()


card = Card()  # of this process; a worker sets it


def find_card(name: str, device: torch.device, share: int = 1) -> Card:
    """The card that was leased under `name`; a processor where none was.

    Raises:
        RuntimeError: it was leased, and is not there: on a processor its jobs would take weeks.
    """
    if not name:
        return Card()
    if device.type != "cuda":
        raise RuntimeError("torch does not see it any more")
    return Gpu(name, device, share)


def fault_of(error: BaseException, card: Card) -> Fault | None:
    """The fault of the device behind an error; None where it is the job's own."""
    if isinstance(error, HandedBack) and error.fault:
        return error.fault
    if is_out_of_memory(error):
        return crowded(card)
    cause: BaseException | None = error
    while cause is not None:
        if is_deadly(cause):
            return Fault(card.name, DEAD, f"its context is dead ({_first_line(cause)})")
        cause = cause.__cause__ or cause.__context__
    return None


def is_deadly(error: BaseException) -> bool:
    """Whether nothing can be computed in this process after it."""
    said = str(error).lower()
    if any(word in said for word in CONSEQUENCES):  # it only misses another process
        return False
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and any(words in said for words in DEADLY)
    )


def crowded(card: Card) -> Fault | None:
    """Out of memory, and others have what is missing."""
    if not card.strangers:
        return None
    held = f"other programs hold {card.strangers / GB:.1f} of its {card.total / GB:.1f} GB"
    return Fault(card.name, CROWDED, held)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
