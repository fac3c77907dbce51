"""In which order rows, metrics and axes are shown, the same on every page."""

import math
from collections.abc import Iterable
from typing import Any

from sweeper.plan.axes import describe
from sweeper.results.types import COMPLETE, Results, Row

MEASURED = ("score", "s", "t")
SCORES = ("expected_score", *MEASURED, "p_best")  # shown before every other metric


def ranked(results: Results) -> list[int]:
    """Positions of all rows: the sweet spot, then by expected score, then those without one (the vetoed) by measured
    score, the unfinished last."""

    def place(i: int) -> tuple[bool, bool, bool, float, float, int]:
        row = results.rows[i]
        expected, score = (-row.metrics.get(name, -math.inf) for name in ("expected_score", "score"))
        return i != results.best, row.state != COMPLETE, bool(row.vetoes), expected, score, i

    return sorted(range(len(results.rows)), key=place)


def metric_names(rows: Iterable[Row]) -> list[str]:
    """Every metric of any row, the scores first, then in the order of appearance."""
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    return [n for n in SCORES if n in names] + [n for n in names if n not in SCORES]


def varying(results: Results) -> dict[str, tuple[Any, ...]]:
    """The axes of the pages: those that vary, with the steps evaluated on the way; at least the steps."""
    steps = tuple(sorted({row.step for row in results.rows}))
    axes = {name: values for name, values in results.axes.items() if name != "steps"}
    return axes | ({"steps": steps} if len(steps) > 1 or not axes else {})


def raster(results: Results) -> tuple[dict[str, tuple[Any, ...]], list[dict[str, Any]]]:
    """The axes to lay cells out along, and each row's place on them.

    Where the rows fill less than half of the grid of the axes (a random search), the axes are `settings` and `steps`.
    """
    axes = varying(results)
    places = [row.params for row in results.rows]
    if len(results.rows) * 2 < math.prod(map(len, axes.values())):
        names = [name for name in axes if name != "steps"]
        places = [{"settings": describe(row.params, names), "steps": row.step} for row in results.rows]
        settings = tuple(dict.fromkeys(places[i]["settings"] for i in ranked(results)))
        axes = {"settings": settings} | {name: values for name, values in axes.items() if name == "steps"}
    return axes, places


def sentence(results: Results) -> str:
    """The answer, with what to try next."""
    spot = results.sweet_spot
    return " ".join(part.strip() for part in (spot.reason, spot.suggestion) if part)
