"""Which error is a device's, and which its job's; on cards that only pretend to be there."""

from types import SimpleNamespace

import pytest
import torch

from sweeper.engine import faults
from sweeper.engine.cards import CROWD, GB, Card, Gpu, crowded, fault_of, find_card, is_deadly
from sweeper.engine.faults import CROWDED, DEAD, LOST, Fault, Notes, Suspects
from sweeper.engine.jobs import HandedBack
from trainers.memory import LIBRARIES


class FakeCard(Card):
    """A card of 24 GB, of which this process holds `own` and others `others`."""

    name = "GPU-a"
    total = 24 * GB
    own = 0
    free = 0

    def __init__(self, own=0, others=0, share=1):
        self.own, self.free, self.share = own, self.total - own - others, share


OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("own", "others", "share", "at_fault"),
    [
        (20 * GB, 0, 1, False),
        (20 * GB, CROWD - 1, 1, False),  # a desktop
        (20 * GB, CROWD, 1, True),
        (4 * GB, 20 * GB, 1, True),
        (6 * GB, 18 * GB, 4, False),  # its three siblings
        (5 * GB, 18 * GB + CROWD - 1, 4, False),
        (5 * GB, 18 * GB + CROWD, 4, True),
    ],
)
def test_out_of_memory_is_the_devices_fault_where_others_have_the_memory(own, others, share, at_fault):
    fault = fault_of(OUT, FakeCard(own, others, share))
    assert (fault is not None) == at_fault
    if fault:
        assert fault.kind == CROWDED
        assert "other programs hold" in fault.reason


def test_on_a_processor_nothing_is_a_devices_fault():
    assert fault_of(OUT, Card()) is None
    assert Card().part == 0


def test_a_trial_has_its_share_of_the_memory():
    assert FakeCard(share=4).part == 6 * GB
    assert FakeCard(others=20 * GB, share=4).room == 4 * GB
    assert FakeCard(others=4 * GB).room == 20 * GB


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("HIP error: unspecified launch failure"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_after_these_nothing_more_can_be_computed(error):
    fault = fault_of(error, FakeCard())
    assert (fault.kind, fault.device) == (DEAD, "GPU-a")
    later = ValueError("while it was handled")
    later.__context__ = error
    assert fault_of(later, FakeCard()).kind == DEAD


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA error: in a prompt"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("NCCL error: ncclUnhandledCudaError: Call to CUDA function failed"),  # of another process
        HandedBack("half the batch"),
    ],
)
def test_after_these_others_can(error):
    assert fault_of(error, FakeCard()) is None


def test_cuda_says_out_of_memory_in_its_own_way():
    error = torch.AcceleratorError("CUDA error: out of memory")
    assert is_deadly(error)
    assert fault_of(error, FakeCard(others=24 * GB)).kind == CROWDED
    assert fault_of(error, FakeCard()) is None


@pytest.mark.parametrize("said", ["CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "out of memory"])
def test_what_the_libraries_of_cuda_cannot_have_is_memory_too(said):
    """Not a dead context: the job is too large for the card, which is fine."""
    error = RuntimeError(f"CUDA error: {said}")
    assert fault_of(error, FakeCard(others=24 * GB)).kind == CROWDED
    assert fault_of(error, FakeCard()) is None


def test_of_several_trials_on_a_card_none_takes_the_memory_of_another(monkeypatch):
    given = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=24 * GB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *arguments: given.append(arguments))
    find_card("GPU-a", torch.device("cuda"), 1)
    assert given == []
    find_card("GPU-a", torch.device("cuda"), 3)
    ((fraction, index),) = given
    assert fraction * 24 * GB == pytest.approx(8 * GB - LIBRARIES["cuda"])
    assert index is None


def test_a_leased_card_that_is_gone_is_never_replaced_by_the_processor():
    with pytest.raises(RuntimeError, match="torch does not see it any more"):
        find_card("GPU-a", torch.device("cpu"))
    assert find_card("", torch.device("cpu")).total == 0


def test_what_a_worker_says_of_itself_is_found_beside_its_log(tmp_path):
    notes, found = Notes(tmp_path / "worker-0.log"), Notes(tmp_path / "worker-0.log")
    assert (found.fault, found.waits) == (None, "")
    notes.waits_for("waits until GPU-a has room")
    assert found.waits == "waits until GPU-a has room"
    notes.waits_for("")
    notes.at_fault(Fault("GPU-a", DEAD, "its context is dead", "00001"))
    notes.at_fault(Fault("GPU-b", DEAD, "it missed the other", "00001"))
    assert (found.fault.device, found.waits) == ("GPU-a", "")


def test_crowded_says_how_much():
    assert crowded(FakeCard(others=20 * GB)).reason == "other programs hold 20.0 of its 24.0 GB"


@pytest.mark.parametrize("kind", [DEAD, CROWDED, LOST])
def test_a_device_that_may_have_recovered_is_forgiven_and_one_that_is_lost_is_not(monkeypatch, kind):
    now = [100.0]
    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=lambda: now[0]))
    suspects = Suspects()
    suspects.add(Fault("a", kind, "as asked", "00001"))
    now[0] += 599
    assert (suspects.suspect("a"), suspects.suspect("b")) == (True, False)
    now[0] += 1
    assert suspects.suspect("a") == suspects.unfit("a") == (kind == LOST)
    suspects.add(Fault("a", kind, "as asked", "00002"))
    assert suspects.suspect("a")
    assert suspects.unfit("a") == (kind != CROWDED)  # two contexts died on it


def test_a_job_that_ends_every_context_is_held_against_no_device():
    suspects = Suspects()
    suspects.add(Fault("a", DEAD, "its context is dead", "00001"))
    suspects.acquit("00001")
    assert not suspects.suspect("a")
    suspects.add(Fault("a", CROWDED, "others hold its memory", "00002"))
    assert (suspects.suspect("a"), suspects.unfit("a")) == (True, False)


@pytest.mark.parametrize(("several", "besides"), [(False, int(0.6 * GB)), (True, int(1.6 * GB))])
@pytest.mark.parametrize(("others", "strangers"), [(GB - 1, 0), (GB, GB)])
def test_what_a_process_holds_itself_is_no_strangers(monkeypatch, several, besides, others, strangers):
    """Its context and the buffers that it speaks to other processes through are none of its tensors."""
    card = object.__new__(Gpu)
    card.device, card.share, card.total = torch.device("cuda"), 1, 24 * GB
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 10 * GB)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: several)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (14 * GB - besides - others, 24 * GB))
    assert card.strangers == strangers
