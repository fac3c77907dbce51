"""What each kind of job does, in a worker. One more kind is one more entry of `HANDLERS`."""

import time
from collections.abc import Callable

from accelerate import PartialState

from evaluation.memory import beside
from sweeper.engine.base import POLL
from sweeper.engine.halving import remembered
from sweeper.engine.jobs import COMPLETE, PRUNED, Job, Kind, Outcome, Reporter, Task
from sweeper.engine.queue import Queue
from sweeper.engine.rungs import overfit
from sweeper.engine.training import Execution, Stopped
from sweeper.store import Store
from trainers.memory import estimate, same_memory


def _class_images(execution: Execution, task: Task) -> None:
    execution.load()
    execution.class_images()


def _inversion(execution: Execution, task: Task) -> None:
    execution.inversion()


def _baseline(execution: Execution, task: Task) -> None:
    execution.load()
    execution.scorer.make_baselines(task.points)


def _train(execution: Execution, task: Task) -> None:
    execution.run()


def _score(execution: Execution, task: Task) -> None:
    execution.score()


def _sample(execution: Execution, task: Task) -> None:
    execution.sample(task.points)


def _export(execution: Execution, task: Task) -> None:
    if task.export is None:
        raise ValueError("an export needs to know what to write, and where")
    execution.export(task.export)


HANDLERS: dict[Kind, Callable[[Execution, Task], None]] = {
    Kind.CLASS_IMAGES: _class_images,
    Kind.INVERSION: _inversion,
    Kind.BASELINE: _baseline,
    Kind.TRAIN: _train,
    Kind.SAMPLE: _sample,
    Kind.SCORE: _score,
    Kind.EXPORT: _export,
}


def carry_out(job: Job, store: Store, report: Reporter, process: PartialState) -> Outcome:
    execution = Execution(
        job.training,
        store,
        report,
        process,
        stopper(job, store, report),
        discarded=lambda: job.discarded,
        rivals=lambda: [other.training for other in Queue(job.path.parent).jobs() if other.id != job.id],
    )
    try:
        HANDLERS[job.task.kind](execution, job.task)
    except Stopped as stopped:
        return Outcome(PRUNED, str(stopped), rates=execution.rates())
    return Outcome(COMPLETE, rates=execution.rates())


def stopper(job: Job, store: Store, report: Reporter) -> Callable[[int], str]:
    """Why to stop the job after the checkpoint at a step, or nothing; of a guided job the sweep decides.

    Where the sweep's own process is gone nobody will: then the wait ends in SystemExit.
    """
    queue = Queue(job.path.parent)

    def stop(step: int) -> str:
        reason = overfit(job.training, store) if job.task.early_stop else ""
        while job.task.guided and not reason and job.verdict.step < step:
            report("waiting for the verdict", step)
            if queue.deserted:
                raise SystemExit(143)
            time.sleep(POLL)
        return reason or job.verdict.reason

    return stop


def memory_needed(job: Job, store: Store, processes: int) -> int:
    """Bytes that a training needs on a GPU; 0 of other jobs."""
    if job.task.kind != Kind.TRAIN or not store.unscored(job.training):
        return 0
    samples = [point.sample for point in job.training.points]
    needed = beside(samples, [point.evaluation for point in job.training.points])
    return estimate(same_memory(remembered(job.training.spec, store)), "cuda", processes, needed).total
