"""A training that runs out of memory in a step goes on with half the batch."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu.jobs import cell_of, done
from benchmarks.gpu.lines import Line, judged
from benchmarks.gpu.setup import Setup, alone
from sweeper.engine.jobs import COMPLETE
from trainers import loop


def lines(setup: Setup) -> Iterator[Line]:
    state, note = alone(run, setup)
    yield judged("out of memory in a step, injected", note or state, "half the batch", state == COMPLETE and bool(note))


def run(setup: Setup) -> tuple[str, str]:
    """The state of a training whose second step runs out of memory, and its note."""
    whole = loop._loss

    def failing(context: Any, batch: Any, position: int) -> torch.Tensor:
        if position == 1 and context.spec.batch_size == 2:
            raise torch.OutOfMemoryError("injected")
        return whole(context, batch, position)

    with patch.object(loop, "_loss", failing):
        return done(cell_of(setup.spec(2, mixed_precision=setup.half)), setup.folder / "memory error", setup.gpu)
