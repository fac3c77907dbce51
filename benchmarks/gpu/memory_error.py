"""A training that runs out of memory in a step goes on with half the batch."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from accelerate import PartialState

from benchmarks.gpu.lines import Line, judged
from benchmarks.gpu.setup import Setup, alone
from evaluation.spec import EvalSpec
from sweeper.engine.jobs import COMPLETE, Kind, Task
from sweeper.engine.queue import Queue
from sweeper.engine.worker import run_job
from sweeper.plan.types import Cell, Training
from sweeper.store import Store
from trainers import loop
from trainers.files import read_json
from trainers.spec import SampleSpec


def lines(setup: Setup) -> Iterator[Line]:
    state, note = alone(run, setup)
    yield judged("out of memory in a step, injected", note or state, "half the batch", state == COMPLETE and bool(note))


def run(setup: Setup) -> tuple[str, str]:
    """The state of a training whose second step runs out of memory, and its note."""
    spec = setup.spec(2, mixed_precision=setup.half)
    encoders = {"clip": "benchmark", "clip_repo": "miniature/weights/clip"}
    encoders |= {"dino": "benchmark", "dino_repo": "miniature/weights/identity"}
    evaluation = EvalSpec(prompts=("a photo of {}",), images_per_prompt=1, class_images=2, **encoders)
    training = Training(spec, (Cell(spec, 4, SampleSpec("ddim", 2), evaluation),))
    store = Store(setup.folder / "store")
    queue = Queue(setup.folder / "jobs")
    queue.folder.mkdir(parents=True)
    job = queue.add(Task(Kind.TRAIN, training))
    whole = loop._loss

    def failing(context: Any, batch: Any, position: int) -> torch.Tensor:
        if position == 1 and context.spec.batch_size == 2:
            raise torch.OutOfMemoryError("injected")
        return whole(context, batch, position)

    with patch.object(loop, "_loss", failing):
        run_job(job, store, PartialState(cpu=not setup.gpu))
    outcome = job.outcome
    note = store.note(spec)
    return (f"{outcome.state} {outcome.reason}".strip() if outcome else ""), read_json(note) if note.exists() else ""
