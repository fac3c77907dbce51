"""The rounds of adaptive evaluation: what every cell has been given, and what it is given next.

NAME/rounds/SIGNATURE.json   the decisions, each written before anything is sampled for it; SIGNATURE is of the cells
                             that have a first slice and of the scheme

A decision depends on the slices that this sweep asked for and on nothing else that the store may hold. So a sweep that
was killed goes on with its last decision, and comes to the same ones as a sweep that was not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.allocation import Taken, first_round, next_round
from evaluation.fidelity import read_measurements
from evaluation.fresh import Estimate, fresh_fidelity
from evaluation.scheme import Scheme, scheme_of, slice_of
from evaluation.scorecard import Baselines, Scorecard
from evaluation.slices import join_baselines, join_scorecards
from evaluation.spec import Adaptive, EvalSpec, show
from evaluation.surface import Candidates
from evaluation.sweetspot import Candidate, find
from sweeper.plan.types import Plan, Point, Training
from sweeper.store import Store, claim
from trainers.files import read_json, understood, write_json
from trainers.spec import signature

ONLY_NOISE = "Of the fresh images the noise alone is fresh: with prompts of one's own, they are those that chose."
NOT_COMPARED = ("lr", "steps", "seed", "eval_every")  # what is no axis of a surface beside lr and steps


@dataclass(frozen=True)
class Place:
    """A cell that takes part: a checkpoint under one way of sampling it, with its first slice."""

    training: Training
    point: Point

    @property
    def curve(self) -> str:
        return f"{self.training.spec.signature}-{self.point.signature}"

    @property
    def key(self) -> str:
        return f"{self.curve}-{self.point.step}"

    def at(self, evaluation: EvalSpec) -> Point:
        """The same checkpoint and way of sampling, with another slice."""
        return Point(self.point.step, self.point.sample, evaluation, self.point.use_ema)


@dataclass(frozen=True)
class Rounds:
    """Of the cells that compare, in order of their keys."""

    places: tuple[Place, ...]
    store: Store
    folder: Path  # of the sweep

    @property
    def evaluation(self) -> EvalSpec:
        return self.places[0].point.evaluation

    @property
    def scheme(self) -> Scheme:
        return scheme_of(self.evaluation)

    @cached_property
    def path(self) -> Path:
        made_of = (self.evaluation, self.evaluation.adaptive, [place.key for place in self.places])
        return self.folder / "rounds" / f"{signature(*made_of)}.json"

    @cached_property
    def ways(self) -> dict[Path, Place]:
        """A cell of each way of sampling, by the folder of its baseline."""
        found: dict[Path, Place] = {}
        for place in self.places:
            found.setdefault(self.store.baselines(place.training.spec, place.point), place)
        return found

    @property
    def decided(self) -> list[Taken]:
        """What the cells were to have after each round, the first one included."""
        first = first_round(len(self.places))
        if not self.path.exists():
            return [first]
        with understood(self.path):
            rounds = read_json(self.path)["rounds"]
            return [first, *(Taken(*(np.array(counts, np.int64) for counts in each)) for each in rounds)]

    @property
    def ended(self) -> bool:
        """Whether the last decision was that there is no other round."""
        if not self.path.exists():
            return False
        with understood(self.path):
            return bool(read_json(self.path)["ended"])

    def decide(self) -> None:
        """The next decision, unless another process has written it meanwhile."""
        before = self.decided
        with claim(self.path):
            if len(self.decided) > len(before) or self.ended:
                return
            taken = before[-1]
            grown = next_round(self.candidates(taken), self._curves, len(self.ways), self.scheme, taken)
            rounds = [*before[1:], *([] if grown == taken else [grown])]
            counts = [[each.ranked.tolist(), each.fresh.tolist()] for each in rounds]
            write_json(self.path, {"rounds": counts, "ended": grown == taken})

    @property
    def _curves(self) -> NDArray[np.str_]:
        return np.array([place.curve for place in self.places])

    def asked(self, taken: Taken, cell: int) -> list[EvalSpec]:
        """The slices that a cell is to have; the first is that of its own point."""
        scheme = self.scheme
        parts = [scheme.ranked(number) for number in range(1, int(taken.ranked[cell]))]
        parts += [scheme.fresh(number) for number in range(int(taken.fresh[cell]))]
        return [self.places[cell].point.evaluation, *(slice_of(self.evaluation, part) for part in parts)]

    def layout(self, taken: Taken, fresh: bool = False) -> list[EvalSpec]:
        """The slices that some cell has, and so every baseline."""
        scheme = self.scheme
        if fresh:
            return [slice_of(self.evaluation, scheme.fresh(n)) for n in range(int(taken.fresh.max()))]
        later = range(1, int(taken.ranked.max()))
        return [self.evaluation, *(slice_of(self.evaluation, scheme.ranked(n)) for n in later)]

    def missing(self, taken: Taken) -> dict[Training, tuple[Point, ...]]:
        """What is still to be sampled. Where a checkpoint was deleted, all that its cell has: on a GPU the one that
        is trained in its place is another."""
        found: dict[str, tuple[Training, dict[Point, None]]] = {}
        for cell, place in enumerate(self.places):
            spec = place.training.spec
            points = [place.at(evaluation) for evaluation in self.asked(taken, cell)]
            lacking = [point for point in points if self.store.scorecard(spec, point) is None]
            if lacking and self.store.untrained(place.training, lacking):
                lacking = points
            if lacking:
                found.setdefault(spec.signature, (place.training, {}))[1].update(dict.fromkeys(lacking))
        return {training: tuple(points) for training, points in found.values()}

    def missing_baselines(self, taken: Taken) -> tuple[Point, ...]:
        slices = [*self.layout(taken), *self.layout(taken, fresh=True)]
        points = [(place, place.at(evaluation)) for place in self.ways.values() for evaluation in slices]
        return tuple(point for place, point in points if not self.store.has_baselines(place.training.spec, point))

    def card(self, taken: Taken, cell: int, fresh: bool = False) -> Scorecard | None:
        """The joined slices by which a cell is ranked, with the class images; or the fresh ones."""
        place = self.places[cell]
        layout = self.layout(taken, fresh)
        own = layout[: int((taken.fresh if fresh else taken.ranked)[cell])]
        found = ((evaluation, self.store.scorecard(place.training.spec, place.at(evaluation))) for evaluation in own)
        slices = [(evaluation, card) for evaluation, card in found if card]
        if not slices:
            return None
        card = join_scorecards(slices, layout)
        if not fresh and (of_class := self.card(taken, cell, fresh=True)) and "pres" in of_class.values:
            card.values["pres"] = of_class.values["pres"]
            card.metrics["pres"] = of_class.metrics["pres"]
            card.images["pres"] = of_class.images["pres"]
        return card

    def baselines(self, taken: Taken, cell: int, fresh: bool = False) -> Baselines | None:
        """Of the same slices, for the cell's way of sampling."""
        place = self.places[cell]
        layout = self.layout(taken, fresh)
        found = ((each, self.store.baseline_values(place.training.spec, place.at(each))) for each in layout)
        slices = [(evaluation, baselines) for evaluation, baselines in found if baselines]
        if not slices:
            return None
        joined = join_baselines(slices, layout)
        of_class = self.baselines(taken, cell, fresh=True) if taken.fresh.any() and not fresh else None
        return joined if of_class is None else _with_pres(joined, of_class)

    def candidates(self, taken: Taken) -> Candidates:
        """What the ranked slices show; nothing where there is no scale to measure on."""
        cells = range(len(self.places))
        cards = [self.card(taken, cell) for cell in cells]
        baselines = [self.baselines(taken, cell) for cell in cells]
        specs = [place.training.spec for place in self.places]
        points = [place.point for place in self.places]
        named = [
            Candidate(str(i), place.curve, spec.signature, place.point.step, spec.lr)
            for i, (place, spec) in enumerate(zip(self.places, specs, strict=True))
        ]
        spot = find(named, cards, baselines)
        measurements = read_measurements(cards, baselines)
        vetoes = spot.vetoes or ((),) * len(named)
        nothing = np.full((len(cards), 1, 1), np.nan)
        s, t = measurements.by_image() if measurements and spot.s else (nothing, nothing)
        return Candidates(
            lr=np.array([spec.lr for spec in specs]),
            steps=np.array([float(point.step) for point in points]),
            axes=_axes(self.places),
            training=np.array([spec.signature for spec in specs]),
            s=s,
            t=t,
            vetoed=np.array([bool(each) for each in vetoes]),
        )

    def fresh_score(self, taken: Taken, cell: int) -> dict[str, Estimate] | None:
        """s, t and score of a cell on its fresh images; None where it has none."""
        card = self.card(taken, cell, fresh=True)
        if card is None:
            return None
        cards: list[Scorecard | None] = [None] * len(self.places)
        cards[cell] = card
        found = read_measurements(cards, [self.baselines(taken, i, fresh=True) for i in range(len(cards))])
        return fresh_fidelity(found.dino[cell], found.clip_t[cell], found.scale) if found else None


