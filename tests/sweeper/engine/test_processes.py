"""No process outlives the one that needs it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sweeper.engine import processes
from sweeper.engine.jobs import Reporter
from sweeper.engine.local import PROJECT
from sweeper.engine.processes import end_sessions, interrupts_call, members, said_while_writing, undisturbed, writes
from sweeper.engine.queue import Queue
from sweeper.engine.worker import _leave_with

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", flush=True)
time.sleep(60)
"""


def test_one_whose_parent_ended_before_it_could_ask_ends_at_once():
    code = "from sweeper.engine.processes import die_with; die_with(1); print('goes on')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (143, "")


LAUNCHER = """
import os, subprocess, sys
worker = "import time; from sweeper.engine.worker import listen; listen(); print('ready', flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", worker], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def test_of_several_processes_none_outlives_their_launcher():
    """It starts each in a session of its own, where `end_sessions` does not look for it."""
    environment = {**os.environ, "WORLD_SIZE": "2", "PYTHONPATH": str(PROJECT)}
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, env=environment)
    worker = int(launcher.stdout.readline())
    assert launcher.stdout.readline() == b"ready\n"
    launcher.kill()
    launcher.wait()
    deadline = time.monotonic() + 5
    while members(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not members(worker)


def test_where_the_system_cannot_do_that_workers_end_when_they_see_that_their_sweep_is_gone(tmp_path, monkeypatch):
    """On macOS there is no prctl."""
    monkeypatch.setattr(processes, "LINUX", False)
    monkeypatch.setattr(processes.ctypes, "CDLL", lambda _: None)
    processes.die_with(os.getppid())
    monkeypatch.setattr(Reporter, "stopping", False)
    queue = Queue(tmp_path)
    with queue.attended():
        watch = threading.Thread(target=_leave_with, args=(queue,))
        watch.start()
        assert not Reporter.stopping
    watch.join(60)
    assert Reporter.stopping


def test_all_processes_of_a_session_end_those_that_refuse_to_after_a_while():
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    assert len(members(process.pid)) == 2
    start = time.monotonic()
    end_sessions([process.pid], grace=0.5)
    assert time.monotonic() - start < 5
    assert not members(process.pid)
    assert process.wait() == -9
    assert os.getpid() not in members(process.pid)
    end_sessions([process.pid], grace=0.5)  # nothing is left: nothing happens


def test_a_session_of_which_one_writes_is_waited_for(tmp_path):
    """However long that takes; then it is ended as the others are."""
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    looks = []

    def busy(pid):
        looks.append(process.poll())
        return len(looks) < 20

    end_sessions([process.pid], grace=0.2, busy=busy)
    assert set(looks) == {None}
    assert len(looks) >= 20
    assert process.wait() == -9


def test_a_process_that_was_given_a_session_of_its_own_ends_too():
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '60'], start_new_session=True); "
    code += "print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    both = members(process.pid)
    assert len(both) == 2
    end_sessions([process.pid], grace=20)
    process.wait()
    (other,) = both - {process.pid}
    assert not psutil.pid_exists(other) or psutil.Process(other).status() == psutil.STATUS_ZOMBIE


def test_the_first_of_a_session_is_asked_only_when_it_is_alone():
    """Asked to end, torchrun ends the processes that train 30 seconds later, whatever they are at."""
    code = """
import os, signal, subprocess, sys
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print("ready", flush=True)
    signal.pause()
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
os.wait()
print("alone", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True, text=True)
    assert process.stdout.readline() == "ready\n"
    end_sessions([process.pid], grace=20)
    assert process.stdout.read() == "alone\n"


def test_what_a_process_writes_is_said_while_it_does(tmp_path):
    assert writes(tmp_path, os.getpid()) == ""
    with said_while_writing(tmp_path, Path("state/000400")):
        assert writes(tmp_path, os.getpid()) == "state/000400"
        assert writes(tmp_path, os.getppid()) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_of_writing_has_its_effect_after_it(capsys, number):
    before = signal.signal(number, signal.default_int_handler)  # a shell in the background may ignore Ctrl-C
    done = []

    def write():
        with undisturbed(Path("state/000400")):
            signal.raise_signal(number)
            done.append("written")

    try:
        with pytest.raises(KeyboardInterrupt):
            write()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert done == ["written"]
    assert "stops when state/000400 is written" in capsys.readouterr().err


def test_while_the_workers_are_stopped_ctrl_c_only_says_what_is_waited_for():
    said = []
    with interrupts_call(lambda: said.append("waits")):
        signal.raise_signal(signal.SIGINT)
    assert said == ["waits"]
