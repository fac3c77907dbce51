"""Subject and prompt fidelity on a scale that makes subjects comparable: arrays from scorecards, s, t and score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from evaluation.bootstrap import Weights, average, draw_weights, drawn_means, means
from evaluation.scorecard import Baselines, Scorecard, Values
from evaluation.seeds import filled
from evaluation.vetoes import VETOES, Arrays

AnyScorecard = Scorecard | Mapping[str, Any]  # or the dictionary that its JSON holds
AnyBaselines = Baselines | Mapping[str, Any]
SCALED = ("dino", "clip_t")  # what s and t are computed of
NOTHING: Arrays = {"untuned": {}, "photographs": {}}


@dataclass(frozen=True)
class Scale:
    """The baselines by unit [U]: the untuned model's S0 and T0, the copy machine's Tc; and the photographs' SR."""

    s0: np.ndarray
    t0: np.ndarray
    tc: np.ndarray
    sr: float

    def denominators(self) -> np.ndarray:
        """Draws of SR - S0 and of T0 - Tc: [2, B]."""
        rows = np.stack([self.sr - self.s0, self.t0 - self.tc])[:, None]
        return drawn_means(rows, draw_weights(1, len(self.s0)))


@dataclass(frozen=True)
class Fidelity:
    """s, t and score of G points [G], and their bootstrap draws [G, B]."""

    s: np.ndarray
    t: np.ndarray
    score: np.ndarray
    s_draws: np.ndarray
    t_draws: np.ndarray
    score_draws: np.ndarray

    def take(self, points: np.ndarray) -> "Fidelity":
        return Fidelity(*(getattr(self, f.name)[points] for f in fields(self)))


def normalised(dino: np.ndarray, clip_t: np.ndarray, scale: Scale) -> Fidelity:
    """Fidelity of points from their values [G, R, U]: the same draws of units for points and baselines."""
    dino = filled(dino)
    clip_t = filled(clip_t)
    weights = draw_weights(*dino.shape[1:])
    s, s_draws = on_scale(dino, scale.s0, np.full_like(scale.s0, scale.sr), weights)
    t, t_draws = on_scale(clip_t, scale.tc, scale.t0, weights)
    return Fidelity(s, t, harmonic(s, t), s_draws, t_draws, harmonic(s_draws, t_draws))


