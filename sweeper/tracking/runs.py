"""A sweep as the runs that MLflow shows: one for the sweep, one per training, one per cell. Plain values only.

Runs are flat, tied by the tag `sweep`: nested runs hide MLflow's charts.
"""

import getpass
import hashlib
import math
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from evaluation.spec import show
from sweeper.plan.axes import axis_of, describe
from sweeper.results.ordering import sentence, varying
from sweeper.results.types import COMPLETE, FAIL, PRUNED, RUNNING, WAITING, Results, Row, TrainingResult
from sweeper.tracking.view import IMAGE_KEY, view_state
from trainers.spec import signature

FILES = ("report.html", "results.csv", "results.json", "contact_sheet*.png")


Metric = tuple[str, float, int]  # name, value, step
Images = tuple[str, int, str]  # name, step, folder of samples


class Item(TypedDict):
    """A run as MLflow should show it."""

    name: str
    state: str  # Optuna's word
    began: float | None  # seconds since the epoch
    ended: float | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[Metric]
    images: list[Images]
    files: list[tuple[str, str]]  # path, hash


class SweepItem(Item):
    view: str  # see view.py


class TrainingItem(Item):
    models: list[tuple[int, str, str]]  # its checkpoints: step, name, folder


def items(results: Results) -> dict[str, Item]:
    """Every run of the sweep by its key, the sweep first: what MLflow should show, whatever it shows now."""
    found: dict[str, Item] = {f"{results.name}/sweep": _sweep(results)}
    axes = varying(results)
    scored: dict[str, list[Row]] = defaultdict(list)  # by training
    for row in results.rows:
        if row.state == COMPLETE:
            scored[row.training].append(row)
    for training in results.trainings:
        if training.state != WAITING or training.loss:
            rows = scored[training.signature]
            found[f"{results.name}/training/{training.signature}"] = _training(results, training, rows, axes)
    for i, row in enumerate(results.rows):
        if row.state != WAITING:
            params = sorted((name, str(value)) for name, value in row.params.items())
            key = f"{results.name}/cell/{signature(row.training, params)}"
            found[key] = _cell(results, row, i == results.best, axes)
    about = {"sweep": results.name, "subject": results.subject, "model": results.model} | _source()
    for key, item in found.items():
        item["tags"] |= {**about, "key": key}
    return found


def _source() -> dict[str, str]:
    """What MLflow shows as a run's source and user."""
    tags = {"mlflow.source.name": "sweep.py", "mlflow.source.type": "LOCAL"}
    try:
        return tags | {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container's user without a name
        return tags


def _sweep(results: Results) -> SweepItem:
    best = None if results.best is None else results.rows[results.best]
    files = sorted(path for pattern in FILES for path in results.folder.glob(pattern))
    tags = {"kind": "sweep", "mlflow.note.content": _note(results), "command": results.command}
    # Tags, as MLflow's parameters cannot change: a search tries new values as it goes.
    tags |= {f"axis {_safe(name)}": _listed(values) for name, values in results.axes.items()}
    if best:
        tags["sweet_spot"] = describe(best.params, varying(results))
    if results.rerun:
        tags["rerun"] = f"{time.strftime('%Y-%m-%d %H:%M')}: everything was there already, nothing was computed"
    numbers: dict[str, Any] = {f"plan/{name}": value for name, value in results.plan.items()}
    numbers |= {f"seconds/{name}": value for name, value in results.timings.items()}
    if results.sweet_spot.fresh_score:
        numbers["fresh_score"] = results.sweet_spot.fresh_score[0]
    return {
        "name": f"sweep {results.name}",
        "state": RUNNING if results.running else COMPLETE,
        "began": results.began,
        "ended": results.ended,
        "params": {},
        "tags": tags,
        # All at the last step, as MLflow shows the value at the highest one: a former answer may have been later.
        "metrics": _metrics(
            numbers | (best.metrics if best else {}), max((row.step for row in results.rows), default=0)
        ),
        "images": [],
        "view": view_state(results),
        "files": [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files],
    }


def _listed(values: Sequence[Any]) -> str:
    shown = [show(value) for value in values]
    return ", ".join(shown) if len(shown) <= 20 else f"{shown[0]} to {shown[-1]}, {len(shown)} values"


def _note(results: Results) -> str:
    """The answer in words, as Markdown in which nothing of the user's text is markup."""
    so_far = "So far, as the sweep goes on: " if results.running else ""
    lines = [f"**{so_far}{_quoted(sentence(results))}**", ""]
    if results.export:
        lines.append(f"The checkpoint: `{str(results.export).replace('`', '')}`")
    lines.append(
        "Its checkpoints, best first: filter `tags.kind != 'sweep' and tags.kind != 'training'`, "
        "sort by `expected_score`."
    )
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~-])", r"\\\1", text)


