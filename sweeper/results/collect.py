"""From the store to `Results`: every evaluated checkpoint as a row with its scores, and the sweet spot."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics import METRICS
from evaluation.scorecard import Baselines, Scorecard
from evaluation.spec import ONSET_UNITS, fill, show
from evaluation.sweetspot import Candidate, SweetSpot, find
from evaluation.verdicts import too_weak
from sweeper.engine.jobs import Job, Outcome
from sweeper.plan.axes import axis_of, describe
from sweeper.plan.grid import Grid
from sweeper.plan.types import Plan, Point, Training
from sweeper.results.groups import Group, answers_of
from sweeper.results.ordering import SCORES
from sweeper.results.rounds import Given, given
from sweeper.results.types import COMPLETE, RUNNING, WAITING, Results, Row, TrainingResult
from sweeper.store import Store
from trainers.files import is_complete, read_json
from trainers.images import instance_images
from trainers.prompts import subject_words
from trainers.provenance import Provenance, mixed
from trainers.spec import TrainSpec


@dataclass(frozen=True)
class Entry:
    """A row with what the store has of it."""

    training: Training
    point: Point
    row: Row
    card: Scorecard | None
    baselines: Baselines | None
    given: Given | None = None  # of an adaptive evaluation

    @property
    def group(self) -> tuple[Any, ...]:
        """Rows compare where this is equal: other images or another encoder give other numbers."""
        return self.training.spec.model, self.training.spec.subject, self.point.evaluation


@dataclass(frozen=True)
class Answer:
    """The sweet spot of one group of rows."""

    spot: SweetSpot
    members: tuple[int, ...]  # positions of its candidates among all rows
    entries: tuple[Entry, ...]


def collect(grid: Grid, compiled: Plan, store: Store, begun: Mapping[str, Job], **about: Any) -> Results:
    """Everything the store has of the plan, with scores. `begun` holds the jobs of this run by training signature;
    `about` are the fields of Results that the store does not know."""
    trainings: list[TrainingResult] = []
    entries: list[Entry] = []
    of_rounds = given(compiled, store, about["folder"])
    for training in compiled.trainings:
        job = begun.get(training.spec.signature)
        outcome, log = (job.outcome, job.log) if job else (None, None)
        state = RUNNING if job and job.status and not outcome else WAITING
        trainings.append(result_of(training, store, outcome, log, state))
        entries += _entries(training, store, outcome, log, of_rounds)
    answers = find_answers(entries, tuple(grid.axes))
    best = next((answer for answer in answers if answer.spot.found), answers[0])
    rows = with_scores([entry.row for entry in entries], answers)
    groups = [Group(tuple(rows[i] for i in answer.members), answer.spot.reason) for answer in answers]
    first = compiled.trainings[0]
    subject = first.spec.subject
    evaluation = first.cells[0].evaluation
    words = subject_words(subject.identifier, subject.class_noun)
    card = next((entry.card for entry in best.entries if entry.card), None)
    baselines = next((entry.baselines for entry in best.entries if entry.baselines), None)
    return Results(
        axes=grid.axes,
        rows=rows,
        trainings=tuple(trainings),
        sweet_spot=best.spot,
        best=None if best.spot.best is None else best.members[best.spot.best],
        candidates=best.members,
        export=None,
        instance_images=tuple(instance_images(subject.images)),
        prompts=tuple(fill(prompt, words) for prompt in evaluation.prompts),
        baselines=_means(baselines) if baselines else {},
        backbones=card.backbones if card else {},
        model=first.spec.model.name,
        subject=subject.name,
        timings={},
        notes=(*answers_of(groups, tuple(grid.axes)), *notes(entries, answers, store)),
        **about,
    )


def _entries(
    training: Training,
    store: Store,
    outcome: Outcome | None,
    log: Path | None,
    of_rounds: Mapping[tuple[str, Point], Given],
) -> Iterator[Entry]:
    """The checkpoints of a training that were asked for, and those that were evaluated on the way."""
    for point in training.points:
        of_cell = of_rounds.get((training.spec.signature, point))
        card = of_cell.card if of_cell else store.scorecard(training.spec, point)
        if card or training.cell_at(point):
            row = _row(training, store, point, card, outcome, log)
            baselines = of_cell.baselines if of_cell else store.baseline_values(training.spec, point) if card else None
            yield Entry(training, point, row, card, baselines, of_cell)


def _row(
    training: Training, store: Store, point: Point, card: Scorecard | None, outcome: Outcome | None, log: Path | None
) -> Row:
    spec = training.spec
    state = COMPLETE
    reason = note_of(store, spec)
    if card is None:
        state, reason = (outcome.state, outcome.reason) if outcome else (WAITING, "")
    checkpoint = store.checkpoint(spec, point.step)
    ended = store.scored(spec, point) if card else None
    return Row(
        params={**dict(training.nearest_cell(point).params), "steps": point.step, "effective_lr": spec.effective_lr},
        training=spec.signature,
        state=state,
        asked=training.cell_at(point) is not None,
        reason=reason,
        metrics={name: value for name, value in card.metrics.items() if value is not None} if card else {},
        missing=card.missing if card else {},
        checkpoint=checkpoint if is_complete(checkpoint) else None,
        samples=store.evaluation(spec, point) if card else None,
        log=log,
        curve=curve_of(training, point),
        untuned=store.baselines(spec, point) if card else None,
        began=ended - sum(card.seconds.values()) if card and ended else None,
        ended=ended,
    )


def note_of(store: Store, spec: TrainSpec) -> str:
    return str(read_json(store.note(spec))) if store.note(spec).exists() else ""


def curve_of(training: Training, point: Point) -> str:
    """Everything but step and seed, as one string."""
    return f"{replace(training.spec, seed=0).signature}-{point.signature}"


def result_of(
    training: Training, store: Store, outcome: Outcome | None, log: Path | None, state: str = WAITING
) -> TrainingResult:
    """`state` of a training that has no outcome yet."""
    done = not store.missing(training)
    state, reason = (outcome.state, outcome.reason) if outcome else (state, "")
    scored = [when for point in training.points if (when := store.scored(training.spec, point))]
    return TrainingResult(
        signature=training.spec.signature,
        params=params_of(training),
        state=COMPLETE if done else state,
        loss=tuple(enumerate(store.losses(training.spec)[: training.last_step], start=1)),
        reason=note_of(store, training.spec) if done else reason,
        log=log,
        began=store.begun(training.spec),
        ended=max(scored, default=None) if done or outcome else None,
    )


def params_of(training: Training) -> dict[str, Any]:
    """What sets the training apart, and the typed settings of its evaluation that all of its cells share."""
    cells = [dict(cell.params) for cell in training.cells]

    def belongs(key: str, value: Any) -> bool:
        return axis_of(key).costs_training or ("." in key and all(cell[key] == value for cell in cells))

    return {key: value for key, value in cells[0].items() if belongs(key, value)}


def find_answers(entries: Sequence[Entry], axes: Sequence[str]) -> list[Answer]:
    """A sweet spot for each group of rows that compare."""
    groups: dict[Any, list[int]] = {}
    for i, entry in enumerate(entries):
        groups.setdefault(entry.group, []).append(i)
    answers = []
    for members in groups.values():
        group = tuple(entries[i] for i in members)
        candidates = [_candidate(str(place), entry, axes) for place, entry in enumerate(group)]
        spot = find(candidates, [entry.card for entry in group], [entry.baselines for entry in group])
        answers.append(Answer(with_fresh_score(with_sure_onsets(spot, group), group), tuple(members), group))
    return answers


def with_sure_onsets(spot: SweetSpot, group: Sequence[Entry]) -> SweetSpot:
    """Without onsets on curves some cell of which was shown too few prompts to claim one."""
    few = {entry.row.curve for entry in group if entry.given and entry.given.prompts < ONSET_UNITS}
    return replace(spot, onset={curve: None if curve in few else step for curve, step in spot.onset.items()})


def with_fresh_score(spot: SweetSpot, group: Sequence[Entry]) -> SweetSpot:
    """The answer with what it scores on the images of the last rounds, on which nothing was chosen; none where that
    may be too little."""
    entry = None if spot.best is None else group[spot.best]
    fresh = entry.given.fresh if entry and entry.given else {}
    if not entry or not fresh:
        return spot
    steps = np.array([each.point.step for each in group])
    lrs = np.array([each.training.spec.lr for each in group])
    words = f"{describe(entry.row.params, ['lr'])} at step {entry.row.step}"
    weak = too_weak(words, fresh, steps, lrs) if np.isfinite(fresh["score"][1]) else None
    if weak:
        more = fresh["s"][0] < fresh["t"][0]
        why, suggestion = weak
        nothing: dict[str, Any] = {"best": None, "region": (), "region_probability": None, "p_best": ()}
        return replace(spot, found=False, verdict="none", reason=why, suggestion=suggestion, more_steps=more, **nothing)
    return replace(spot, fresh_score=fresh["score"])


def _candidate(key: str, entry: Entry, axes: Sequence[str]) -> Candidate:
    row = entry.row
    spec = entry.training.spec
    settings = describe(row.params, [axis for axis in axes if axis != "steps"]) or f"lr={show(row.params['lr'])}"
    return Candidate(
        key=key,
        curve=row.curve,
        training=spec.signature,
        step=entry.point.step,
        lr=spec.lr,
        seed=spec.seed,
        words=f"{settings} at step {row.step}",
        there=row.checkpoint is not None,
        axes={name: row.params[name] for name in axes if name in row.params and matters(name)},
    )


def matters(axis: str) -> bool:
    """Whether candidates of one lr and step can differ by this axis."""
    return axis_of(axis).stage in ("train", "sample") and axis not in ("lr", "seed")


def _means(baselines: Baselines) -> dict[str, float]:
    """S0, T0, SR, Tc, those that are known."""
    values = {
        "S0": baselines.untuned.get("dino"),
        "T0": baselines.untuned.get("clip_t"),
        "SR": baselines.photographs.get("dino"),
        "Tc": baselines.photographs.get("clip_t"),
    }
    return {name: float(np.mean(value)) for name, value in values.items() if value is not None}


def with_scores(rows: Sequence[Row], answers: Iterable[Answer]) -> tuple[Row, ...]:
    """The rows with the scores and vetoes of their group."""
    scored = list(rows)
    for answer in answers:
        for place, i in enumerate(answer.members):
            scored[i] = _with_scores(scored[i], answer.spot, place)
    return tuple(scored)


def _with_scores(row: Row, spot: SweetSpot, place: int) -> Row:
    if row.state != COMPLETE or not spot.score:
        return row
    metrics = {name: getattr(spot, name)[place] for name in SCORES if getattr(spot, name)}
    return replace(
        row,
        metrics={**row.metrics, **{name: value for name, value in metrics.items() if value == value}},
        intervals={name: ends[place] for name, ends in spot.intervals.items()},
        vetoes=spot.vetoes[place] if spot.vetoes else (),
    )


def notes(entries: Sequence[Entry], answers: Sequence[Answer], store: Store) -> tuple[str, ...]:
    """What a reader of the numbers must know, a sentence each: metrics that are missing and why, vetoes that were
    skipped, and rows that are compared although different versions or devices made them."""
    counts: Counter[tuple[str, str]] = Counter(item for entry in entries for item in entry.row.missing.items())
    said = [
        f"{_title(name)} is missing for {count} of {len(entries)} checkpoints: {reason}."
        for (name, reason), count in counts.items()
    ]
    for answer in answers:
        said += answer.spot.notes
        said.append(mixed(maker for entry in answer.entries for maker in _makers(entry, store)))
    said += [entry.given.note for entry in entries if entry.given]
    return tuple(dict.fromkeys(filter(None, said)))


def _title(metric: str) -> str:
    title = METRICS[metric].title if metric in METRICS else metric
    return title[:1].upper() + title[1:]


def _makers(entry: Entry, store: Store) -> Iterator[Provenance | None]:
    """Who trained, sampled and measured a row, and what it is compared with."""
    yield store.checkpoint_provenance(entry.training.spec, entry.point.step)
    for made in (entry.card, entry.baselines):
        yield from made.provenance if made else ()
