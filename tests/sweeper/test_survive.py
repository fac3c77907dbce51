"""What a sweep survives: being killed, a full disk, another sweep on the same store. Nothing is lost or done twice."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from accelerate import PartialState

from sweeper.engine.jobs import COMPLETE, FAIL, Kind, Task
from sweeper.engine.queue import Queue
from sweeper.engine.worker import run_job
from sweeper.store import NO_SPACE, Store
from tests.sweeper.tiny_sweep import GRID, numbers, start, sweep, trainings, wait_for


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_sweep_goes_on_where_it_was(finished, models, tmp_path, number):
    arguments = (*GRID, *models, f"output_dir={tmp_path}", "name=disturbed")
    process = start(*arguments)
    wait_for(lambda: list(tmp_path.glob("store/trainings/*/checkpoints/000002/manifest.json")), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    os.kill(process.pid, number)
    process.wait(60)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive  # no orphans
    first = next(tmp_path.glob("store/trainings/*/checkpoints/000002/unet/*.safetensors"))
    stamp = first.stat().st_mtime_ns
    code, printed = sweep(*arguments)
    assert code == 0, printed
    assert first.stat().st_mtime_ns == stamp
    assert numbers(tmp_path / "disturbed") == numbers(finished[0] / "undisturbed")


@pytest.fixture
def disk(tmp_path):
    """Mounts a disk of its own; called with a size, it gets that size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if not shutil.which("mount") or mount("size=64k").returncode:
        pytest.skip("may not mount a small disk here")

    def resize(size):
        assert mount("remount", f"size={size}").returncode == 0
        return folder

    yield resize
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def outcome_of(training, store, folder):
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    job = Queue(folder).add(Task(Kind.TRAIN, training))
    run_job(job, store, PartialState(cpu=True))
    return job


def contents(store, training):
    files = ["checkpoints/*/unet/*", "evaluations/*/*.png", "evaluations/*/class/*.png", "loss.json"]
    root = store.training(training.spec)
    scores = [store.scorecard(training.spec, point).values for point in training.points]
    return scores, {path.relative_to(root): path.read_bytes() for pattern in files for path in root.glob(pattern)}


ROOMS = (8, 60, 600, 1100, 3300, 20, 1100, 20, 1500, 20, 2000, 20, 3300, 20, 6000)  # KB more than what is there
PLACES = ("in make_class_images", "in save_checkpoint", "in save\n", "in evaluate\n")


@pytest.mark.faults
def test_a_disk_that_is_full_again_and_again_changes_no_bit(models, disk, tmp_path):
    (training,) = trainings(*models, "prior_preservation=true")
    whole = Store(tmp_path / "whole")
    assert outcome_of(training, whole, tmp_path / "jobs").outcome.state == COMPLETE
    met = set()
    for room in ROOMS:
        folder = disk("64m")
        store = Store(disk(f"{shutil.disk_usage(folder).used // 1024 + room}k") / "store")
        job = outcome_of(training, store, tmp_path / "jobs")
        if job.outcome.state == FAIL:
            assert job.outcome.reason == NO_SPACE
            met |= {place for place in PLACES if place in job.log.read_text()}
    assert job.outcome.state == COMPLETE
    assert met == set(PLACES)
    assert contents(store, training) == contents(whole, training)
    assert not list(store.training(training.spec).glob("checkpoints/.*"))


@pytest.mark.faults
def test_a_sweep_on_a_full_disk_says_so_and_goes_on_with_more_room(finished, models, disk):
    arguments = (*GRID, *models, f"output_dir={disk('7m')}", "name=full")
    code, printed = sweep(*arguments)
    assert code == 1
    assert "even with keep=best it takes" in " ".join(printed.split())  # before anything is begun
    folder = disk("64m") / "full"
    process = start(*arguments)
    wait_for(lambda: list(folder.parent.glob("store/trainings/*/checkpoints/000002/manifest.json")), process)
    others = folder.parent / "of others"
    with contextlib.suppress(OSError), open(others, "wb") as file:
        file.write(bytes(64 * 2**20))
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert NO_SPACE in " ".join(printed.split())
    assert "Traceback" not in printed
    others.unlink()
    trained = {p: p.stat().st_mtime_ns for p in folder.parent.glob("store/trainings/*/checkpoints/*/unet/*")}
    assert trained
    code, printed = sweep(*arguments)
    assert code == 0, printed
    assert trained.items() <= {p: p.stat().st_mtime_ns for p in folder.parent.glob("store/**/unet/*")}.items()
    assert numbers(folder) == numbers(finished[0] / "undisturbed")


def test_what_a_killed_process_left_half_written_is_deleted(models, tmp_path):
    (training,) = trainings(*models)
    store = Store(tmp_path / "store")
    folder = store.training(training.spec)
    halves = [folder / "checkpoints" / ".000002.123", folder / "state" / ".000002.123"]
    for half in halves:
        half.mkdir(parents=True)
        (half / "weights").write_bytes(b"1")
    assert outcome_of(training, store, tmp_path / "jobs").outcome.state == COMPLETE
    assert not any(half.exists() for half in halves)


class ProgressDisplay(threading.Thread):
    """Notes every version of every result in a store."""

    def __init__(self, store: Path) -> None:
        super().__init__(daemon=True)
        self.store, self.versions, self.done = store, {}, False

    def run(self) -> None:
        while not self.done:
            for path in self.results():
                with contextlib.suppress(FileNotFoundError):
                    about = path.stat()
                    self.versions.setdefault(path, set()).add((about.st_ino, about.st_mtime_ns))
            time.sleep(0.03)

    def results(self) -> list[Path]:
        kinds = ("class_images/*/*", "baselines/*/*", "trainings/*/checkpoints/[0-9]*/manifest.json")
        kinds += ("trainings/*/evaluations/*/*", "trainings/*/evaluations/*/class/*")
        found = [path for kind in kinds for path in self.store.glob(kind)]
        return [path for path in found if path.suffix in (".png", ".json") and not path.name.startswith(".")]


@pytest.mark.faults
def test_two_sweeps_at_once_share_their_work_and_do_nothing_twice(finished, models, tmp_path):
    watch = ProgressDisplay(tmp_path / "store")
    watch.start()
    common = ("-m", *GRID[2:], *models, f"output_dir={tmp_path}")
    both = [start(*common, f"lr={lrs}", f"name={name}") for name, lrs in (("a", "1e-4,2e-4"), ("b", "4e-4,2e-4"))]
    printed = [process.communicate(timeout=300)[0] for process in both]
    watch.done = True
    watch.join()
    assert [process.returncode for process in both] == [0, 0], printed
    assert {path.name for path in watch.versions} >= {"scores.json", "values.json", "manifest.json", "00000.png"}
    assert {path: found for path, found in watch.versions.items() if len(found) > 1} == {}
    assert len(list(watch.store.glob("trainings/*/checkpoints/*/manifest.json"))) == 3 * 2
    alone = numbers(finished[0] / "undisturbed")
    assert numbers(tmp_path / "a") == alone
    assert [row for row in numbers(tmp_path / "b") if row[0]["lr"] == 2e-4] == alone[1:]
