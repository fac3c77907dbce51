"""From the store to `Results`: every evaluated checkpoint as a row, judged, with its sweet spot."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.spec import fill, show, subject_words
from evaluation.sweetspot import Candidate, SweetSpot, find
from sweeper.engine.jobs import Job, Outcome
from sweeper.plan.axes import axis_of, describe
from sweeper.plan.grid import Grid
from sweeper.plan.types import Plan, Point, Training
from sweeper.results.types import COMPLETE, WAITING, Results, Row, TrainingResult
from sweeper.store import Store
from trainers.files import is_complete, read_json
from trainers.images import instance_images
from trainers.spec import TrainSpec


def _row(training: Training, store: Store, point: Point, scores: Any, outcome: Outcome | None, log: Path | None) -> Row:
    run, spec = training.cell_at(point), training.spec
    nearest = run or next(r for r in training.cells if Point.of(r, point.step) == point)
    state, reason = COMPLETE, note_of(store, spec)
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


def note_of(store: Store, spec: TrainSpec) -> str:
    return read_json(store.note(spec)) if store.note(spec).exists() else ""


def curve_of(training: Training, point: Point) -> str:
    """Everything but step and seed, as one string."""
    return f"{replace(training.spec, seed=0).signature}-{point.signature}"


def result_of(training: Training, store: Store, outcome: Outcome | None, log: Path | None) -> TrainingResult:
    losses = store.training(training.spec) / "loss.json"
    loss = read_json(losses)["loss"] if losses.exists() else []
    done = not store.missing(training)
    return TrainingResult(
        signature=training.spec.signature,
        params={k: v for k, v in training.cells[0].params if axis_of(k).costs_training},
        state=COMPLETE if done else outcome.state if outcome else WAITING,
        loss=tuple(enumerate(loss[: training.last_step], start=1)),
        reason=note_of(store, training.spec) if done else outcome.reason if outcome else "",
        log=log,
    )


def collect(grid: Grid, compiled: Plan, store: Store, begun: Mapping[str, Job], **about: Any) -> Results:
    """Everything the store has of the plan, judged. `begun` holds the jobs of this run by training signature; `about`
    are the fields of Results that the store does not know."""
    rows, trainings = [], []
    points: list[tuple[Training, Point]] = []
    for training in compiled.trainings:
        job = begun.get(training.spec.signature)
        outcome, log = (job.outcome, job.log) if job else (None, None)
        trainings.append(result_of(training, store, outcome, log))
        for point in training.points:
            scores = store.scores(training.spec, point)
            if scores or training.cell_at(point):
                rows.append(_row(training, store, point, scores, outcome, log))
                points.append((training, point))
    first = compiled.trainings[0]
    subject, evaluation = first.spec.subject, first.cells[0].evaluation
    words = subject_words(subject.identifier, subject.class_noun)
    return Results(
        axes=grid.axes,
        trainings=tuple(trainings),
        export=None,
        instance_images=tuple(instance_images(subject.images)),
        untuned={},
        prompts=tuple(fill(prompt, words) for prompt in evaluation.prompts),
        model=first.spec.model.name,
        subject=subject.name,
        timings={},
        **with_scores(rows, points, store, tuple(grid.axes)),
        **about,
    )


def with_scores(
    rows: list[Row], points: list[tuple[Training, Point]], store: Store, axes: tuple[str, ...]
) -> dict[str, Any]:
    """The rows with s, t, score and vetoes, and the sweet spot. What was judged by other images or another encoder does
    not compare, so each model, subject and evaluation has a sweet spot, and the best of them is the answer."""
    groups: dict[Any, list[int]] = {}
    for i, (training, point) in enumerate(points):
        groups.setdefault((training.spec.model, training.spec.subject, point.evaluation), []).append(i)
    answers = []
    rows, read = list(rows), lru_cache(maxsize=None)(read_json)
    for members in groups.values():
        spot, values = _find([rows[i] for i in members], [points[i] for i in members], store, axes, read)
        for place, i in enumerate(members):
            rows[i] = _with_scores(rows[i], spot, place)
        answers.append((spot, members, values))
    spot, members, values = max(answers, key=lambda a: a[0].score[a[0].best] if a[0].found else -1.0)
    return {
        "rows": tuple(rows),
        "sweet_spot": spot,
        "best": members[spot.best] if spot.best is not None else None,
        "candidates": tuple(members),
        **values,
    }


def _find(
    rows: list[Row], points: list[tuple[Training, Point]], store: Store, axes: tuple[str, ...], read: Callable
) -> tuple[SweetSpot, dict[str, Any]]:
    cards = [store.scores(training.spec, point) for training, point in points]
    baselines = [
        read(store.baseline_values(t.spec, p)) if card else None for (t, p), card in zip(points, cards, strict=True)
    ]
    candidates = [
        Candidate(
            key=str(i),
            curve=row.curve,
            step=point.step,
            lr=training.spec.lr,
            seed=training.spec.seed,
            words=_words(row, axes),
        )
        for i, (row, (training, point)) in enumerate(zip(rows, points, strict=True))
    ]
    card = next((card for card in cards if card), None)
    known = next((b for b in baselines if b), None)
    values = {"backbones": card["backbones"] if card else {}, "baselines": _means(known) if known else {}}
    return find(candidates, cards, baselines), values


def _words(row: Row, axes: tuple[str, ...]) -> str:
    settings = describe(row.params, [axis for axis in axes if axis != "steps"]) or f"lr={show(row.params['lr'])}"
    return f"{settings} at step {row.step}"


def _means(baselines: dict[str, Any]) -> dict[str, float]:
    untuned, photographs = baselines["untuned"], baselines["photographs"]
    return {
        "S0": float(np.mean(untuned["dino"])),
        "T0": float(np.mean(untuned["clip_t"])),
        "SR": float(np.mean(photographs["dino"])),
        "Tc": float(np.mean(photographs["clip_t"])),
    }


def _with_scores(row: Row, spot: SweetSpot, place: int) -> Row:
    if row.state != COMPLETE or not spot.score:
        return row
    metrics = {name: getattr(spot, name)[place] for name in ("s", "t", "score")}
    return replace(
        row,
        metrics={**row.metrics, **{name: value for name, value in metrics.items() if value == value}},
        intervals={name: tuple(ends[place]) for name, ends in spot.intervals.items()},
        vetoes=tuple(spot.vetoes[place]) if spot.vetoes else (),
    )
