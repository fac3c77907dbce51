"""The table of the acceptance run: a line for each thing that was measured."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

PASS, FAIL, REPORTED, SKIPPED = "pass", "FAIL", "reported", "skipped"


@dataclass(frozen=True)
class Line:
    what: str
    measured: str
    wanted: str = ""  # empty: the figure is reported, not judged
    verdict: str = REPORTED


def judged(what: str, measured: str, wanted: str, holds: bool) -> Line:
    return Line(what, measured, wanted, PASS if holds else FAIL)


def skipped(what: str, why: str) -> Line:
    return Line(what, why, verdict=SKIPPED)


def attempted(what: str, check: Callable[[], Iterable[Line]]) -> Iterator[Line]:
    """The lines of a check. An exception is a last line, which fails, so that the other checks still run."""
    try:
        yield from check()
    except Exception as error:
        traceback.print_exc()
        yield Line(what, f"{type(error).__name__}: {error}".splitlines()[0][:200], "no error", FAIL)


def markdown(title: str, about: Iterable[str], lines: Iterable[Line]) -> str:
    rows = [f"| {line.what} | {line.measured} | {line.wanted} | {line.verdict} |".replace("  ", " ") for line in lines]
    head = ["| what | measured | wanted | |", "|---|---|---|---|"]
    return "\n".join([f"# {title}", "", *about, "", *head, *rows, ""])