def on_scale(values: np.ndarray, zero: np.ndarray, one: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """(mean - zero) / (one - zero), and its draws to first order: a ratio's own draws run away over few prompts."""
    length = one.mean() - zero.mean()
    drawn_zero, drawn_one = drawn_means(np.stack([zero, one])[:, None], weights.of_units)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = (means(values) - zero.mean()) / length
        moved = drawn_means(values, weights) - drawn_zero - level[:, None] * (drawn_one - drawn_zero)
        draws = level[:, None] + moved / length
    there = np.isfinite(values).any(1)
    for point in np.flatnonzero(there.any(1) & ~there.all(1)):
        level[point], draws[point] = on_own_units(values[point], there[point], zero, one, weights)
    return level, draws


def on_own_units(
    values: np.ndarray, there: np.ndarray, zero: np.ndarray, one: np.ndarray, weights: Weights
) -> tuple[float, np.ndarray]:
    """`on_scale` of a point [R, U] that lacks some units: the baselines of the same units, or a point that was shown
    the easy prompts only would look better than it is."""
    ends = np.where(there, np.stack([zero, one]), np.nan)[:, None]
    at_zero, at_one = means(ends)
    drawn_zero, drawn_one = drawn_means(ends, weights.of_units)
    level = float((means(values[None])[0] - at_zero) / (at_one - at_zero))
    moved = drawn_means(values[None], weights)[0] - drawn_zero - level * (drawn_one - drawn_zero)
    return level, level + moved / (at_one - at_zero)


def harmonic(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Harmonic mean of s and t, each within 0..1: below the untuned model or the copy machine nothing counts, and more
    alike than the photographs are among themselves is no better."""
    s = np.clip(s, 0, 1)
    t = np.clip(t, 0, 1)
    return 2 * s * t / np.where(s + t == 0, 1, s + t)


@dataclass(frozen=True)
class Points:
    """What is compared: the settings and steps, their training seeds taken together. In order of step, then lr."""

    keys: tuple[tuple[str, int], ...]  # (curve, step) of each point
    lrs: np.ndarray  # [G]
    seeds: tuple[int, ...]
    index: np.ndarray  # [G, R] the candidate of each point and seed, -1 where there is none

    @classmethod
    def of(cls, candidates: Sequence[Any], order: np.ndarray) -> "Points":
        """order: of the measured candidates; it decides between points of equal step and lr."""
        lr = {(c.curve, c.step): c.lr for c in candidates}
        first = {(candidates[i].curve, candidates[i].step): place for place, i in reversed(list(enumerate(order)))}
        keys = tuple(sorted(lr, key=lambda key: (key[1], lr[key], first.get(key, len(order)))))
        seeds = tuple(sorted({c.seed for c in candidates}))
        rows, columns = ({v: i for i, v in enumerate(values)} for values in (keys, seeds))
        index = np.full((len(keys), len(seeds)), -1)
        for i, c in enumerate(candidates):
            place = rows[c.curve, c.step], columns[c.seed]
            if index[place] >= 0:
                raise ValueError(f"two candidates for step {c.step} and seed {c.seed} of {c.curve!r}")
            index[place] = i
        return cls(keys, np.array([lr[key] for key in keys]), seeds, index)

    @classmethod
    def separate(cls, count: int) -> "Points":
        """Every candidate by itself."""
        return cls(tuple(("", i) for i in range(count)), np.zeros(count), (0,), np.arange(count)[:, None])

    @property
    def steps(self) -> np.ndarray:
        return np.array([step for _, step in self.keys])

    @property
    def first(self) -> np.ndarray:
        """A candidate of each point."""
        return self.index.max(1)

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """The points of each curve in order of step."""
        curves: dict[str, list[int]] = {}
        for g, (curve, _) in enumerate(self.keys):
            curves.setdefault(curve, []).append(g)
        return {curve: np.array(on) for curve, on in curves.items()}

    def take(self, values: np.ndarray) -> np.ndarray:
        """[C, ...] by candidate -> [G, R, ...] by point and seed, NaN where there is no candidate."""
        taken = values[self.index]
        taken[self.index < 0] = np.nan
        return taken

    def members(self, points: np.ndarray) -> tuple[int, ...]:
        """The candidates of `points`."""
        return tuple(sorted(int(i) for i in self.index[points].ravel() if i >= 0))

    def holding(self, candidates: Sequence[int]) -> np.ndarray:
        """The points of `candidates`."""
        return np.flatnonzero(np.isin(self.index, candidates).any(1))

    def candidate(self, point: int, score: Sequence[float]) -> int:
        """The candidate of `point` with the highest score."""
        return max((int(i) for i in self.index[point] if i >= 0), key=lambda i: np.nan_to_num(score[i], nan=-1))

    def spread(self, values: Sequence[Any], missing: Any) -> tuple[Any, ...]:
        """A value by point -> by candidate."""
        spread = {int(i): value for row, value in zip(self.index, values, strict=True) for i in row if i >= 0}
        return tuple(spread.get(i, missing) for i in range(int(self.index.max()) + 1))


@dataclass(frozen=True)
class Measurements:
    """Scorecards and baselines as arrays. Units are the prompts, or the images where there is one prompt."""

    dino: np.ndarray  # [C, U]
    clip_t: np.ndarray  # [C, U]
    images_of: dict[str, np.ndarray]  # dino and clip_t [C, U, K], image by image
    vetoed: dict[str, np.ndarray]  # metric -> [C, units, K]
    own: list[Arrays]  # of each candidate, the baselines of its way of sampling
    scale: Scale  # common to all ways of sampling
    prompts: int
    images: int  # per prompt
    unchecked: dict[str, int]  # veto -> how many candidates it cannot be applied to

    @property
    def units(self) -> int:
        return int(self.dino.shape[1])

    @property
    def photographs(self) -> int:
        return len(self.own[0]["photographs"]["dino"])

    def fidelity(self, points: Points) -> Fidelity:
        return normalised(points.take(self.dino), points.take(self.clip_t), self.scale)

    def by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """s and t [C, U, K] of every image. What a prompt adds to all candidates alike is left in."""
        s0, t0, tc = (float(values.mean()) for values in (self.scale.s0, self.scale.t0, self.scale.tc))
        return (self.images_of["dino"] - s0) / (self.scale.sr - s0), (self.images_of["clip_t"] - tc) / (t0 - tc)


def read_measurements(
    scorecards: Sequence[AnyScorecard | None], baselines: Sequence[AnyBaselines | None]
) -> Measurements | None:
    """Candidates that s and t cannot be computed of are NaN throughout; None where there is no other."""
    cards = [values_of(card) for card in scorecards]
    known = {id(b): arrays_of(b) for b in baselines if b is not None}
    bases = [known[id(b)] if b is not None else NOTHING for b in baselines]
    measured = [
        has_scale(base) and all(name in card for name in SCALED) for card, base in zip(cards, bases, strict=True)
    ]
    if not any(measured):
        return None
    cards = [card if there else {} for card, there in zip(cards, measured, strict=True)]
    anyone = bases[measured.index(True)]
    own = [base if has_scale(base) else anyone for base in bases]
    names = [name for name in dict.fromkeys((*SCALED, *VETOES)) if any(name in card for card in cards)]
    values = {name: stacked([card.get(name) for card in cards]) for name in names}
    prompts, images = np.asarray(cards[measured.index(True)]["dino"], float).shape
    return Measurements(
        dino=average(values["dino"]),
        clip_t=average(values["clip_t"]),
        images_of={name: values[name] for name in SCALED},
        vetoed={name: values[name] for name in VETOES if name in values},
        own=own,
        scale=common_scale(own, values["dino"].shape[1]),
        prompts=prompts,
        images=images,
        unchecked=unchecked(cards, own),
    )


def has_scale(base: Arrays) -> bool:
    return all(name in base[kind] for kind in base for name in SCALED)


def unchecked(cards: Sequence[Mapping[str, Values]], own: Sequence[Arrays]) -> dict[str, int]:
    """How many of the measured candidates a veto cannot be applied to, as a score that it needs is missing."""
    pairs = [(card, base) for card, base in zip(cards, own, strict=True) if card]
    counts = {
        name: sum(name not in card or not veto.applies(base) for card, base in pairs) for name, veto in VETOES.items()
    }
    return {name: count for name, count in counts.items() if count}


def common_scale(own: Sequence[Arrays], units: int) -> Scale:
    """One scale for all ways of sampling, so that they compare: the mean of their untuned baselines."""
    distinct = {b["untuned"]["dino"].tobytes() + b["untuned"]["clip_t"].tobytes(): b for b in own}
    each = [b for _, b in sorted(distinct.items())]
    return Scale(
        s0=np.mean([average(b["untuned"]["dino"]) for b in each], axis=0),
        t0=np.mean([average(b["untuned"]["clip_t"]) for b in each], axis=0),
        tc=np.broadcast_to(average(each[0]["photographs"]["clip_t"]), (units,)).copy(),
        sr=float(np.mean(each[0]["photographs"]["dino"])),
    )


def values_of(card: AnyScorecard | None) -> dict[str, Values]:
    """The values of a scorecard, or of the dictionary that its JSON holds; without metrics that have none."""
    if card is None:
        return {}
    values = card.values if isinstance(card, Scorecard) else card.get("values", {})
    return {name: v for name, v in values.items() if np.size(v)}


def arrays_of(baselines: AnyBaselines) -> Arrays:
    """Baselines, or the dictionary that their JSON holds, as arrays; the untuned model's by unit."""
    known = baselines.to_json() if isinstance(baselines, Baselines) else baselines
    return {
        "untuned": {name: by_unit(v) for name, v in known.get("untuned", {}).items() if np.size(v)},
        "photographs": {name: np.asarray(v, float) for name, v in known.get("photographs", {}).items()},
    }


def by_unit(values: Values) -> np.ndarray:
    """[prompt, image] -> [U, K]; of a single prompt the images are the units."""
    array = np.asarray(values, float)
    return array.T if len(array) == 1 else array


def stacked(values: Sequence[Values | None]) -> np.ndarray:
    """Values of every candidate [C, U, K], NaN for None. Raises ValueError if their shapes differ."""
    arrays = [None if v is None else by_unit(v) for v in values]
    shapes = {a.shape for a in arrays if a is not None}
    if len(shapes) > 1:
        raise ValueError(f"scorecards of different prompts or images: {sorted(shapes)}")
    missing = np.full(shapes.pop(), np.nan)
    return np.stack([missing if a is None else a for a in arrays])
