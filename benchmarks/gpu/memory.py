"""What evaluation needs against its estimate, and trainings on a card that is made smaller than it is."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.jobs import EVALUATION, cell_of, done, fitted
from benchmarks.gpu.lines import Line, attempted, judged, skipped
from benchmarks.gpu.setup import GB, Setup, alone, one_process
from benchmarks.gpu.speed import memory_line
from benchmarks.training import photographs
from evaluation.evaluate import prepare
from evaluation.memory import beside
from sweeper.engine.jobs import COMPLETE
from sweeper.plan.types import Cell
from trainers.families import family_of
from trainers.memory import LIBRARIES, estimate
from trainers.precision import DTYPES
from trainers.spec import SampleSpec, TrainSpec

CAPS = (8, 12, 16, 24)  # GB


def lines(setup: Setup) -> Iterator[Line]:
    yield from evaluation_lines(setup)
    cases = {
        "U-Net": setup.spec(mixed_precision=setup.lower),
        "with text encoder": setup.spec(mixed_precision=setup.lower, train_text_encoder=True),
    }
    for cap in CAPS:
        for name, spec in cases.items():
            what = f"{cap} GB: {name}, {setup.lower}"
            if setup.gpu and cap * GB > setup.memory:
                yield skipped(what, "the card is smaller")
            elif not setup.gpu and (cap, name) != (CAPS[0], "U-Net"):
                yield skipped(what, "needs a GPU")
            else:
                yield from attempted(what, partial(capped, what, setup, spec, cap * GB))


def evaluation_lines(setup: Setup) -> Iterator[Line]:
    images = photographs(setup.folder / "one", count=1, size=setup.resolution)
    with one_process() as run:
        for precision in filter(setup.samples_in, DTYPES):
            name = f"evaluation, sampling in {'fp32' if precision == 'no' else precision}"
            way = SampleSpec("ddim", 2, precision=precision)
            peak = run(evaluated, setup.spec(), way, images, setup.device)
            if setup.gpu:
                memory = estimate(setup.spec(), "cuda", 1, beside([way], [EVALUATION]))
                yield memory_line(name, memory.evaluation + memory.encoders, peak)
            else:
                yield skipped(f"memory: {name}", "needs a GPU")


def evaluated(spec: TrainSpec, way: SampleSpec, images: str, device: str) -> int:
    """Bytes of tensors on the card, at most, while the untuned model is evaluated one image at a time."""
    with tempfile.TemporaryDirectory() as folder:
        subject = replace(spec.subject, images=images)
        untuned = family_of(spec.model).load(spec.model)
        prepare(untuned, subject, way, EVALUATION, Path(folder), device=device, batch_size=1)
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def capped(what: str, setup: Setup, spec: TrainSpec, cap: int) -> Iterator[Line]:
    """What `fit=auto` decides for a card of `cap` bytes trains and is evaluated there, with no batch halved."""
    cell = fitted(cell_of(spec, setup.lower), cap, setup)
    if isinstance(cell, str):
        yield Line(what, f"refused: {cell}")
        return
    wanted = " ".join(["trains and is evaluated", *(f"{name}={value}" for name, value in cell.params)])
    state, note, peak = alone(under, setup, cell, cap)
    samples = beside([cell.sample], [cell.evaluation])
    figure = f"{peak / GB:.1f} GB, {estimate(cell.train, 'cuda', 1, samples).total / GB:.1f} estimated"
    yield judged(what, note or (figure if state == COMPLETE else state), wanted, state == COMPLETE and not note)


def under(setup: Setup, cell: Cell, cap: int) -> tuple[str, str, int]:
    """State, note and bytes at the peak of a job with `cap` bytes of the card, of which the libraries have theirs."""
    if setup.gpu:
        torch.cuda.set_per_process_memory_fraction((cap - LIBRARIES["cuda"]) / setup.memory)
    with tempfile.TemporaryDirectory(dir=setup.folder) as folder:
        state, note = done(cell, Path(folder), setup.gpu)
    return state, note, torch.cuda.max_memory_reserved() + LIBRARIES["cuda"] if setup.gpu else 0
