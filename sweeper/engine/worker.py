"""Takes trainings from a folder of jobs until it is closed. One process per device, started by accelerate.

It stays alive between trainings, so the next one costs neither imports nor loading the untuned weights. Of several
processes (one trial on several devices) the first takes the jobs, samples and scores; all of them train.
"""

import argparse
import contextlib
import ctypes
import gc
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from sweeper.engine import jobs
from sweeper.engine.jobs import COMPLETE, FAIL, PRUNED, Job, Outcome, Reporter
from sweeper.engine.local import PR_SET_PDEATHSIG
from sweeper.engine.rungs import overfit
from sweeper.store import NO_SPACE, Store, claim, is_full

POLL = 0.1  # seconds
PATIENCE = timedelta(hours=12)  # of the other processes, while the first samples and scores


def run_job(job: Job, store: Store, process) -> None:
    """One training; whatever it dies of, the others go on."""
    from sweeper.engine.training import Execution, Stopped

    report = Reporter(job)
    start = time.monotonic()
    log = logging.FileHandler(job.log)
    logging.getLogger().addHandler(log)
    try:
        execution = Execution(job.training, store, report, process, stopper(job, store, report), lambda: job.discarded)
        execution.export(job.export) if job.export else execution.run()
        outcome = Outcome(COMPLETE, rates=execution.rates())
    except Stopped as stopped:
        outcome = Outcome(PRUNED, str(stopped), rates=execution.rates())
    except Exception as error:
        logging.getLogger().error(traceback.format_exc())
        outcome = Outcome(FAIL, NO_SPACE if is_full(error) else f"{type(error).__name__}: {error}".splitlines()[0])
        if process.num_processes > 1:  # the others wait for this one in vain: end them all
            job.fail_together(process.process_index, outcome.reason)
            os._exit(1)
    finally:
        logging.getLogger().removeHandler(log)
    report.seconds["total"] = time.monotonic() - start
    if process.is_main_process:
        job.finish(replace(outcome, seconds=report.seconds))


def stopper(job: Job, store: Store, report: Reporter) -> Callable[[int], str]:
    """Why to stop the job after the checkpoint at a step, or nothing; of a guided job the sweep decides."""

    def stop(step: int) -> str:
        reason = overfit(job.training, store) if job.early_stop else ""
        while job.guided and not reason and job.verdict[0] < step:
            report("waiting for the verdict", step)
            time.sleep(POLL)
        return reason or job.verdict[1]

    return stop


def serve(folder: Path, store: Store, devices: list[Path], process) -> None:
    """Runs jobs until there are no more, each while it holds the devices."""
    from accelerate.utils import broadcast_object_list

    while not Reporter.stopping:
        with contextlib.ExitStack() as held:
            message: list = [None, False]
            if process.is_main_process:
                for device in sorted(devices):
                    held.enter_context(claim(device))
                job = held.enter_context(jobs.next_job(folder, store))
                message = [job and job.path, jobs.is_closed(folder)]
            if process.num_processes > 1:
                broadcast_object_list(message)
            path, closed = message
            if path:
                run_job(Job(path), store, process)
        if not path:
            if closed:
                return
            time.sleep(POLL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--device", type=Path, action="append", default=[], help="lock of a device to hold")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: setattr(Reporter, "stopping", True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the sweep, which asks us to stop
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    gc.disable()  # four thousand modules are kept for good: looking for garbage among them takes a fifth of the time
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    import sweeper.engine.training  # noqa: F401  - seconds of imports, before the first training rather than in it

    gc.freeze()
    gc.enable()
    process = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=PATIENCE)
    serve(given.jobs, Store(given.store), given.device, process)


if __name__ == "__main__":
    main()
