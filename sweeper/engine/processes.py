"""Processes: that none outlives the one that needs it, and none is ended while it writes."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
POLL = 0.1  # seconds


def die_with(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Ends this process, a child of `parent`, by a signal once `parent` ends; at once where it has ended already.

    Linux alone can do that. Elsewhere workers end when they see that their sweep is gone: sweeper/engine/worker.py.
    """
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(143)


def members(session: int) -> set[int]:
    """The living processes of a session, and all that descend from them: torchrun gives each of its processes a session
    of its own."""
    parents = {
        process.pid: process.info["ppid"]
        for process in psutil.process_iter(["ppid", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
    }
    found = {pid for pid in parents if _session(pid) == session}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def end_sessions(sessions: Collection[int], grace: float, busy: Callable[[int], object] = lambda pid: None) -> None:
    """Asks every process of the sessions to end, waits `grace` seconds, then ends those that are left.

    busy: whether a process does what must not be ended in the middle; its session is waited for, however long it takes.
    """
    asked: set[int] = set()
    deadline = time.monotonic() + grace
    while there := {session: found for session in sessions if (found := members(session))}:
        for session, pids in there.items():
            # Not the first of the session, which may be torchrun: it ends the others 30 seconds after it was asked.
            for pid in (pids - {session} or pids) - asked:
                _signal(pid, signal.SIGTERM)
                asked.add(pid)
            if time.monotonic() >= deadline:
                _end(pids, busy)
        time.sleep(POLL)


def _end(pids: set[int], busy: Callable[[int], object]) -> None:
    """They are halted first, so that none gets busy between the look and the end."""
    if any(map(busy, pids)):
        return
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    time.sleep(POLL)
    last = signal.SIGCONT if any(map(busy, pids)) else signal.SIGKILL
    for pid in pids:
        _signal(pid, last)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself
        os.kill(pid, number)


@contextlib.contextmanager
def said_while_writing(folder: Path, written: Path) -> Iterator[None]:
    """Says in `folder` what this process writes meanwhile; see `writes`."""
    said = _writing(folder, os.getpid())
    said.write_text(str(written))
    try:
        yield
    finally:
        said.unlink(missing_ok=True)


def writes(folder: Path, pid: int) -> str:
    """What a process, which is alive, writes just now, as said in `folder`; "" where it writes nothing."""
    try:
        return _writing(folder, pid).read_text() or "a folder"
    except FileNotFoundError:
        return ""


def _writing(folder: Path, pid: int) -> Path:
    return folder / f"writing-{pid}"


@contextlib.contextmanager
def interrupts_call(say: Callable[[], None]) -> Iterator[list[int]]:
    """While it is entered, Ctrl-C and SIGTERM end nothing but call `say`. Yields the list of those that came."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # no signal comes here
        yield came
        return

    def note(number: int, _frame: object) -> None:
        came.append(number)
        say()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed(written: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM have their effect once this process has written what it writes."""
    came: list[int] = []
    try:
        with interrupts_call(lambda: say_writing(str(written))) as came:
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


def say_writing(written: str) -> None:
    sys.stderr.write(f"\nsweep.py: stops when {written} is written; Ctrl-\\ ends it at once, and loses that\n")


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1
