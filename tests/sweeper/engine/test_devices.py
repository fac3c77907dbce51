"""Which devices a machine has, and which worker gets which."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from sweeper.engine.base import RUNNING, Resources
from sweeper.engine.devices import Lease, count_gpus, leases, locks
from sweeper.engine.faults import DEAD, LOST, Fault
from sweeper.engine.local import LocalEngine, environment
from sweeper.forecast import Capacity
from sweeper.plan import gpus as gpus_module
from trainers.errors import SpecError
from trainers.memory import capacity

GB = 1024**3


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


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Resources(cpu_workers=9), "cpu_trials=9: this machine has 8 cores; use 8 or less."),
        (Resources(9), "gpus_per_trial=9: there is no GPU here, and 8 cores; use 8 or less."),
        (Resources(gpu_workers=4), "trials_per_gpu=4: there is no GPU here; cpu_trials=4 shares the cores."),
    ],
)
def test_what_the_machine_has_not_is_refused_with_the_plan(cores, monkeypatch, asked, says):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    engine = LocalEngine(asked)
    for refuses in (engine.capacity, engine.prepare):
        with pytest.raises(SpecError) as caught:
            refuses()
        assert str(caught.value) == says
    LocalEngine(Resources(8, 8)).capacity()


def test_more_gpus_than_there_are_are_refused_with_the_plan(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert LocalEngine(Resources(2)).capacity().workers == 1
    with pytest.raises(SpecError, match=r"gpus_per_trial=3: this machine has 2; use 2 or less\."):
        LocalEngine(Resources(3)).capacity()


def test_gpus_that_are_not_here_can_be_planned_for(cores, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert LocalEngine(Resources(16, absent=True)).capacity() == Capacity(1)
    assert LocalEngine(Resources(gpu_workers=3, absent=True)).capacity() == Capacity(3, 3)


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
            "torch.cuda.get_device_properties",
            lambda i: SimpleNamespace(uuid=UUIDS[seen[i]], total_memory=(8 + 16 * (i % 2)) * GB),
            raising=False,
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


def test_what_is_left_of_two_groups_makes_a_new_one(gpus):
    """A GPU that is left alone is said to be."""
    gpus(None, [0, 1, 2, 3])
    engine = LocalEngine(Resources(devices=2))
    engine.prepare()
    a, b, c, d = (f"GPU-{uuid}" for uuid in UUIDS)
    assert engine.left_out() == {}
    engine._suspects.add(Fault(b, LOST, "it is lost"))
    assert [lease.devices for lease in engine._fit()] == [(a, c)]
    alone = "gpus_per_trial=2 and no other is left for it"
    assert engine.left_out() == {b: "it is lost", d: alone}
    engine._suspects.add(Fault(c, DEAD, "its context is dead", "00001"))
    assert [lease.devices for lease in engine._fit()] == [(a, d)]
    assert engine.capacity().workers == 1
    engine._suspects.add(Fault(a, DEAD, "its context is dead", "00001"))
    assert [lease.devices for lease in engine._fit()] == [(a, c)]  # of those that are not left out for good
    assert engine.left_out() == {b: "it is lost", d: alone}
    engine._suspects.add(Fault(a, LOST, "it is lost"))
    engine._suspects.add(Fault(c, LOST, "it is lost"))
    assert engine._fit() == []


def test_a_group_at_work_stays_together(gpus):
    gpus(None, [0, 1, 2, 3])
    engine = LocalEngine(Resources(devices=2))
    engine.prepare()
    a, b, c, d = (f"GPU-{uuid}" for uuid in UUIDS)
    engine._workers["worker-0"] = SimpleNamespace(lease=engine._leases[1], state=RUNNING)
    engine._suspects.add(Fault(a, LOST, "it is lost"))
    assert [lease.devices for lease in engine._fit()] == [(c, d)]
    assert engine.left_out().keys() == {a, b}


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"])
def test_a_gpus_memory_is_allocated_in_segments_that_grow_unless_the_user_chose(monkeypatch, name):
    gpu, cpu = (environment(Lease((device,), 1)) for device in ("GPU-a", "cpu"))
    assert gpu["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert not any("ALLOC_CONF" in each for each in cpu)
    monkeypatch.setenv(name, "max_split_size_mb:64")
    chosen = {each: value for each, value in environment(Lease(("GPU-a",), 1)).items() if "ALLOC_CONF" in each}
    assert chosen == {name: "max_split_size_mb:64"}


@pytest.mark.parametrize(
    ("visible", "count"),
    [("0,1,2", 3), ("", 0), ("-1", 0), ("1,-1,2", 1), ("GPU-a,MIG-b", 2), (" 0, 1 ", 2), ("NoDevFiles", 0)],
)
def test_gpus_are_counted_without_torch(monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


def test_windows_lends_a_gpu_without_listing_it(monkeypatch, tmp_path):
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NVIDIA", "AMD"):
        monkeypatch.setattr(gpus_module, name, tmp_path)
    monkeypatch.setattr(gpus_module, "WSL", tmp_path / "libcuda.so.1")
    assert count_gpus() == 0
    (tmp_path / "libcuda.so.1").touch()
    assert count_gpus() == 1


def test_the_capacity_is_that_of_the_leases_once_they_are_known(gpus, monkeypatch):
    gpus("0,1,2", [0, 1])  # one of three is not there
    engine = LocalEngine(Resources())
    assert engine.capacity().workers == 3
    engine.prepare()
    assert engine.capacity().workers == 2


def test_amds_gpus_are_counted_without_torch(monkeypatch, tmp_path):
    """Their driver lists processors too."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpus_module, "NVIDIA", tmp_path)
    monkeypatch.setattr(gpus_module, "AMD", tmp_path)
    for node, units in enumerate((0, 256, 304)):
        (tmp_path / str(node)).mkdir()
        (tmp_path / str(node) / "properties").write_text(f"cpu_cores_count 8\nsimd_count {units}\nmem_banks_count 1\n")
    assert count_gpus() == 2
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert count_gpus() == 1


