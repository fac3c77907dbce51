"""Takes jobs from a folder until it is closed. One process for each device, started by accelerate.

It stays alive between jobs, so the next one costs neither imports nor loading the untuned weights. Of several processes
(one trial on several devices) the first takes the jobs and scores; all of them train and sample.
"""

import argparse
import functools
import gc
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.engine.base import POLL
from sweeper.engine.devices import claim_share
from sweeper.engine.faults import CROWDED, LOST, Fault, Notes
from sweeper.engine.jobs import FAIL, HandedBack, Job, Outcome, Reporter
from sweeper.engine.processes import LINUX, die_with, said_while_writing
from sweeper.engine.queue import Queue
from sweeper.store import NO_SPACE, Store, is_claimed
from trainers import files
from trainers.errors import DoesNotFit
from trainers.files import is_full

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

    from sweeper.engine import cards

# Carries out a job; its outcome, or the exception that the job failed with.
Handler = Callable[[Job, Store, Reporter, "PartialState"], Outcome]


def carry_out(job: Job, store: Store, report: Reporter, process: "PartialState") -> Outcome:
    """The handler of all kinds of jobs. Importing it takes seconds."""
    from sweeper.engine import handlers

    return handlers.carry_out(job, store, report, process)


def memory_needed(job: Job, store: Store, processes: int) -> int:
    """Bytes that a job needs on its device; 0 where that is not known."""
    from sweeper.engine import handlers

    return handlers.memory_needed(job, store, processes)


@dataclass(frozen=True)
class Post:
    """Where a worker works, and as what."""

    queue: Queue
    store: Store
    process: "PartialState"
    notes: Notes
    devices: Sequence[Path] = ()  # the locks to hold
    share: int = 1  # workers on one device
    largest: int = 0  # bytes of the sweep's largest device
    leave_with_sweep: bool = False
    handler: Handler = carry_out
    needs: Callable[[Job, Store, int], int] = memory_needed


def run_job(
    job: Job,
    store: Store,
    process: "PartialState",
    handler: Handler = carry_out,
    meanwhile: Callable[[], None] = lambda: None,
    post: Post | None = None,
) -> None:
    """One job; whatever it fails of, the others go on. `meanwhile` is called a few times a second. What another worker
    may do better, one with a post hands back, and ends."""
    report = Reporter(job, meanwhile)
    start = time.monotonic()
    log = logging.FileHandler(job.log)
    logging.getLogger().addHandler(log)
    try:
        outcome = handler(job, store, report, process)
    except SystemExit:  # asked to stop
        while not process.is_main_process and is_claimed(job.path):
            time.sleep(POLL)  # or torchrun would end the first, which may be writing a state, 30 seconds after this one
        raise
    except Exception as error:
        logging.getLogger().error(traceback.format_exc())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if post and _is_elsewhere_better(error, job, post):
            job.hand_back(process.process_index, reason)
            os._exit(1)  # of several processes the others wait for this one in vain: end them all
        outcome = Outcome(FAIL, NO_SPACE, again=True) if is_full(error) else Outcome(FAIL, reason)
        if process.num_processes > 1:
            job.fail_together(process.process_index, outcome.reason)
            os._exit(1)
    finally:
        logging.getLogger().removeHandler(log)
        log.close()
    report.seconds["total"] = time.monotonic() - start
    if process.is_main_process:
        job.finish(replace(outcome, seconds=report.seconds))


def _is_elsewhere_better(error: Exception, job: Job, post: Post) -> bool:
    """Whether the error is no failure of the job: another worker is to begin it anew. Notes what the device has to do
    with it."""
    from sweeper.engine import cards

    fault = cards.fault_of(error, cards.card)
    if fault:
        post.notes.at_fault(replace(fault, job=job.id))
        return True
    if isinstance(error, DoesNotFit) and cards.card.part < post.largest:
        job.refuse(cards.card.part, str(error))
        return True
    return isinstance(error, HandedBack)


