"""results.csv and results.json."""

import csv
import io
import math
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from evaluation.spec import show
from sweeper.results.ordering import metric_names
from sweeper.results.types import Results
from trainers.files import write_bytes, write_json

# Of results.json. 1: without this number, up to revision 6044e38. 2: `notes`, and `missing` of a checkpoint. 3:
# `region_probability`, `fresh_score`, and `expected_score` and `p_best` of a checkpoint; `reported` is empty, as it was
# measured on other checkpoints too. It goes up when a key is added; the keys that are there stay.
SCHEMA = 3


def records(results: Results) -> list[dict[str, Any]]:
    """One flat dictionary per row, all with the same keys in the same order."""
    rows = results.rows
    params = list(dict.fromkeys(name for row in rows for name in row.params))
    metrics = metric_names(rows)
    intervals = {name for row in rows for name in row.intervals}
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


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    return show(value) if isinstance(value, bool) else value


def write_csv(path: Path, results: Results) -> Path:
    flat = [{name: _csv_value(value) for name, value in record.items()} for record in records(results)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]) if flat else ["state"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_bytes(path, text.getvalue().encode())
    return path


def write_results_json(path: Path, results: Results) -> Path:
    spot = results.sweet_spot
    best = None if results.best is None else results.rows[results.best]
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
        "reported": {},
        "region_probability": spot.region_probability,
        "fresh_score": spot.fresh_score,
        "conditional_on": spot.conditional_on,
    }
    content = {
        "schema": SCHEMA,
        "name": results.name,
        "command": results.command,
        "model": results.model,
        "subject": results.subject,
        "sweet_spot": answer,
        "plan": results.plan,
        "timings": results.timings,
        "running": results.running,
        "began": results.began,
        "ended": results.ended,
        "axes": results.axes,
        "prompts": results.prompts,
        "baselines": results.baselines,
        "backbones": results.backbones,
        "notes": results.notes,
        "cells": [row for row in results.rows if row.asked],
        "checkpoints": results.rows,  # on the way too; `checkpoint_index`, `region`, `pareto` and `knee` count in here
        "trainings": results.trainings,
    }
    write_json(path, plain(content))
    return path
