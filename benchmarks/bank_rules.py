"""Vetoes and rules on the bank: which cell is chosen from what was measured on some of the images."""

from collections.abc import Callable

import numpy as np

from benchmarks.bank_cells import Bools, Cells, Drawn, Floats
from benchmarks.bank_scores import Measures, apart
from benchmarks.selection import earliest_of_equals
from evaluation.fidelity import Scale, normalised
from evaluation.surface import Candidates, select
from evaluation.vetoes import Arrays, faults, vetoes_in_force


def allowed(cells: Cells, drawn: Drawn, score: Floats) -> Bools:
    """Cells that are not vetoed, as the sweet spot has it; all of them where none is left."""
    photographs = {
        "copying": apart(cells["photographs_clip"]).max(1),
        "noise": cells["photographs_noise"],
        "dino": apart(cells["photographs_dino"]).mean(1),
    }
    untuned, values = (veto_values(cells, prefix, drawn) for prefix in ("untuned_", ""))
    base: Arrays = {"untuned": untuned, "photographs": photographs}
    found = faults({name: v[:, None] for name, v in values.items()}, [base] * len(score))
    free = np.array([not vetoes for vetoes in vetoes_in_force(found, score)])
    return free if free.any() else np.ones(len(score), bool)


def veto_values(cells: Cells, prefix: str, drawn: Drawn) -> dict[str, Floats]:
    """By metric [..., unit, image]."""
    rows = drawn.prompts[:, None, None], drawn.images[:, :, None], drawn.images[:, None, :]
    alike = cells[f"{prefix}alike"][(..., *rows)]
    others = alike.shape[-1] - 1
    values = {
        "copying": drawn.of(cells[f"{prefix}clip"].max(-1)),
        "noise": drawn.of(cells[f"{prefix}noise"]),
        "pres": cells[f"{prefix}class_dino"].mean(-1)[..., None],
    }
    if others:
        values["div"] = 1 - (alike.sum(-1) - np.einsum("...kk->...k", alike)) / others
    return values


def argmax(cells: Cells, measures: Measures, free: Bools) -> int:
    return highest(measures.score, free)


def one_standard_error(cells: Cells, measures: Measures, free: Bools) -> int:
    """The earliest within one paired standard error of the best score: what `sweetspot.find` took before."""
    order = np.lexsort((cells["lr"], cells["steps"]))
    order = order[free[order]]
    dino, clip_t = (values.mean(2)[order, None] for values in (measures.subject, measures.prompt))
    zero = measures.subject_zero.mean(1)
    one = measures.prompt_one.mean(1)
    points = normalised(dino, clip_t, Scale(zero, one, measures.prompt_zero, measures.subject_one))
    return int(order[earliest_of_equals(points)])


def process(cells: Cells, measures: Measures, free: Bools) -> int:
    """The highest expected score of a Gaussian process: the rule of `sweetspot.find`."""
    lr = cells["lr"]
    nothing = np.zeros((len(free), 0), np.int64)
    chosen = select(Candidates(lr, cells["steps"], nothing, lr, measures.s, measures.t, ~free)).choice
    if chosen is None:
        raise ValueError(f"nothing measured in {cells.name}")
    return chosen


def without_vetoes(cells: Cells, measures: Measures, free: Bools) -> int:
    return highest(measures.score, np.ones(len(free), bool))


def highest(score: Floats, free: Bools) -> int:
    return int(np.where(free, score, -np.inf).argmax())


RULES: dict[str, Callable[[Cells, Measures, Bools], int]] = {
    "argmax": argmax,
    "one standard error": one_standard_error,
    "process": process,
    "argmax without vetoes": without_vetoes,
}
