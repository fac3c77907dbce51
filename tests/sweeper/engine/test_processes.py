"""No process outlives the one that needs it."""

import os
import subprocess
import sys
import time

from sweeper.engine.local import PROJECT
from sweeper.engine.processes import end_sessions, members

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
