"""The answer of a sweep in three lines, with one warning at most and the command for the next step."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluation import words
from evaluation.spec import show
from sweeper.plan.axes import describe
from sweeper.results.ordering import varying
from sweeper.results.types import Results, Row

WARNINGS = {  # by verdict
    "single": "There is nothing to compare it with.",
    "flat": "All checkpoints are equally good, as far as that matters.",
    "edge": "The best score lies at the edge of the grid: a better one may lie beyond it.",
}
SUGGESTED = re.compile(r"\b([a-z][\w.]*)=([\w.+-]*\w)")  # a setting in a sentence, as typed: steps=800


@dataclass(frozen=True)
class Measured:
    """A score of the recommended checkpoint, with its 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Answer:
    use: str  # the recommended settings, as typed; where there is none, why
    found: bool
    s: Measured | None = None
    t: Measured | None = None
    fresh: Measured | None = None  # its score on images on which nothing was chosen
    as_good: str = ""  # the settings that are as good
    onset: int | None = None  # the step at which overfitting begins on its curve
    warning: str = ""
    notes: tuple[str, ...] = ()  # what else a reader must know
    suggestion: str = ""  # what to try next
    command: str = ""  # that does it; empty where the suggestion names no setting


def answer_of(results: Results) -> Answer:
    spot = results.sweet_spot
    command = next_command(results, SUGGESTED.findall(spot.suggestion))
    warning, *notes = _warnings(results) or [""]
    nothing = Answer(
        spot.reason, False, warning=warning, notes=tuple(notes), suggestion=spot.suggestion, command=command
    )
    if results.best is None:
        return nothing
    best = results.rows[results.best]
    return replace(
        nothing,
        use=settings_of(best, results),
        found=True,
        s=_measured(best, "s"),
        t=_measured(best, "t"),
        fresh=Measured(*spot.fresh_score) if spot.fresh_score else None,
        as_good=as_good(results),
        onset=onset_of(results, results.best),
    )


def _warnings(results: Results) -> list[str]:
    """What a reader of the answer must know, the most urgent first."""
    best = None if results.best is None else results.rows[results.best]
    spot = results.sweet_spot
    drifted = f"{words.DRIFTED[:1].upper()}{words.DRIFTED[1:]}." if words.DRIFTED in spot.reason else ""
    said = [WARNINGS.get(spot.verdict, "") if best else "", best.reason if best else "", drifted, *results.notes]
    return [sentence for sentence in said if sentence]


def settings_of(row: Row, results: Results) -> str:
    """A checkpoint in the words of what varies: "lr=2e-6 at step 400"."""
    axes = [name for name in varying(results) if name != "steps"]
    return f"{describe(row.params, axes) or 'lr=' + show(row.params['lr'])} at step {row.step}"


def as_good(results: Results) -> str:
    """What varies among the checkpoints that are as good as the best: "lr 2e-6 to 5e-6, steps 300 or 400". Empty
    where none is."""
    rows = [results.rows[i] for i in results.positions(results.sweet_spot.region)]
    if len(rows) < 2:
        return ""
    spans = []
    for axis, values in varying(results).items():
        taken = {row.params.get(axis) for row in rows}
        present = [value for value in values if value in taken]
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present)
        if len(present) > 2 and numbers:
            spans.append(f"{axis} {show(present[0])} to {show(present[-1])}")
        elif present:
            spans.append(f"{axis} {' or '.join(map(show, present))}")
    return ", ".join(spans)


def onset_of(results: Results, position: int) -> int | None:
    """The step at which overfitting begins on the curve of a row. None is shown inside of what is called as good."""
    curve = results.rows[position].curve
    step = results.sweet_spot.onset.get(curve)
    good = (results.rows[i] for i in results.positions(results.sweet_spot.region))
    return None if step is None or any(row.curve == curve and row.step >= step for row in good) else step


def next_command(results: Results, tries: Sequence[tuple[str, str]]) -> str:
    """The command of the sweep with more values: what is there is not computed again. Empty without `tries`, and where
    the command cannot be understood."""
    try:
        command = shlex.split(results.command)
        for name, value in tries:
            typed = next((word for word in command if word.startswith(f"{name}=")), "")
            command = [word for word in command if word != typed]
            if "interval(" in typed:  # of a search, which keeps its name for itself
                command = [word for word in command if not word.startswith("name=")] + [_widened(typed, value)]
            else:
                command.append(f"{name}={_with(results, name, value)}")
    except ValueError:
        return ""
    if not {"-m", "--multirun"} & set(command):
        command.insert(next((i for i, word in enumerate(command) if "=" in word), len(command)), "-m")
    return shlex.join(command) if tries else ""


def _with(results: Results, name: str, value: str) -> str:
    """The values of a setting that the sweep asked for and one more, as typed."""
    there = [show(row.params[name]) for row in results.rows if row.asked and name in row.params]
    return ",".join(_in_order([*there, value]))


def _widened(typed: str, value: str) -> str:
    """`lr=interval(1e-6,1e-5)` with room for `value`. Raises ValueError where the ends are no two numbers."""
    before, ends, after = re.split(r"interval\((.*?)\)", typed, maxsplit=1)
    low, high = ends.split(",")
    return f"{before}interval({min(low, value, key=float).strip()},{max(high, value, key=float).strip()}){after}"


def _in_order(values: Sequence[str]) -> list[str]:
    """Without doubles; numbers by size."""
    once = list(dict.fromkeys(values))
    try:
        return sorted(once, key=float)
    except ValueError:
        return once


def _measured(row: Row, name: str) -> Measured | None:
    value: Any = row.metrics.get(name)
    return None if value is None else Measured(value, *row.intervals.get(name, (None, None)))
