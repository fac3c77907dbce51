"""A worker that trains, in which what `fault.json` of the store asks for happens once: python -m this module.

kind    memory | error | kill: it runs out of memory, raises, or is killed; slow: writing takes `seconds` longer;
        deaf: it raises, and the other process waits for it as one waits in a collective of NCCL, where no SIGTERM helps
place   step | sampling | checkpoint | state: the writing of them
rank    of the process that it happens to
"""

import os
import signal
import threading
import time
from pathlib import Path

import torch

from sweeper.engine.scoring import Scorer
from sweeper.engine.worker import arguments, main
from trainers import loop
from trainers.files import read_json
from trainers.full import Full

STORE: Path = arguments().store
FAULT = read_json(STORE / "fault.json")
RANK = int(os.environ.get("RANK", "0"))


def strike() -> None:
    struck = STORE / "struck"
    if FAULT["kind"] == "deaf" and FAULT["rank"] != RANK:
        forever = threading.Lock()
        forever.acquire()
        forever.acquire()
    if FAULT["rank"] != RANK or struck.exists():
        return
    struck.write_text(str(time.time()))
    if FAULT["kind"] == "memory":
        raise torch.OutOfMemoryError("out of memory, as asked")
    if FAULT["kind"] in ("error", "deaf"):
        raise ValueError("as asked")
    if FAULT["kind"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULT["kind"] == "slow":
        (STORE / "writing").touch()
        time.sleep(FAULT["seconds"])
        (STORE / "written").touch()


def step(context, state):
    with open(STORE / "steps", "a") as file:
        file.write(f"{state.step}\n")
    if FAULT["place"] == "step" and state.step == 3:
        strike()
    return real_step(context, state)


def evaluate(self, *args):
    if FAULT["place"] == "sampling":
        strike()
    return real_evaluate(self, *args)


def write(self, folder):
    if FAULT["place"] == "checkpoint":
        strike()
    return real_write(self, folder)


def save(value, file):
    if FAULT["place"] == "state":
        strike()
    return real_save(value, file)


real_step, real_evaluate, real_write, real_save = loop._optimizer_step, Scorer._draw_share, Full.write, torch.save
loop._optimizer_step, Scorer._draw_share, Full.write, torch.save = step, evaluate, write, save

if __name__ == "__main__":
    main()
