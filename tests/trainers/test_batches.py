"""Batches that do not fit are halved."""

import weakref

import pytest
import torch

from trainers import batches
from trainers.batches import ALONE, in_batches, share_of, sliced


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(batches, "FITS", {})


def device_with_room_for(most, seen):
    """Work that fits up to `most` items at once. Every size that is tried goes to `seen`."""

    def work(batch):
        seen.append(len(batch))
        if len(batch) > most:
            raise torch.OutOfMemoryError("no room")
        return list(batch)

    return work


def test_every_item_is_worked_on_once_and_in_order():
    seen = []
    assert list(in_batches(range(7), 3, "kind", device_with_room_for(3, seen))) == [[0, 1, 2], [3, 4, 5], [6]]
    assert seen == [3, 3, 1]


def test_several_processes_share_the_batches_of_one():
    assert share_of(range(7), 3, ALONE, "cpu") == [0, 1, 2, 3, 4, 5, 6]
    assert [share_of(range(7), 2, (number, 2), "cpu") for number in (0, 1)] == [[0, 1, 4, 5], [2, 3, 6]]
    assert [share_of(range(3), 2, (number, 3), "cpu") for number in (0, 1, 2)] == [[0, 1], [2], []]
    assert share_of([], 2, ALONE, "cuda") == []


def test_on_a_gpu_each_process_has_a_batch():
    """On a CPU the first would have all sixteen."""
    shares = [share_of(range(16), 16, (number, 3), "cuda:0") for number in (0, 1, 2)]
    assert [len(share) for share in shares] == [6, 6, 4]
    assert sorted(sum(shares, [])) == list(range(16))
    assert share_of(range(16), 16, (0, 3), "cpu") == list(range(16))


def test_a_batch_that_does_not_fit_is_halved_for_good():
    seen = []
    work = device_with_room_for(2, seen)
    assert sum(in_batches(range(5), 8, "kind", work), []) == [0, 1, 2, 3, 4]
    assert seen == [5, 2, 2, 1]
    assert sum(in_batches(range(3), 8, "kind", work), []) == [0, 1, 2]
    assert seen[4:] == [2, 1]  # what did not fit once is not tried again
    list(in_batches(range(3), 8, "another kind", work))
    assert seen[6:] == [3, 1, 1, 1]


def test_other_errors_halve_nothing():
    seen = []

    def work(batch):
        seen.append(len(batch))
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        list(in_batches(range(4), 4, "kind", work))
    assert seen == [4]


def test_one_item_that_does_not_fit_is_an_error():
    seen = []
    with pytest.raises(torch.OutOfMemoryError):
        list(in_batches(range(4), 4, "kind", device_with_room_for(0, seen)))
    assert seen == [4, 2, 1]


def test_nothing_of_the_batch_that_did_not_fit_is_alive_in_the_next():
    held, alive = [], []

    def work(batch):
        alive.append([tensor() for tensor in held if tensor() is not None])
        activations = torch.zeros(len(batch))
        held.append(weakref.ref(activations))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("no room")

    list(in_batches(range(2), 2, "kind", work))
    assert alive == [[], [], []]


def test_images_pass_the_autoencoder_one_by_one_but_on_a_cpu():
    """There the rounding of results that exist would change."""
    assert [sliced(device) for device in ("cpu", torch.device("cpu", 0), "cuda", torch.device("cuda", 1))] == [
        False, False, True, True,
    ]  # fmt: skip
