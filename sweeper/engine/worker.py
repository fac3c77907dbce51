"""Takes jobs from a folder until it is closed. One process for each device, started by accelerate.

It stays alive between jobs, so the next one costs neither imports nor loading the untuned weights. Of several processes
(one trial on several devices) the first takes the jobs, samples and scores; all of them train.
"""

import argparse
import gc
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.engine.base import POLL
from sweeper.engine.jobs import FAIL, Job, Outcome, Reporter
from sweeper.engine.processes import die_with
from sweeper.engine.queue import Queue
from sweeper.store import NO_SPACE, Store, claim
from trainers.files import is_full

if TYPE_CHECKING:
    from accelerate import PartialState

# Carries out a job; its outcome, or the exception that the job failed with.
Handler = Callable[[Job, Store, Reporter, "PartialState"], Outcome]


def carry_out(job: Job, store: Store, report: Reporter, process: "PartialState") -> Outcome:
    """The handler of all kinds of jobs. Importing it takes seconds."""
    from sweeper.engine import handlers

    return handlers.carry_out(job, store, report, process)


def run_job(
    job: Job,
    store: Store,
    process: "PartialState",
    handler: Handler = carry_out,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """One job; whatever it fails of, the others go on. `meanwhile` is called a few times a second."""
    report = Reporter(job, meanwhile)
    start = time.monotonic()
    log = logging.FileHandler(job.log)
    logging.getLogger().addHandler(log)
    try:
        outcome = handler(job, store, report, process)
    except Exception as error:
        logging.getLogger().error(traceback.format_exc())
        outcome = Outcome(FAIL, NO_SPACE if is_full(error) else f"{type(error).__name__}: {error}".splitlines()[0])
        if process.num_processes > 1:  # the others wait for this one in vain: end them all
            job.fail_together(process.process_index, outcome.reason)
            os._exit(1)
    finally:
        logging.getLogger().removeHandler(log)
        log.close()
    report.seconds["total"] = time.monotonic() - start
    if process.is_main_process:
        job.finish(replace(outcome, seconds=report.seconds))


def serve(
    queue: Queue,
    store: Store,
    devices: list[Path],
    process: "PartialState",
    handler: Handler = carry_out,
    leave_with_sweep: bool = False,
) -> None:
    """Runs jobs until there are no more, each while it holds the locks of the devices."""
    while not Reporter.stopping:
        with ExitStack() as held:
            job = None
            done = False
            if process.is_main_process:
                done = leave_with_sweep and queue.deserted
                for device in sorted(devices):
                    held.enter_context(claim(device))
                job = None if done else held.enter_context(queue.take(store, process.num_processes))
                done = done or (job is None and queue.closed)
            path, done = _agreed(job.path if job else None, done, process)
            if path:
                run_job(job or Job(path), store, process, handler)
        if done:
            return
        if not path:
            time.sleep(POLL)


def _agreed(path: Path | None, done: bool, process: "PartialState") -> tuple[Path | None, bool]:
    """What the first of the processes found, for all of them."""
    if process.num_processes == 1:
        return path, done
    from trainers.processes import agreed

    return agreed((path, done))


def arguments(description: str | None = __doc__) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--jobs", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--device", type=Path, action="append", default=[], help="lock of a device to hold")
    parser.add_argument("--leave-with-sweep", action="store_true", help="end once the sweep's own process is gone")
    return parser.parse_args()


def listen() -> None:
    """SIGTERM ends the job between two steps. So does the end of the parent; but of several processes it ends each at
    once: their launcher gives them sessions of their own, where nobody else would find one that waits for another."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the sweep, which asks us to stop
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    die_with(os.getppid(), signal.SIGKILL if several else signal.SIGTERM)


def _stop(*_: object) -> None:
    Reporter.stopping = True


def main(handler: Handler = carry_out) -> None:
    given = arguments()
    listen()
    gc.disable()  # four thousand modules are kept for good: looking for garbage among them takes a fifth of the time
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    from trainers.processes import PATIENCE

    if handler is carry_out:
        import sweeper.engine.handlers  # noqa: F401  - seconds of imports, before the first job rather than in it
    gc.freeze()
    gc.enable()
    process = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=PATIENCE)
    serve(Queue(given.jobs), Store(given.store), given.device, process, handler, given.leave_with_sweep)


if __name__ == "__main__":
    main()
