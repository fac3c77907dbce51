"""What the terminal shows at the end of a sweep: the table, the failures, the answer, and where the time went."""

import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluation.spec import show
from sweeper.plan.axes import describe
from sweeper.report.progress import hours
from sweeper.report.titles import description, title
from sweeper.results.ordering import SCORES, metric_names, ranked, sentence, varying
from sweeper.results.types import COMPLETE, Results, Row

SHOWN = 20  # rows in the terminal
SMALLEST_SHARE = 0.0005  # of the time, that is said
RAW = ("dino", "clip_i", "clip_t")  # shown in the terminal where there is room


def shares(timings: dict[str, float]) -> dict[str, float]:
    """Each kind of work's share of the time, the largest first. "other" is what remains of the whole ("wall"). Nothing
    remains where several devices worked at once."""
    kinds = {kind: seconds for kind, seconds in timings.items() if kind != "wall"}
    kinds["other"] = max(0.0, timings.get("wall", 0.0) - sum(kinds.values()))
    whole = sum(kinds.values())
    largest_first = sorted(kinds.items(), key=lambda item: item[1], reverse=True)
    return {kind: seconds / whole for kind, seconds in largest_first if seconds}


def took(timings: dict[str, float], earlier: dict[str, float] | None = None) -> str:
    """The whole time, and what it was spent on. earlier: where nothing was to be computed, the times of the runs that
    did it."""
    if earlier:
        return f"{hours(timings['wall'])}: everything was there already. It took {took(earlier)}"
    parts = []
    for kind, share in shares(timings).items():
        if share >= SMALLEST_SHARE:
            parts.append(f"{kind} {share:.1%}" if share < 0.01 else f"{kind} {share:.0%}")
    return f"{hours(timings['wall'])}: {', '.join(parts)}"


def print_end(
    results: Results, paths: Mapping[str, Path], tracked: Iterable[str], own: dict[str, float], console: Console
) -> None:
    """The table, the answer, and where everything is. tracked: how MLflow is opened; own: the times of this run."""
    print_table(results, console)
    console.print()
    lines = [(name, str(path)) for name, path in paths.items()]
    if results.export:
        lines.append(("checkpoint", str(results.export)))
    lines += zip(("MLflow", "", ""), filter(None, tracked), strict=False)
    lines.append(("took", took(own, results.timings if results.rerun else {})))
    for name, text in lines:
        console.print(f"{name:<18} {text}", soft_wrap=True, markup=False)


def print_table(results: Results, console: Console) -> None:
    """The cells best first with 95 % intervals, the failures with their reasons, and the answer in one sentence."""
    order = ranked(results)
    complete = [i for i in order if results.rows[i].state == COMPLETE]
    stopped = [results.rows[i] for i in order if results.rows[i].state != COMPLETE]
    if complete:
        console.print(_widest(results, complete[:SHOWN], console))
        console.print(_legend([results.rows[i] for i in complete[:SHOWN]]), style="dim")
    if len(complete) > SHOWN:
        console.print(
            f"… and {len(complete) - SHOWN:,} more in {escape(str(results.folder / 'results.csv'))}", style="dim"
        )
    axes = varying(results)
    for row in stopped[:SHOWN]:
        words = f"{describe(row.params, axes)}: {row.reason or 'no reason given'}"
        console.print(Text.assemble((f"{row.state} ", "red"), words))
    if len(stopped) > SHOWN:
        console.print(f"… and {len(stopped) - SHOWN:,} more without a result", style="dim")
    if results.notes:
        console.print(Text(f"Note: {' '.join(results.notes)}", style="yellow"))
    console.print(Text(sentence(results), style="bold"))


def _legend(rows: list[Row]) -> str:
    """What the words of the table mean."""
    names = [name for name in metric_names(rows) if name in SCORES]
    lines = [f"{name}: {_lower(title(name).removesuffix(f', {name}'), description(name), name)}" for name in names]
    if not all(row.asked for row in rows):
        lines.append("on the way: a checkpoint that was evaluated before the steps that were asked for.")
    return " ".join(lines)


def _lower(words: str, meaning: str, name: str) -> str:
    said = meaning[:1].lower() + meaning[1:]
    return said if words == name else f"{words}; {said}"


def _widest(results: Results, shown: list[int], console: Console) -> Table:
    """The table with as many metrics and intervals as the terminal has room for."""
    names = metric_names(results.rows)
    scores = [name for name in names if name in SCORES]
    raw = [name for name in names if name in RAW]
    for metrics, intervals in (
        (scores + raw, scores),
        (scores, scores),
        (scores, ["score"]),
        (scores[:1], ()),
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
        words = re.sub(r"([_.])", r"\1 ", name)
        narrow = re.sub(r"([_.]) ", r"\1", "\n".join(textwrap.wrap(words, 10, break_long_words=False)))
        table.add_column(Text(narrow), justify="right", no_wrap=True)
    table.add_column("", max_width=40)
    for i in shown:
        row = results.rows[i]
        values = [Text(show(row.params.get(axis))) for axis in axes]
        values += [Text(_number(row, name, name in intervals), "dim" if name in RAW else "") for name in metrics]
        best = i == results.best
        table.add_row(Text("★" if best else "", "yellow"), *values, _note(row), style="bold" if best else "")
    return table


def _note(row: Row) -> Text:
    if row.vetoes:
        return Text("veto: " + row.vetoes[0], "yellow")
    return Text("" if row.asked else "on the way", "dim")


def _number(row: Row, name: str, with_interval: bool) -> str:
    value = row.metrics.get(name, math.nan)
    if not math.isfinite(value):
        return "–"
    low, high = row.intervals.get(name, (math.nan, math.nan))
    if with_interval and math.isfinite(low) and math.isfinite(high):
        return f"{value:.3f} [{low:.2f}, {high:.2f}]"
    return f"{value:.3f}"
