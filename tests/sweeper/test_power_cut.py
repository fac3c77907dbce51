"""The power fails: what was not flushed to the disk is gone, of files that look written too."""

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.sweeper.tiny_sweep import GRID, numbers, start, sweep, wait_for

SHUTDOWN = 0x8004587D  # ioctl EXT4_IOC_SHUTDOWN, which file systems have to be tested for this
AT_ONCE = struct.pack("I", 2)  # without writing what is still in memory, nor the journal


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, root: Path) -> None:
        self.image, self.folder = root / "disk.img", root / "disk"
        self.folder.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(256 * 2**20)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)

    def mount(self) -> bool:
        command = ["mount", "-o", "loop", self.image, self.folder]
        return not subprocess.run(command, capture_output=True, check=False).returncode

    def cut(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, AT_ONCE)
        finally:
            os.close(handle)

    def unmount(self) -> None:
        subprocess.run(["umount", self.folder], check=True)


@pytest.fixture
def disk(tmp_path):
    if not (shutil.which("mkfs.ext4") and shutil.which("mount")):
        pytest.skip("no ext4 here")
    disk = Disk(tmp_path)
    if not disk.mount():
        pytest.skip("may not mount a disk here")
    yield disk
    with contextlib.suppress(subprocess.CalledProcessError):
        disk.unmount()


def kill(process: subprocess.Popen) -> None:
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for member in family:
        os.kill(member.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family[:-1], timeout=30)


MOMENTS = (
    "store/class_images/*/manifest.json",
    "store/trainings/*/checkpoints/000002/manifest.json",
    "store/trainings/*/evaluations/*/scores.json",
    "store/trainings/*/evaluations/000004-*/*.png",
)


@pytest.mark.faults
def test_a_sweep_goes_on_after_power_cuts(finished, models, disk):
    arguments = (*GRID, *models, f"output_dir={disk.folder}", "name=cut")
    for moment in MOMENTS:
        process = start(*arguments)
        wait_for(lambda moment=moment: list(disk.folder.glob(moment)), process)
        (disk.folder / "lately").write_text("not flushed")
        disk.cut()
        kill(process)
        disk.unmount()
        assert disk.mount()
        lately = disk.folder / "lately"
        assert not lately.exists() or not lately.read_text()  # it was a real cut
    code, printed = sweep(*arguments)
    assert code == 0, printed
    assert numbers(disk.folder / "cut") == numbers(finished[0] / "undisturbed")