def _training(results: Results, training: TrainingResult, rows: list[Row], axes: Iterable[str]) -> TrainingItem:
    """The loss and the metrics of its checkpoints against the step, with a curve for each way of sampling."""
    ways = [axis for axis in results.axes if axis_of(axis).stage in ("sample", "judge")]
    trial = results.trials.get(training.signature, "")
    metrics: list[Metric] = [("loss", loss, step) for step, loss in training.loss if math.isfinite(loss)]
    images: list[tuple[str, int, Path | None]] = []
    for row in rows:
        way = " ".join(show(row.params.get(axis)) for axis in ways)
        suffix = f"/{way}" if way else ""
        metrics += _metrics({f"{name}{suffix}": value for name, value in row.metrics.items()}, row.step)
        key = f"{IMAGE_KEY} {way}".strip()
        images += [(key, 0, row.untuned), (key, row.step, row.samples)]
    return {
        "name": f"{trial or 'training'} {_words(training.params, axes)}".strip() + _ending(training),
        "state": training.state,
        "began": training.began or min((row.began for row in rows if row.began), default=None),
        "ended": training.ended,
        "params": _params(training.params),
        "tags": {"kind": "training", "training": training.signature, **_state_tags(training), **_trial_tag(trial)},
        "metrics": metrics,
        "images": _sampled(images),
        "models": _models(training, rows, axes),
        "files": [],
    }


def _models(training: TrainingResult, rows: list[Row], axes: Iterable[str]) -> list[tuple[int, str, str]]:
    """Step, name and folder of each checkpoint that was kept; MLflow refuses some characters in the name of a model."""
    kept = {row.step: row.checkpoint for row in rows if row.checkpoint}
    names = {step: _words(training.params | {"steps": step}, dict.fromkeys([*axes, "steps"])) for step in kept}
    return [(step, re.sub(r"[/:.%\"']", "_", names[step]), str(path)) for step, path in kept.items()]


def _cell(results: Results, row: Row, chosen: bool, axes: Iterable[str]) -> Item:
    tags = {"kind": "cell" if row.asked else "checkpoint", "training": row.training}
    tags |= _state_tags(row) | _trial_tag(results.trials.get(row.training, ""))
    if row.vetoes:
        tags["vetoes"] = "; ".join(row.vetoes)
    if row.checkpoint:
        tags["checkpoint"] = str(row.checkpoint)
    if chosen:
        tags["sweet_spot"] = "this one"
    return {
        "name": f"{_words(row.params, axes)}{_ending(row)}",
        "state": row.state,
        "began": row.began,
        "ended": row.ended,
        "params": _params(row.params),
        "tags": tags,
        # Everything at step 0 too: there MLflow compares cells as bars, and there its image slider opens.
        "metrics": _metrics(row.metrics | _ends(row) | _rates(row.params), 0),
        "images": _sampled([(IMAGE_KEY, 0, row.samples), (IMAGE_KEY, row.step, row.samples)]),
        "files": [],
    }


def _words(params: dict[str, Any], axes: Iterable[str]) -> str:
    """A run's name, short because MLflow cuts it: `lr=2e-6 steps=400 ddim prior_preservation=false`."""
    numbers = []
    texts = []
    switches = []
    for name in axes:
        value = params.get(name)
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, bool):
            switches.append(f"{name}={show(value)}")
        elif name in params:
            numbers.append(f"{name}={show(value)}")
    return " ".join(numbers + texts + switches)


def _ending(of: Row | TrainingResult) -> str:
    """MLflow has one mark for everything that ended early: the name says which it was."""
    return {PRUNED: ", pruned", FAIL: ", failed"}.get(of.state, "")


def _ends(row: Row) -> dict[str, float]:
    """The intervals, under the names of results.csv."""
    ends = {}
    for name, (low, high) in row.intervals.items():
        ends[f"{name}_low"] = low
        ends[f"{name}_high"] = high
    return ends


def _rates(params: dict[str, Any]) -> dict[str, float]:
    """Learning rates as numbers. MLflow's axes are linear: 1e-6 and 5e-6 fall together there, their logarithms do not.
    The effective learning rate is a metric, not a parameter: MLflow would show it as one more axis of the sweep."""
    rates = {}
    for name, value in params.items():
        if isinstance(value, (int, float)) and value > 0 and axis_of(name).log:
            rates[axis_of(name).log_name] = math.log10(value)
    if params.get("effective_lr") is not None:
        rates["effective_lr"] = params["effective_lr"]
    return rates


def _trial_tag(trial: str) -> dict[str, str]:
    return {"trial": trial.removeprefix("trial ")} if trial else {}


def _state_tags(of: Row | TrainingResult) -> dict[str, str]:
    tags = {"state": of.state}
    if of.reason:
        tags["reason"] = of.reason
    if of.log:
        tags["log"] = str(of.log)
    return tags


def _params(params: dict[str, Any]) -> dict[str, str]:
    return {_safe(name): show(value) for name, value in params.items() if name != "effective_lr"}


def _metrics(values: dict[str, Any], step: int) -> list[Metric]:
    """MLflow has no NaN to plot: what is not a finite number is left out."""
    finite = {n: v for n, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}
    return [(_safe(name), float(value), step) for name, value in finite.items()]


def _sampled(images: list[tuple[str, int, Path | None]]) -> list[Images]:
    """Without doubles, and without what was not sampled."""
    return list(dict.fromkeys((key, step, str(folder)) for key, step, folder in images if folder))


def _safe(name: str) -> str:
    return re.sub(r"[^\w\-. /:]", "_", name, flags=re.ASCII)[:250]