def test_amds_gpus_are_leased_by_index(gpus, monkeypatch):
    gpus(None, [0, 1])
    monkeypatch.setattr("torch.version.hip", "6.4")
    assert [lease.devices for lease in leases(1)] == [("0",), ("1",)]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "3,2")
    first, second = leases(1)
    assert (first.devices, second.devices) == (("3",), ("2",))
    found = environment(second)
    assert (found["HIP_VISIBLE_DEVICES"], found["CUDA_VISIBLE_DEVICES"]) == ("2", "2")


def test_macos_says_not_which_cores_a_process_may_use(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert leases(1, 5) == [Lease(("cpu",), 2)] * 5
    assert capacity(torch.device("cpu")) > 0


def test_several_trials_share_a_gpu(gpus, monkeypatch):
    """Each card gets one before any gets two; each trial has its share of the memory and of the cores."""
    gpus(None, [0, 1])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    first, second = ((f"GPU-{UUIDS[i]}",) for i in range(2))
    small, large = Lease(first, 2, 3, 8 * GB // 3), Lease(second, 2, 3, 8 * GB)
    assert leases(1, 8, 3) == [small, large] * 3
    engine = LocalEngine(Resources(gpu_workers=3))
    engine.prepare()
    assert engine.capacity() == Capacity(6, sharing=3)
    assert engine.largest() == 8 * GB
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert LocalEngine(Resources(gpu_workers=3)).capacity() == Capacity(6, sharing=3)


def test_several_gpus_to_a_trial_and_several_trials_to_a_gpu_contradict_each_other():
    with pytest.raises(SpecError, match="gpus_per_trial=2 and trials_per_gpu=2 contradict each other"):
        LocalEngine(Resources(devices=2, gpu_workers=2))


HOLD = """
import pathlib, sys
from contextlib import ExitStack
from sweeper.engine.devices import claim_share
with ExitStack() as held:
    for line in sys.stdin:
        print(held.enter_context(claim_share(pathlib.Path(sys.argv[1]), int(line))), flush=True)
"""


@pytest.fixture
def sweep(tmp_path):
    """Another process, which is asked to hold one of so many shares of the device; whether it got it."""
    started = []

    def start():
        command = [sys.executable, "-c", HOLD, str(tmp_path / "GPU-0")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)

        def hold(of):
            process.stdin.write(f"{of}\n")
            process.stdin.flush()
            return process.stdout.readline() == "True\n"

        hold.process = process
        return hold

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_sweeps_that_divide_a_device_differently_never_take_more_than_the_whole(sweep):
    """Trials of half a device and of a third; one of the whole finds no room until all are gone."""
    half, third, other_third, whole = (sweep() for _ in range(4))
    assert half(2)
    assert third(3)  # the last third: the first is within the half, the second half in it
    assert not other_third(3)
    assert not sweep()(2)
    assert not whole(1)
    for held in (half, third):
        held.process.kill()
        held.process.wait()
    assert whole(1)
    assert not other_third(3)


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_a_device_has_as_many_shares_as_trials(sweep, of):
    assert [sweep()(of) for _ in range(of + 1)] == [True] * of + [False]
