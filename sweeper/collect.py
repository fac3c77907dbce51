"""From the store to `Results`: every evaluated checkpoint as a row, judged, with its sweet spot."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.jobs import Outcome
from sweeper.plan import Point, Training
from sweeper.results import COMPLETE, WAITING, Row
from sweeper.store import Store
from trainers.files import is_complete

SAMPLING = ("steps", "scheduler", "inference_steps", "guidance_scale", "eval_every", "evaluation")


def rows_of(training: Training, store: Store, outcome: Outcome | None, log: Path | None) -> list[Row]:
    """A row for every point of the training: asked cells always, others where they were scored."""
    rows = []
    for point in training.points:
        run, scores = training.run_at(point), store.scores(training.spec, point)
        if run or scores:
            rows.append(_row(training, store, point, scores, outcome, log))
    return rows


def _row(training: Training, store: Store, point: Point, scores: Any, outcome: Outcome | None, log: Path | None) -> Row:
    run, spec = training.run_at(point), training.spec
    nearest = run or next(r for r in training.runs if (r.sample, r.evaluation) == (point.sample, point.evaluation))
    state, reason = COMPLETE, outcome.note if outcome else ""
    if scores is None:
        state, reason = (outcome.state, outcome.reason) if outcome else (WAITING, "")
    checkpoint = store.checkpoint(spec, point.step)
    return Row(
        params={**dict(nearest.params), "steps": point.step, "effective_lr": spec.effective_lr},
        training=spec.signature,
        state=state,
        asked=run is not None,
        reason=reason,
        metrics={k: v for k, v in scores["metrics"].items() if v is not None} if scores else {},
        checkpoint=checkpoint if is_complete(checkpoint) else None,
        samples=store.evaluation(spec, point) if scores else None,
        log=log,
        curve=curve_of(training, point),
        untuned=store.baselines(spec, point) if scores else None,
    )


def curve_of(training: Training, point: Point) -> str:
    """Everything but step and seed, as one string."""
    return f"{replace(training.spec, seed=0).signature}-{point.signature}"
