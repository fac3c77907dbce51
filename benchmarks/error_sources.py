"""Where the error of the choice comes from: noise of the images or bias of the score. Reads the bank.

    python -m benchmarks.error_sources                   # all tables of docs/selection-error.md

The truth of a cell is the judge's, on all of its images. A choice is made from 2 to 64 images of each cell, drawn many
times, the same prompts and noises for all cells, as the evaluation has it. Regret is the truth of the best cell less
that of the chosen one. What goes away with more images is noise; what stays at 64 is bias, and what 64 leave. The judge
himself, choosing from the same few images, has noise and no bias. Intervals are 95 %, over sweeps (Student's t).
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bank import DATA, STEPS
from benchmarks.bank_cells import (
    Bools,
    Cells,
    Floats,
    draws,
    everything,
    read_bank,
    true_prompt,
    true_subject,
    truth,
    truth_by_image,
)
from benchmarks.bank_each_cell import each_cell, gaps, noises
from benchmarks.bank_rules import RULES, allowed, highest
from benchmarks.bank_scores import SCORES, apart, held_out, rising, today
from benchmarks.tables import Mean, table
from evaluation.fidelity import harmonic

COUNTS = (2, 4, 8, 16, 32, 64)  # images of each cell
MENDED_AT = (8, 16, 64)
REPEATS = 50
FALL = 0.02  # of the judge's subject from one checkpoint to the next, that counts as a fall
JUDGE = "judge, same images"


@dataclass(frozen=True)
class Choice:
    """One rule's choice from one draw."""

    regret: float
    regret_by_image: float  # by the other truth
    elsewhere: float  # truth of the chosen cell on the images that had no part in it; NaN where there are none
    step: float  # log2 of the chosen step against the best's


def choices(cells: Cells, count: int, repeats: int, rules: Sequence[str]) -> dict[str, list[Choice]]:
    """By rule, and by the judge where he sees the same images only."""
    good = truth(cells, everything(cells))
    other = truth_by_image(cells, everything(cells))
    steps = np.log2(cells["steps"])
    found: dict[str, list[Choice]] = {name: [] for name in (*rules, JUDGE)}
    for drawn in draws(cells, count, repeats):
        measures = today(cells).take(drawn)
        free = allowed(cells, drawn, measures.score)
        chosen = {name: RULES[name](cells, measures, free) for name in rules}
        chosen[JUDGE] = int(truth(cells, drawn).argmax())
        rest = drawn.rest(cells.shape[1])
        elsewhere = truth(cells, rest) if rest.images.size else np.full(len(good), np.nan)
        for name, cell in chosen.items():
            lost = good.max() - good[cell]
            also = other.max() - other[cell]
            found[name].append(Choice(lost, also, elsewhere[cell], steps[cell] - steps[good.argmax()]))
    return found


def average(found: Sequence[Choice], name: str) -> float:
    return float(np.mean([getattr(choice, name) for choice in found]))


def by_images(bank: Sequence[Cells], repeats: int) -> Iterator[str]:
    """Regret by rule and number of images."""
    names = (*RULES, JUDGE)
    counts = [count for count in COUNTS if count <= np.prod(bank[0].shape)]
    found = {count: [choices(cells, count, repeats, list(RULES)) for cells in bank] for count in counts}
    for title, what in (
        ("Mean regret", "regret"),
        ("The same by the other truth", "regret_by_image"),
        ("Truth of the chosen cell on the images that had no part in the choice", "elsewhere"),
        ("Doublings of the number of steps by which the choice is later than the best", "step"),
    ):
        rows = [
            [count, *(Mean.of(average(of[name], what) for of in found[count]) for name in names)] for count in counts
        ]
        yield f"{title}\n\n{table(['images', *names], rows)}"
    last = found[counts[-1]]
    rows = [
        [cells.name, *(f"{average(of[name], 'regret'):.3f}" for of in (last[i], found[16][i]) for name in RULES)]
        for i, cells in enumerate(bank)
    ] if 16 in found else []  # fmt: skip
    titles = ["sweep", *(f"{name}, {count}" for count in (counts[-1], 16) for name in RULES)]
    yield f"Regret of each sweep\n\n{table(titles, rows)}"


def groups(bank: Sequence[Cells]) -> dict[str, Callable[[Cells], Bools]]:
    """Name -> which cells of a sweep."""
    found: dict[str, Callable[[Cells], Bools]] = {}
    for axis in ("steps", "lr"):
        for value in sorted({value for cells in bank for value in cells[axis].tolist()}):
            found[f"{axis} {value:g}"] = lambda cells, axis=axis, value=value: cells[axis] == value  # type: ignore[misc]
    for kind in ("subject", "recipe"):
        for name in sorted({getattr(cells, kind) for cells in bank}):
            found[f"{kind} {name}"] = lambda cells, kind=kind, name=name: np.full(  # type: ignore[misc]
                len(cells["lr"]), getattr(cells, kind) == name
            )
    return found


def residuals(bank: Sequence[Cells]) -> list[dict[str, Floats]]:
    """For each sweep what is left [C] of score, s and t when the rising curve from them to what the judge sees, fitted
    on the other sweeps, is taken off: above zero the score flatters."""
    pairs = {
        "score": (lambda cells: today(cells).score, truth),
        "s": (lambda cells: today(cells).s.mean((1, 2)), true_subject),
        "s held out": (lambda cells: held_out(cells).s.mean((1, 2)), true_subject),
        "t": (lambda cells: today(cells).t.mean((1, 2)), true_prompt),
    }
    left = []
    for cells in bank:
        others = [each for each in bank if each is not cells]
        left.append(
            {
                name: rising([seen(o) for o in others], [true(o, everything(o)) for o in others])(seen(cells))
                - true(cells, everything(cells))
                for name, (seen, true) in pairs.items()
            }
        )
    return left


