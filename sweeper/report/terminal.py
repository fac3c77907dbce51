"""The results as rows of text and numbers: results.csv, results.json and the table in the terminal."""

import csv
import io
import math
import textwrap
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluation.spec import show
from sweeper.report.progress import hours
from sweeper.results.types import COMPLETE, Results, Row
from trainers.files import write_bytes, write_json

SHOWN = 20  # rows in the terminal
SCORES = ("score", "s", "t")  # shown before every other metric
RAW = ("dino", "clip_i", "clip_t")  # shown in the terminal where there is room


def ranked(results: Results) -> list[int]:
    """Positions of all rows: the sweet spot, then by score, the vetoed after the others, the unfinished last."""

    def place(i: int) -> tuple:
        row = results.rows[i]
        score = row.metrics.get("score", math.nan)
        return i != results.best, row.state != COMPLETE, bool(row.vetoes), -score if score == score else math.inf, i

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


def differs(row: Row, names: Iterable[str]) -> str:
    """A row in the words of what varies: `lr=2e-6 steps=400`."""
    return " ".join(f"{name}={show(row.params.get(name))}" for name in names)


def raster(results: Results) -> tuple[dict[str, tuple[Any, ...]], list[dict[str, Any]]]:
    """The axes to lay cells out along, and each row's place on them.

    Where the rows fill less than half of the grid of the axes (a random search), the axes are `run` and `steps`.
    """
    axes = varying(results)
    places = [row.params for row in results.rows]
    if len(results.rows) * 2 < math.prod(map(len, axes.values())):
        names = [name for name in axes if name != "steps"]
        places = [{"run": differs(row, names), "steps": row.step} for row in results.rows]
        runs = tuple(dict.fromkeys(places[i]["run"] for i in ranked(results)))
        axes = {"run": runs} | {name: values for name, values in axes.items() if name == "steps"}
    return axes, places


def sentence(results: Results) -> str:
    """The answer, with what to try next."""
    spot = results.sweet_spot
    return " ".join(part.strip() for part in (spot.reason, spot.suggestion) if part)


def shares(timings: dict[str, float]) -> dict[str, float]:
    """Each kind of work's share of the time, the largest first. "other" is what remains of the whole, "wall"; where
    several devices worked at once, nothing does."""
    kinds = {kind: seconds for kind, seconds in timings.items() if kind != "wall"}
    kinds["other"] = max(0.0, timings.get("wall", 0.0) - sum(kinds.values()))
    whole = sum(kinds.values())
    return {kind: kinds[kind] / whole for kind in sorted(kinds, key=kinds.get, reverse=True) if kinds[kind]}


def took(timings: dict[str, float]) -> str:
    """The whole time, and what it was spent on."""
    parts = [f"{kind} {share:.{int(share < 0.01)}%}" for kind, share in shares(timings).items() if share >= 0.0005]
    return f"{hours(timings['wall'])}: {', '.join(parts)}"


def records(results: Results) -> list[dict[str, Any]]:
    """One flat dictionary per row, all with the same keys in the same order."""
    rows = results.rows
    params = list(dict.fromkeys(name for row in rows for name in row.params))
    metrics, intervals = metric_names(rows), {name for row in rows for name in row.intervals}
    flat = []
    for i, row in enumerate(rows):
        record = {name: row.params.get(name) for name in params}
        record |= {"state": row.state, "asked": row.asked, "chosen": i == results.best, "reason": row.reason}
        for name in metrics:
            record[name] = row.metrics.get(name)
            if name in intervals:
                record[f"{name}_low"], record[f"{name}_high"] = row.intervals.get(name, (None, None))
        record["vetoes"] = "; ".join(row.vetoes)
        record |= {"training": row.training, "checkpoint": row.checkpoint, "samples": row.samples, "log": row.log}
        flat.append(record)
    return flat


