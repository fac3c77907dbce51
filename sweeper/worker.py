"""Takes trainings from a folder of jobs until it is closed. One process per device, started by accelerate.

It stays alive between trainings, so the next one costs neither imports nor loading the untuned weights.
"""

import argparse
import logging
import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

from sweeper.jobs import CLOSED, Job, Outcome, Reporter, next_job
from sweeper.results import COMPLETE, FAIL
from sweeper.store import Store

POLL = 0.1  # seconds


def run_job(job: Job, store: Store, device: str) -> None:
    from sweeper.execute import Execution

    report = Reporter(job)
    start = time.monotonic()
    log = logging.FileHandler(job.log)
    logging.getLogger().addHandler(log)
    try:
        execution = Execution(job.training, store, report, device)
        execution.export(*job.export) if job.export else execution.run()
        outcome = Outcome(COMPLETE, rates=execution.rates())
    except Exception as error:  # whatever a trial dies of, the others go on
        logging.getLogger().error(traceback.format_exc())
        outcome = Outcome(FAIL, f"{type(error).__name__}: {error}".splitlines()[0])
    finally:
        logging.getLogger().removeHandler(log)
    report.seconds["total"] = time.monotonic() - start
    job.finish(replace(outcome, seconds=report.seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parent = os.getppid()

    import torch

    import sweeper.execute  # noqa: F401  - seconds of imports, before the first training rather than in it

    device = "cuda" if torch.cuda.is_available() else "cpu"
    while os.getppid() == parent:  # an orphan stops
        with next_job(given.jobs) as job:
            if job:
                run_job(job, Store(given.store), device)
        if job is None:
            if (given.jobs / CLOSED).exists():
                break
            time.sleep(POLL)


if __name__ == "__main__":
    main()