def _with_pres(joined: Baselines, fresh: Baselines) -> Baselines:
    if "pres" in fresh.untuned:
        joined.untuned["pres"] = fresh.untuned["pres"]
    return joined


def _axes(places: Sequence[Place]) -> NDArray[np.str_]:
    """The values [C, A] of the axes that vary, lr and steps left out."""
    params = [dict(place.training.nearest_cell(place.point).params) for place in places]
    names = sorted({name for each in params for name in each} - set(NOT_COMPARED))
    columns = [[show(each.get(name)) for each in params] for name in names]
    varying = [column for column in columns if len(set(column)) > 1]
    return np.array(varying, dtype=str).T if varying else np.empty((len(places), 0), dtype=str)


@dataclass(frozen=True)
class Given:
    """What a cell has been given after the last decision."""

    rounds: Rounds
    taken: Taken
    cell: int

    @property
    def card(self) -> Scorecard | None:
        return self.rounds.card(self.taken, self.cell)

    @property
    def baselines(self) -> Baselines | None:
        return self.rounds.baselines(self.taken, self.cell)

    @property
    def note(self) -> str:
        """What a reader of the numbers must know of the rounds; empty where there is nothing."""
        if not self.rounds.ended:
            return "Not all rounds are sampled yet: the same command goes on from there."
        return "" if self.rounds.scheme.fresh_prompts else ONLY_NOISE

    @property
    def prompts(self) -> int:
        """How many of those that cells are ranked by it was shown."""
        scheme = self.rounds.scheme
        return scheme.cuts[min(int(self.taken.ranked[self.cell]), scheme.whole)]

    @property
    def fresh(self) -> dict[str, tuple[float, float, float]]:
        """Mean, low and high of s, t and score on fresh images; empty where there are none."""
        found = self.rounds.fresh_score(self.taken, self.cell) or {}
        return {name: (each.mean, each.low, each.high) for name, each in found.items()}


def given(plan: Plan, store: Store, folder: Path) -> dict[tuple[str, Point], Given]:
    """By signature of the training and point, of the cells that take part in rounds."""
    found: dict[tuple[str, Point], Given] = {}
    for rounds in rounds_of(plan, store, folder):
        taken = rounds.decided[-1]
        for cell, place in enumerate(rounds.places):
            found[place.training.spec.signature, place.point] = Given(rounds, taken, cell)
    return found


def rounds_of(plan: Plan, store: Store, folder: Path) -> list[Rounds]:
    """Of every group of cells that compare, as far as they are scored on their first slice."""
    groups: dict[tuple[Any, ...], list[Place]] = {}
    for place in _places(plan):
        spec = place.training.spec
        if store.scorecard(spec, place.point) and store.has_baselines(spec, place.point):
            adaptive: Adaptive | None = place.point.evaluation.adaptive
            groups.setdefault((spec.model, spec.subject, place.point.evaluation, adaptive), []).append(place)
    return [Rounds(tuple(sorted(places, key=lambda place: place.key)), store, folder) for places in groups.values()]


def _places(plan: Plan) -> Iterator[Place]:
    for training in plan.trainings:
        for point in training.points:
            if point.evaluation.adaptive:
                yield Place(training, point)