def plain(value: Any) -> Any:
    """`value` as JSON types; what is not a finite number becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(vars(value))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # a number of numpy
        return plain(value.item())
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def write_csv(path: Path, results: Results) -> Path:
    flat = [
        {k: "" if v is None else show(v) if isinstance(v, bool) else v for k, v in r.items()} for r in records(results)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]) if flat else ["state"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_bytes(path, text.getvalue().encode())
    return path


def write_results_json(path: Path, results: Results) -> Path:
    spot, best = results.sweet_spot, None if results.best is None else results.rows[results.best]
    answer = {
        "found": spot.found,
        "verdict": spot.verdict,
        "reason": spot.reason,
        "suggestion": spot.suggestion,
        "params": best.params if best else None,
        "step": best.step if best else None,
        "checkpoint": best.checkpoint if best else None,
        "export": results.export,
        "checkpoint_index": results.best,
        "region": results.positions(spot.region),
        "pareto": results.positions(spot.pareto),
        "knee": results.positions([spot.knee])[0] if spot.knee is not None else None,
        "onset": spot.onset,
        "reported": spot.reported,
        "conditional_on": spot.conditional_on,
    }
    content = {
        "name": results.name,
        "command": results.command,
        "model": results.model,
        "subject": results.subject,
        "sweet_spot": answer,
        "plan": results.plan,
        "timings": results.timings,
        "axes": results.axes,
        "prompts": results.prompts,
        "baselines": results.baselines,
        "backbones": results.backbones,
        "cells": [row for row in results.rows if row.asked],
        "checkpoints": results.rows,  # those on the way too; `cell`, `region`, `pareto`, `knee` count in this list
        "trainings": results.trainings,
    }
    write_json(path, plain(content))
    return path


def print_table(results: Results, console: Console) -> None:
    """The cells best first with 95 % intervals, the failures with their reasons, and the answer in one sentence."""
    order = ranked(results)
    complete = [i for i in order if results.rows[i].state == COMPLETE]
    stopped = [results.rows[i] for i in order if results.rows[i].state != COMPLETE]
    if complete:
        console.print(_widest(results, complete[:SHOWN], console))
    if len(complete) > SHOWN:
        console.print(
            f"… and {len(complete) - SHOWN:,} more in {escape(str(results.folder / 'results.csv'))}", style="dim"
        )
    axes = varying(results)
    for row in stopped[:SHOWN]:
        words = f"{differs(row, axes)}: {row.reason or 'no reason given'}"
        console.print(Text.assemble((f"{row.state} ", "red"), words))
    if len(stopped) > SHOWN:
        console.print(f"… and {len(stopped) - SHOWN:,} more without a result", style="dim")
    console.print(Text(sentence(results), style="bold"))


def _widest(results: Results, shown: list[int], console: Console) -> Table:
    """The table with as many metrics and intervals as the terminal has room for."""
    names = metric_names(results.rows)
    scores, raw = [n for n in names if n in SCORES], [n for n in names if n in RAW]
    for metrics, intervals in (
        (scores + raw, scores),
        (scores, scores),
        (scores, scores[:1]),
        (scores[:1], scores[:1]),
    ):
        table = _table(results, shown, metrics, intervals)
        if console.measure(table, options=console.options.update(width=1000)).maximum <= console.width:
            break
    return table


def _table(results: Results, shown: list[int], metrics: list[str], intervals: Iterable[str]) -> Table:
    axes = varying(results)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in [*axes, *metrics]:
        narrow = "\n".join(textwrap.wrap(name.replace("_", "_ "), 10)).replace("_ ", "_")
        table.add_column(Text(narrow), justify="right", no_wrap=True)
    table.add_column("", max_width=40)
    for i in shown:
        row = results.rows[i]
        values = [Text(show(row.params.get(axis))) for axis in axes]
        values += [Text(_number(row, name, name in intervals), "dim" if name in RAW else "") for name in metrics]
        note = (
            Text("veto: " + row.vetoes[0], "yellow") if row.vetoes else Text("" if row.asked else "on the way", "dim")
        )
        best = i == results.best
        table.add_row(Text("★" if best else "", "yellow"), *values, note, style="bold" if best else "")
    return table


def _number(row: Row, name: str, interval: bool) -> str:
    value, ends = row.metrics.get(name, math.nan), row.intervals.get(name, (math.nan, math.nan))
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if interval and all(map(math.isfinite, ends)) else "")