def serve(post: Post) -> None:
    """Runs jobs until there are no more, each while it holds the locks of the devices."""
    queue = post.queue
    process = post.process
    while not Reporter.stopping:
        with ExitStack() as held:
            job = None
            done = False
            if process.is_main_process:
                done = post.leave_with_sweep and queue.deserted
                mine = all(held.enter_context(claim_share(device, post.share)) for device in sorted(post.devices))
                if mine and not done:
                    job = held.enter_context(_next(post))
                done = done or (mine and job is None and queue.closed)
            path, done = _agreed(job.path if job else None, done, process)
            if path:
                run_job(job or Job(path), post.store, process, post.handler, post=post)
        if done:
            return
        if not path:
            time.sleep(POLL)
        elif post.devices:  # another sweep may wait for them: it gets its turn
            time.sleep(2 * POLL)


@contextmanager
def _next(post: Post) -> Iterator[Job | None]:
    """The next job that the device is large enough for, and has room for now; says what is waited for."""
    waits: list[str] = []

    def suits(job: Job) -> bool:
        reason = _unsuited(job, post)
        waits.extend([reason] if reason else [])
        return not reason

    with post.queue.take(post.store, post.process.num_processes, suits) as job:
        post.notes.waits_for(waits[0] if waits and not job else "")
        yield job


def _unsuited(job: Job, post: Post) -> str:
    """Why the worker cannot begin a job now; "" where it can. Free memory decides about the moment, never about what
    the training does."""
    if not post.devices:
        return ""
    from sweeper.engine.cards import GB, card

    refused, _ = job.too_large
    if refused and refused >= card.part:
        return f"{card.name} is too small"
    taken = card.strangers
    if not taken:
        return ""
    needed = post.needs(job, post.store, post.process.num_processes)
    if needed <= card.part - taken:
        return ""
    return (
        f"waits until {card.name} has room: the next job needs {needed / GB:.1f} GB, "
        f"and other programs hold {taken / GB:.1f} of its {card.total / GB:.1f}"
    )


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
    parser.add_argument("--share", type=int, default=1, help="workers on one device")
    parser.add_argument("--largest", type=int, default=0, help="bytes of the sweep's largest device")
    parser.add_argument("--notes", type=Path, help="beside this file it says what becomes of it")
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


def _leave_with(queue: Queue) -> None:
    """Ends the job between two steps once the sweep is gone."""
    while not queue.deserted:
        time.sleep(10 * POLL)
    _stop()


def main(
    handler: Handler = carry_out,
    needs: Callable[[Job, Store, int], int] = memory_needed,
    find: "Callable[[str, torch.device, int], cards.Card] | None" = None,
) -> None:
    """find: the card that was leased under a name, for tests that have none."""
    given = arguments()
    listen()
    files.while_writing = functools.partial(said_while_writing, given.jobs)
    gc.disable()  # four thousand modules are kept for good: looking for garbage among them takes a fifth of the time
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    from sweeper.engine import cards
    from trainers.processes import PATIENCE

    if handler is carry_out:
        import sweeper.engine.handlers  # noqa: F401  - seconds of imports, before the first job rather than in it
    gc.freeze()
    gc.enable()
    process = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=PATIENCE)
    notes = Notes(given.notes or given.jobs / f"worker-{os.getpid()}")
    name = given.device[process.local_process_index].name if given.device else ""
    with _checked(name, notes):
        cards.card = (find or cards.find_card)(name, process.device, given.share)
        cards.card.check()
    queue = Queue(given.jobs)
    store = Store(given.store)
    if given.leave_with_sweep and not LINUX:
        threading.Thread(target=_leave_with, args=(queue,), daemon=True).start()
    serve(
        Post(
            queue, store, process, notes, given.device, given.share, given.largest, given.leave_with_sweep, handler,
            needs,
        )
    )  # fmt: skip


@contextmanager
def _checked(name: str, notes: Notes) -> Iterator[None]:
    """Notes the fault of a device that cannot be used, and ends."""
    from trainers.device import is_out_of_memory

    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        notes.at_fault(Fault(name, CROWDED if is_out_of_memory(error) else LOST, f"it cannot be used ({reason})"))
        raise


if __name__ == "__main__":
    main()
