"""An engine that behaves as a cluster does: workers wait in a queue first, and outlive the sweep that started them."""

import subprocess
import sys
import time

import psutil

from sweeper.engine.base import GRACE, QUEUED, RUNNING, Engine, Phase, WorkerState
from sweeper.engine.local import PROJECT, own_environment
from sweeper.forecast import Capacity
from trainers.files import read_json, write_json

QUEUED_FOR = 0.2  # seconds


class FakeEngine(Engine):
    module = "tests.sweeper.engine.light"
    bare = "1"

    def __init__(self, resources):
        super().__init__(resources)
        self.started = {}  # id: when
        self.processes = {}  # id: process, once it runs
        self.commands = {}  # id: what will run, and where

    def capacity(self):
        return Capacity(2)

    def prepare(self):
        pass

    def start(self, count, workplace):
        ids = [f"fake-{time.monotonic_ns()}-{i}" for i in range(count)]
        command = [sys.executable, "-m", self.module, "--jobs", str(workplace.jobs), "--store", str(workplace.store)]
        for id in ids:
            self.started[id] = time.monotonic()
            self.commands[id] = command, workplace.jobs / f"{id}.log"
        return tuple(ids)

    def states(self):
        return {id: self._state(id) for id in self.started}

    def _state(self, id):
        if id not in self.processes:
            if time.monotonic() - self.started[id] < QUEUED_FOR:
                return QUEUED
            self._run(id)
        if _runs(self.processes[id]):
            return RUNNING
        return WorkerState(Phase.GONE, f"the process ended; see {self._log(id)}")

    def _log(self, id):
        return self.commands[id][1]

    def _run(self, id):
        command, log = self.commands[id]
        environment = own_environment() | {
            "PYTHONPATH": str(PROJECT),
            "BARE": self.bare,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
        }
        with open(log, "ab") as out:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        self.processes[id] = psutil.Process(process.pid)
        write_json(log.with_suffix(".pid"), process.pid)

    def stop(self, ids, grace=GRACE):
        running = [self.processes[id] for id in ids if id in self.processes]
        for id in set(ids) - set(self.processes):
            del self.started[id]
        for process in filter(_runs, running):
            process.terminate()
        _, left = psutil.wait_procs(running, timeout=grace)
        for process in left:
            process.kill()
        psutil.wait_procs(left)

    def adopt(self, workplace):
        found = []
        for path in workplace.jobs.glob("fake-*.pid"):
            id, pid = path.stem, read_json(path)
            if id not in self.started and psutil.pid_exists(pid):
                self.processes[id] = psutil.Process(pid)
                self.started[id] = 0.0
                self.commands[id] = [], path.with_suffix(".log")
                found.append(id)
        return tuple(found)


def _runs(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
