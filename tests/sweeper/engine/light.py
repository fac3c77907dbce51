"""Jobs that do at once what their cell says, in a worker that is a real one but for that: python -m this module.

do=done             it ends well
do=fail             it raises
do=wait             it reports until the file `go` is in the store
do=die deaths=N     its process is killed, the first N times
"""

import json
import os
import signal
import time
from types import SimpleNamespace

from evaluation.spec import EvalSpec
from sweeper.engine.faults import Notes
from sweeper.engine.jobs import COMPLETE, Kind, Outcome, Reporter, Task
from sweeper.engine.queue import Queue
from sweeper.engine.worker import Post, arguments, main, serve
from sweeper.plan.types import Cell, Training
from sweeper.store import Store
from trainers.spec import ModelSpec, SampleSpec, SubjectSpec, TrainSpec


def task(do, seed=0, needs=(), **asked):
    spec = TrainSpec(ModelSpec("none"), SubjectSpec("none", "dog"), seed=seed)
    params = (("do", do), *asked.items())
    cell = Cell(spec, 1, SampleSpec(), EvalSpec(("a {}",)), params=params)
    return Task(Kind.TRAIN, Training(spec, (cell,)), needs=tuple(job.id for job in needs))


def handle(job, store, report, process):
    asked = dict(job.training.cells[0].params)
    with open(store.root / "ran.jsonl", "a") as file:
        file.write(json.dumps(job.id) + "\n")
    if asked["do"] == "fail":
        raise ValueError("as asked")
    if asked["do"] == "die" and len(job.lost) < asked["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL)
    while asked["do"] == "wait" and not (store.root / "go").exists():
        report("waiting")
        time.sleep(0.02)
    return Outcome(COMPLETE, "as asked")


def ran(store):
    """The ids of the jobs in the order in which they were begun."""
    path = store / "ran.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def bare():
    """A worker without accelerate, which starts at once and does not end with the sweep."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: setattr(Reporter, "stopping", True))
    process = SimpleNamespace(num_processes=1, is_main_process=True, process_index=0)
    notes = Notes(given.jobs / f"worker-{os.getpid()}")
    serve(Post(Queue(given.jobs), Store(given.store), process, notes, handler=handle))


if __name__ == "__main__":
    bare() if os.environ.get("BARE") else main(handle)
