"""Linux processes: that none outlives the one that needs it."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection

import psutil

PR_SET_PDEATHSIG = 1
POLL = 0.1  # seconds


def die_with(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Ends this process, a child of `parent`, by a signal once `parent` ends; at once where it has ended already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(143)


def members(session: int) -> set[int]:
    """The living processes of a session."""
    return {process.pid for process in psutil.process_iter() if _session(process.pid) == session and _alive(process)}


def end_sessions(sessions: Collection[int], grace: float) -> None:
    """Asks every process of the sessions to end, waits `grace` seconds, then ends those that are left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        there = [session for session in sessions if members(session)]
        for session in there:
            _signal(session, number)
        deadline = time.monotonic() + grace
        while any(map(members, there)) and time.monotonic() < deadline:
            time.sleep(POLL)


def _signal(session: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself
        os.killpg(session, number)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
