"""How busy the local engine's way of handing out jobs keeps its devices: 8 simulated ones, trials of mixed length.

    python -m benchmarks.leasing

Each device is a process that takes real job files with the real claims, and sleeps where a training would run. The
ideal is a schedule in which no device is ever idle: the sum of the lengths over the number of devices, or the longest.
"""

import argparse
import multiprocessing
import random
import tempfile
import time
from pathlib import Path

from evaluation.spec import EvalSpec
from sweeper.engine.base import POLL
from sweeper.engine.jobs import COMPLETE, Kind, Outcome, Task
from sweeper.engine.queue import Queue
from sweeper.plan.types import Cell, Training
from sweeper.store import Store
from trainers.spec import ModelSpec, SampleSpec, SubjectSpec, TrainSpec


def training(seed: int, steps: int) -> Training:
    spec = TrainSpec(ModelSpec("none"), SubjectSpec("none", "dog"), seed=seed)
    return Training(spec, (Cell(spec, steps, SampleSpec(), EvalSpec(("a {}",))),))


def device(folder: Path, store: Store, seconds_per_step: float) -> None:
    """One device until there is nothing left to do."""
    queue = Queue(folder)
    while True:
        with queue.take(store) as job:
            if job:
                time.sleep(job.training.last_step * seconds_per_step)
                job.finish(Outcome(COMPLETE))
        if job is None:
            if queue.closed:
                return
            time.sleep(POLL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--mean", type=float, default=4.0, help="seconds of a trial")
    given = parser.parse_args()
    draw = random.Random(0)
    lengths = sorted((draw.choice([400, 800, 1200]) * draw.choice([1, 2]) for _ in range(given.trials)), reverse=True)
    seconds_per_step = given.mean * len(lengths) / sum(lengths)
    ideal = max(sum(lengths) / given.devices, lengths[0]) * seconds_per_step
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "jobs"
        store = Store(Path(root) / "store")
        folder.mkdir()
        queue = Queue(folder)
        for seed, length in enumerate(lengths):  # the longest first, as a sweep adds them
            queue.add(Task(Kind.TRAIN, training(seed, length)))
        queue.close()
        devices = [
            multiprocessing.Process(target=device, args=(folder, store, seconds_per_step)) for _ in range(given.devices)
        ]
        start = time.monotonic()
        for process in devices:
            process.start()
        for process in devices:
            process.join()
        makespan = time.monotonic() - start
    print(f"{given.trials} trials of {min(lengths)}-{max(lengths)} steps on {given.devices} devices")
    print(f"ideal {ideal:.2f} s, measured {makespan:.2f} s: busy {ideal / makespan:.1%} of the time")


if __name__ == "__main__":
    main()
