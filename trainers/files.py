"""Writing files so that what exists is complete: written aside, flushed, renamed. The layout of a training's folder.

checkpoints/000400/   what was learned after 400 optimizer steps
state/000400/         the latest state, to go on from
loss.json             the loss of every step
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from trainers.errors import BrokenFile

MANIFEST = "manifest.json"  # the last file written into a folder; a folder that has it is complete

# What surrounds the writing of a folder. Whoever runs a process sets it, to keep it from being ended in the middle.
while_writing: Callable[[Path], AbstractContextManager[Any]] = nullcontext


def write_bytes(path: Path, data: bytes, lasting: bool = True) -> None:
    """lasting: it is to outlive a power cut; else the system writes it to the disk when it likes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any, lasting: bool = True) -> None:
    """Floats are written with `repr`, so they read back bit for bit. lasting: as `write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=1, default=str) + "\n").encode(), lasting)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def is_full(error: BaseException | None) -> bool:
    """Whether a disk without room is behind an error, as the system, safetensors and SQLite say it."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left" in str(error) or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def read_json(path: Path) -> Any:
    """Raises BrokenFile where it is no JSON."""
    with understood(path):
        return json.loads(path.read_text())


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Raises BrokenFile where what is made of the content of `path` fails of that content."""
    try:
        yield
    except BrokenFile:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BrokenFile(path, f"{type(error).__name__}: {error}") from error


def is_complete(folder: Path) -> bool:
    return (folder / MANIFEST).exists()


def serves(checkpoint: Path, precision: str) -> bool:
    """Whether a checkpoint is there, with all the bits that its weights have in `precision`."""
    return is_complete(checkpoint) and read_json(checkpoint / MANIFEST).get("precision", "no") in ("no", precision)


def remove_folder(folder: Path) -> None:
    """The manifest first: what is half deleted must not look complete."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def complete_folder(folder: Path, manifest: Any) -> Iterator[Path]:
    """Yields an empty folder to fill; on success it gets its manifest and takes the place of `folder`."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with while_writing(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            yield aside
            for file in aside.rglob("*"):
                if file.is_file():
                    with open(file, "rb") as handle:
                        os.fsync(handle.fileno())
            write_json(aside / MANIFEST, manifest)
            remove_folder(folder)
            os.replace(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def checkpoint_folder(training: Path, step: int) -> Path:
    return training / "checkpoints" / f"{step:06d}"


def checkpoint_steps(training: Path) -> list[int]:
    """The steps of the complete checkpoints in the folder of a training."""
    return sorted(int(f.name) for f in (training / "checkpoints").glob("[0-9]*") if is_complete(f))


def loss_file(training: Path) -> Path:
    return training / "loss.json"


def remove_unfinished(training: Path) -> None:
    """Deletes what killed processes left half written in the folder of a training."""
    for path in (*training.glob("state/.*"), *training.glob("checkpoints/.*")):
        shutil.rmtree(path, ignore_errors=True)


def state_folder(training: Path, step: int) -> Path:
    return training / "state" / f"{step:06d}"


def saved_step(training: Path) -> int:
    """The step of the latest state in the folder of a training; -1 if there is none."""
    return max((int(folder.name) for folder in _states(training) if is_complete(folder)), default=-1)


def remove_states(training: Path, but: int = -1) -> None:
    """Deletes the states of all steps, but of one."""
    for folder in _states(training):
        if int(folder.name) != but:
            remove_folder(folder)


def _states(training: Path) -> list[Path]:
    return list((training / "state").glob("[0-9]*"))
