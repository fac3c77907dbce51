"""The bank cell by cell: what the judge sees, what is measured, its noise, and how far s and t are from the judge."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.bank_cells import Cells, Drawn, Floats, draws, everything, true_prompt, true_subject, truth
from benchmarks.bank_scores import held_out, today
from benchmarks.tables import table

EARLY = 100  # steps, up to which learning rates are compared: later cells are not of all of them
RESAMPLED = 400  # draws of the images of every prompt, with replacement


def noises(cells: Cells, count: int, repeats: int) -> Floats:
    """Standard deviation [C] of the measured score, less what all cells share, on prompts that stay as they are.

    Draws without replacement spread too little by the root of the share that is left out.
    """
    scores = np.array([today(cells).take(drawn).score for drawn in draws(cells, count, repeats)])
    spread: Floats = (scores - scores.mean(1, keepdims=True)).std(0, ddof=1)
    return spread / np.sqrt(1 - count / np.prod(cells.shape))


def each_cell(bank: Sequence[Cells], repeats: int) -> Iterator[str]:
    """What the judge sees and what is measured, with the score's noise at all images."""
    titles = [
        "sweep",
        "lr",
        "steps",
        "judge: subject",
        "judge: prompt",
        "truth",
        "s",
        "s held out",
        "t",
        "score",
        "noise",
    ]
    rows: list[list[object]] = []
    for cells in bank:
        whole = everything(cells)
        own = today(cells)
        total = np.prod(cells.shape)
        values = (
            true_subject(cells, whole), true_prompt(cells, whole), truth(cells, whole), own.s.mean((1, 2)),
            held_out(cells).s.mean((1, 2)), own.t.mean((1, 2)), own.score,
            noises(cells, 8, 4 * repeats) * np.sqrt(8 / total),
        )  # fmt: skip
        grid = zip(cells["lr"], cells["steps"], np.array(values).T, strict=True)
        rows += [[cells.name, f"{lr:g}", f"{step:g}", *(f"{value:.3f}" for value in row)] for lr, step, row in grid]
    yield f"Every cell\n\n{table(titles, rows)}"


def gaps(bank: Sequence[Cells], repeats: int) -> Iterator[str]:
    """s and t less what the judge sees, by learning rate, with standard errors over images; `repeats` is not used."""
    rows: list[list[object]] = []
    for cells in bank:
        at_first = cells["steps"] <= EARLY
        rates = np.unique(cells["lr"])
        masks = [at_first & (cells["lr"] == rate) for rate in rates]
        drawn = np.array([gap(cells, each, masks) for each in resampled(cells)])  # [draws, what, lr]
        level = gap(cells, everything(cells), masks)
        spread = drawn.std(0, ddof=1)
        for what, name in enumerate(("s", "s held out", "t")):
            last = drawn[:, what, -1] - drawn[:, what, 0]
            row = [f"{a:.3f} ({b:.3f})" for a, b in zip(level[what], spread[what], strict=True)]
            difference = f"{level[what, -1] - level[what, 0]:.3f} ({last.std(ddof=1):.3f})"
            rows.append([cells.name, name, ", ".join(f"{rate:g}" for rate in rates), ", ".join(row), difference])
    titles = ["sweep", "measure", "lr", "measured less judge's", "highest lr less lowest"]
    yield f"Measured less judge's, up to step {EARLY} (standard errors over images)\n\n{table(titles, rows)}"


def gap(cells: Cells, drawn: Drawn, masks: Sequence[np.ndarray]) -> Floats:
    """[what, lr]"""
    own = today(cells).take(drawn)
    subject = true_subject(cells, drawn)
    differences = (
        own.s.mean((1, 2)) - subject,
        held_out(cells).take(drawn).s.mean((1, 2)) - subject,
        own.t.mean((1, 2)) - true_prompt(cells, drawn),
    )
    return np.array([[values[mask].mean() for mask in masks] for values in differences])


def resampled(cells: Cells) -> Iterator[Drawn]:
    rng = np.random.default_rng(0)
    prompts, images = cells.shape
    for _ in range(RESAMPLED):
        yield Drawn(np.arange(prompts), rng.integers(images, size=(prompts, images)))