def by_group(bank: Sequence[Cells], repeats: int) -> Iterator[str]:
    """Noise and bias by step, learning rate, subject and recipe."""
    left = residuals(bank)
    columns: dict[str, list[Floats]] = {
        "truth": [truth(cells, everything(cells)) for cells in bank],
        "score": [today(cells).score for cells in bank],
        **{f"noise, {count} images": [noises(cells, count, 4 * repeats) for cells in bank] for count in (8, 32)},
        **{f"bias of {name}": [of[name] for of in left] for name in left[0]},
    }
    rows = []
    for name, of in groups(bank).items():
        means = []
        for values in columns.values():
            picked = [value[of(cells)] for cells, value in zip(bank, values, strict=True)]
            means.append(Mean.of(value.mean() for value in picked if value.size))
        rows.append([name, *means])
    yield f"Noise and bias of the score\n\n{table(['cells', *columns], rows)}"


def falls(bank: Sequence[Cells]) -> str:
    """From one checkpoint to the next of a training: what s and copying do where the judge's subject falls or rises."""
    names = ("pairs", "sweeps", "judge", "s", "s held out", "copying", "s rises")
    kinds: dict[str, list[list[float]]] = {"falls": [], "stays": [], "rises": []}
    for number, cells in enumerate(bank):
        whole = everything(cells)
        usual = apart(cells["photographs_clip"]).max(1).mean()
        copies = (cells["clip"].max(-1).mean((1, 2)) - usual) / (1 - usual)
        seen = true_subject(cells, whole), today(cells).s.mean((1, 2)), held_out(cells).s.mean((1, 2)), copies
        for lr in np.unique(cells["lr"]):
            on = np.flatnonzero(cells["lr"] == lr)
            on = on[np.argsort(cells["steps"][on])]
            for moved in np.diff(np.array(seen)[:, on], axis=1).T:
                kind = "falls" if moved[0] < -FALL else "rises" if moved[0] > FALL else "stays"
                kinds[kind].append([number, *moved.tolist(), float(moved[1] > 0)])
    rows = []
    for kind, pairs in kinds.items():
        array = np.array(pairs).reshape(-1, 6)
        means = [f"{value:.3f}" for value in array[:, 1:].mean(0)] if len(array) else []
        rows.append([kind, len(array), len(np.unique(array[:, 0])), *means])
    return f"Where the judge's subject falls\n\n{table(['judge’s subject', *names], rows)}"


def halves(bank: Sequence[Cells]) -> str:
    """Regret of argmax at all images where s, or t, is the judge's: which of the two is biased."""

    def lost(cells: Cells, s: Floats, t: Floats) -> float:
        true = truth(cells, everything(cells))
        score = harmonic(s, t)
        return float(true.max() - true[highest(score, allowed(cells, everything(cells), score))])

    rows = []
    for name, of_s, of_t in (
        ("s and t measured", False, False), ("s the judge's", True, False), ("t the judge's", False, True),
        ("both the judge's (what vetoes cost)", True, True),
    ):  # fmt: skip
        values = []
        for cells in bank:
            own = today(cells)
            whole = everything(cells)
            s = true_subject(cells, whole) if of_s else own.s.mean((1, 2))
            t = true_prompt(cells, whole) if of_t else own.t.mean((1, 2))
            values.append(lost(cells, s, t))
        rows.append([name, Mean.of(values)])
    return f"Which of the two is biased: regret at all images\n\n{table(['score made of', 'regret'], rows)}"


def mended(bank: Sequence[Cells], repeats: int) -> Iterator[str]:
    """Regret of the argmax of every score under today's vetoes, and its difference from today's score."""
    counts = [count for count in MENDED_AT if count <= np.prod(bank[0].shape)]
    lost = {name: {count: [] for count in counts} for name in SCORES}  # type: dict[str, dict[int, list[float]]]
    for cells in bank:
        others = [each for each in bank if each is not cells]
        scorers = {name: fit(others) for name, fit in SCORES.items()}
        good = truth(cells, everything(cells))
        for count in counts:
            drawn = draws(cells, count, repeats)
            free = [allowed(cells, each, today(cells).take(each).score) for each in drawn]
            for name, scorer in scorers.items():
                chosen = [highest(scorer(cells, d), f) for d, f in zip(drawn, free, strict=True)]
                lost[name][count].append(float(np.mean(good.max() - good[chosen])))
    rows = []
    for name, by_count in lost.items():
        row: list[object] = [name]
        for count, values in by_count.items():
            differences = np.array(values) - np.array(lost["today"][count])
            row += [Mean.of(values), Mean.of(differences)]
        rows.append(row)
    titles = ["score", *(title for count in counts for title in (f"{count} images", "less today's"))]
    yield f"Mended scores: mean regret of argmax\n\n{table(titles, rows)}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, default=DATA, help="the folder of the bank's files")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="draws of images")
    parser.add_argument("--until", type=int, default=max(STEPS), help="as if the sweeps had ended at this step")
    options = parser.parse_args(arguments)
    bank = [cells.until(options.until) for cells in read_bank(options.bank)]
    if len(bank) < 2:
        parser.error(f"{options.bank} holds {len(bank)} sweeps; two at least: python -m benchmarks.bank makes them")
    print(f"{len(bank)} sweeps: {', '.join(cells.name for cells in bank)}\n")
    for part in (each_cell, gaps, by_images, by_group, mended):
        for text in part(bank, options.repeats):
            print(text + "\n", flush=True)
    print(falls(bank) + "\n", halves(bank), sep="\n")


if __name__ == "__main__":
    main()
