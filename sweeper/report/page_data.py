"""What the scripts of report.html draw from. templates/core.js has the same types for the other side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from evaluation.spec import show
from sweeper.plan.axes import axis_of
from sweeper.report.answer import onset_of
from sweeper.report.effects import Effects, effects
from sweeper.report.titles import description, title
from sweeper.results.ordering import MEASURED, metric_names, ranked, raster, varying
from sweeper.results.types import COMPLETE, Results

ORDERS = ("expected_score", "score")  # what rows may be in order of
STANDARD_ERRORS = 1.96  # from a mean to the end of its interval, or more: so noise is not taken for too little
WITH_PATHS = 1000  # rows at most for which the page carries the paths of their checkpoints


class PageAxis(TypedDict):
    values: Sequence[Any]
    shown: list[str]  # the same as typed
    log: bool  # compared by their ratio


class PageMetric(TypedDict):
    title: str
    description: str  # with the unit, the better direction and what measured it


class PageData(TypedDict):
    """Lists hold an entry for each row of the results; positions are positions in them. Numbers have five digits."""

    axes: dict[str, PageAxis]  # those along which cells are laid out
    place: dict[str, list[int]]  # for each of `axes`, the position of each row's value; -1: none
    varying: dict[str, list[str]]  # what tells the rows apart, as typed
    metrics: dict[str, list[float | None]]
    about: dict[str, PageMetric]  # of each of `metrics`
    intervals: dict[str, list[list[float | None]]]  # low and high, of those metrics that have them
    state: list[str]
    asked: list[bool]  # false: evaluated on the way
    reason: list[str]
    vetoes: list[tuple[str, ...]]
    checkpoint: list[Path | None]  # empty where there are too many
    onset: list[int | None]  # the step at which overfitting began on the row's curve
    ranked: list[int]  # positions, best first
    order: str | None  # the metric that they are in order of, the ruled out and the unfinished aside
    best: int | None
    region: list[int]
    pareto: list[int]
    knee: int | None
    effects: dict[str, Effects]  # by metric
    prompts: tuple[str, ...]


def page_data(results: Results) -> PageData:
    rows = results.rows
    spot = results.sweet_spot
    axes, places = raster(results)
    metrics = metric_names(rows)
    with_intervals = [name for name in metrics if any(name in row.intervals for row in rows)]
    return {
        "axes": {
            name: {"values": values, "shown": [show(v) for v in values], "log": axis_of(name).log}
            for name, values in axes.items()
        },
        "place": {name: _positions(values, [place.get(name) for place in places]) for name, values in axes.items()},
        "varying": {name: [show(row.params.get(name)) for row in rows] for name in varying(results)},
        "metrics": {name: [_short(row.metrics.get(name)) for row in rows] for name in metrics},
        "about": {
            name: {"title": title(name), "description": description(name, results.backbones.get(name, ""))}
            for name in metrics
        },
        "intervals": {
            name: [[_short(end) for end in row.intervals.get(name, (None, None))] for row in rows]
            for name in with_intervals
        },
        "state": [row.state for row in rows],
        "asked": [row.asked for row in rows],
        "reason": [row.reason for row in rows],
        "vetoes": [row.vetoes for row in rows],
        "checkpoint": [row.checkpoint for row in rows] if len(rows) <= WITH_PATHS else [],
        "onset": [onset_of(results, i) for i in range(len(rows))],
        "ranked": ranked(results),
        "order": order_of(results),
        "best": results.best,
        "region": results.positions(spot.region),
        "pareto": undominated(results),
        "knee": results.positions([spot.knee])[0] if spot.knee is not None else None,
        "effects": {} if spot.verdict == "none" else _effects(results, axes, places),
        "prompts": results.prompts,
    }


def order_of(results: Results) -> str | None:
    """The score by which the rows are in order, apart from those that are ruled out or have none."""
    rows = [results.rows[i] for i in ranked(results)]
    for name in ORDERS:
        values = [row.metrics.get(name) for row in rows if row.state == COMPLETE and not row.vetoes]
        known = [value for value in values if value is not None]
        if known and len(known) == len(values) and known == sorted(known, reverse=True):
            return name
    return None


def undominated(results: Results) -> list[int]:
    """The Pareto set as it is drawn, a dot for each row: without those that another of them beats. (Trainings that
    differ in the seed only are one point of the set, but several dots.)"""
    front = results.positions(results.sweet_spot.pareto)
    metrics = {i: results.rows[i].metrics for i in front}
    place = {i: (found["s"], found["t"]) for i, found in metrics.items() if "s" in found and "t" in found}

    def beaten(i: int) -> bool:
        return any(s >= place[i][0] and t >= place[i][1] and (s, t) != place[i] for s, t in place.values())

    return [i for i in place if not beaten(i)]


def _effects(
    results: Results, axes: Mapping[str, Sequence[Any]], places: Sequence[Mapping[str, Any]]
) -> dict[str, Effects]:
    asked = [i for i, row in enumerate(results.rows) if row.asked]
    found = {}
    for name in MEASURED:
        if any(name in row.metrics for row in results.rows):
            values = np.array([float(results.rows[i].metrics.get(name, np.nan)) for i in asked])
            ends = [results.rows[i].intervals[name] for i in asked if name in results.rows[i].intervals]
            found[name] = effects([places[i] for i in asked], axes, values, _noise(ends))
    return found


def _noise(intervals: Sequence[tuple[float, float]]) -> float | None:
    """The variance of one value, on average; None where it is not known."""
    errors = np.array([(high - low) / 2 / STANDARD_ERRORS for low, high in intervals])
    errors = errors[np.isfinite(errors)]
    return float(np.mean(errors**2)) if len(errors) else None


def _positions(values: Sequence[Any], found: Sequence[Any]) -> list[int]:
    position = {value: i for i, value in enumerate(values)}
    return [position.get(value, -1) for value in found]


def _short(value: float | None) -> float | None:
    if value is None or value != value:
        return None
    return float(f"{value:.5g}")
