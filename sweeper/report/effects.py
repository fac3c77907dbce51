"""What each axis does to a metric, from the factorial grid: main effects and two-way interactions.

Of both only what noise does not give: a term of the variance is named where an F test says so, less what noise adds.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc, stdtrit

LEVELS = 12  # an axis with more values is no factor
CHANCE = 0.05  # that noise alone names one of the terms
KNOWN = 1_000_000  # degrees of freedom of a noise that was measured otherwise
Term = tuple[str, ...]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int_]


class Level(TypedDict):
    """The matched mean of one value of an axis."""

    mean: float
    low: float
    high: float
    blocks: int  # that it is the mean of


class Share(TypedDict):
    term: list[str]  # one axis, or two that interact
    share: float  # of the variance


class Effects(TypedDict):
    levels: dict[str, list[Level] | None]  # by axis; None where no block has all values
    shares: list[Share]  # of the terms that stand out from noise, largest first
    pairs: dict[str, list[list[float]]]  # by "a|b", where a and b interact: the mean for each pair of values


def effects(
    places: Sequence[Mapping[str, Any]],
    axes: Mapping[str, Sequence[Any]],
    values: Floats,
    noise: float | None = None,
) -> Effects:
    """`levels`: per axis, the matched mean of each of its values; `shares`: of the variance, by term; `pairs`: means.

    `places` and `values` hold one entry per cell; a cell whose value is NaN is left out. noise: the variance of one
    value, if that is known; it is what terms are tested against where the grid leaves no rest to see noise in.
    """
    kept = np.isfinite(values)
    cells = [place for place, keep in zip(places, kept, strict=True) if keep]
    y = values[kept]
    factors = {
        name: [position[cell[name]] for cell in cells]
        for name, levels in axes.items()
        if 1 < len(levels) <= LEVELS and (position := {v: i for i, v in enumerate(levels)})
    }
    codes = {name: np.array(code, dtype=int) for name, code in factors.items()}
    sizes = {name: len(axes[name]) for name in codes}
    shares = variance_shares(codes, sizes, y, noise)
    crossed = [share["term"] for share in shares if len(share["term"]) == 2]
    return {
        "levels": {name: matched_means(name, codes, sizes[name], y) for name in codes},
        "shares": shares,
        "pairs": {f"{a}|{b}": pair_means(codes[a], codes[b], sizes[a], sizes[b], y) for a, b in crossed},
    }


def matched_means(name: str, codes: dict[str, Codes], size: int, y: Floats) -> list[Level] | None:
    """The mean of `y` at each value of an axis, over the blocks of cells equal in every other axis.

    Only blocks with all values count, so that an unfinished cell favours none. `low` and `high` are the 95 % interval
    of the difference from the block's mean (Student's t over blocks): how far the effect varies with the other axes.
    """
    others = [code for other, code in codes.items() if other != name]
    blocks: dict[tuple[int, ...], Floats] = defaultdict(lambda: np.full(size, np.nan))
    for i, value in enumerate(y):
        blocks[tuple(code[i] for code in others)][codes[name][i]] = value
    whole = np.array([block for block in blocks.values() if np.isfinite(block).all()])
    if not len(whole):
        return None
    centred = whole - whole.mean(axis=1, keepdims=True)
    error = np.full(size, np.nan)
    if len(whole) > 1:
        error = stdtrit(len(whole) - 1, 0.975) * centred.std(axis=0, ddof=1) / np.sqrt(len(whole))
    mean = whole.mean() + centred.mean(axis=0)
    return [{"mean": m, "low": m - e, "high": m + e, "blocks": len(whole)} for m, e in zip(mean, error, strict=True)]


def variance_shares(codes: dict[str, Codes], sizes: dict[str, int], y: Floats, noise: float | None) -> list[Share]:
    """The share of the variance that each axis and each pair of axes explains, if it stands out from noise: sums of
    squares of type II.

    Noise is what the axes and their pairs leave over; else `noise`; else the pairs count as noise.
    """
    y = y - y.mean() if len(y) else y
    total = float(y @ y)
    if total <= 1e-12 * max(1, len(y)):
        return []
    terms: dict[Term, Floats] = {(): np.ones((len(y), 1))}
    terms |= {(name,): np.eye(sizes[name])[code][:, 1:] for name, code in codes.items()}
    mains = [term for term in terms if term]
    pairs = [(a, b) for (a,), (b,) in combinations(mains, 2)]
    terms |= {(a, b): (terms[a,][:, :, None] * terms[b,][:, None, :]).reshape(len(y), -1) for a, b in pairs}
    explained = _explained(terms, y)
    additive = explained([(), *mains])
    whole = explained([(), *mains, *pairs])
    rest = len(y) - whole.freedom
    left = total - whole.squares
    if not rest and noise is not None:
        rest = KNOWN
        left = noise * KNOWN
    elif not rest:
        pairs = []
        rest = len(y) - additive.freedom
        left = total - additive.squares
    if not rest:
        return []
    without = {term: explained([(), *(m for m in mains if m != term)]) for term in mains}
    found = {term: additive.less(fewer) for term, fewer in without.items()}
    found |= {pair: explained([(), *mains, pair]).less(additive) for pair in pairs}
    variance = max(left, 1e-12 * total) / rest
    kept = {term: fit.squares - fit.freedom * variance for term, fit in found.items()}
    limit = CHANCE / max(len(found), 1)
    sure = [t for t, fit in found.items() if fit.freedom and fit.chance(variance, rest) < limit]
    return [{"term": list(t), "share": kept[t] / total} for t in sorted(sure, key=lambda term: -kept[term])]


@dataclass(frozen=True)
class Fit:
    """What a linear model explains, or one explains more than another."""

    squares: float
    freedom: int  # independent columns

    def less(self, other: "Fit") -> "Fit":
        return Fit(self.squares - other.squares, self.freedom - other.freedom)

    def chance(self, variance: float, rest: float) -> float:
        """That noise of this variance, known with `rest` degrees of freedom, gives as much."""
        return float(fdtrc(self.freedom, rest, max(self.squares, 0.0) / self.freedom / variance))


def pair_means(a: Codes, b: Codes, rows: int, columns: int, y: Floats) -> list[list[float]]:
    """Mean of `y` for each pair of values; NaN where no cell finished."""
    count = np.zeros((rows, columns))
    total = np.zeros((rows, columns))
    np.add.at(count, (a, b), 1)
    np.add.at(total, (a, b), y)
    means: list[list[float]] = np.divide(total, count, out=np.full((rows, columns), np.nan), where=count > 0).tolist()
    return means


def _explained(terms: dict[Term, Floats], y: Floats) -> Callable[[list[Term]], Fit]:
    """A function from a choice of terms to what a linear model of them explains."""
    design = np.hstack(list(terms.values()))
    gram = design.T @ design
    projected = design.T @ y
    ends = np.cumsum([columns.shape[1] for columns in terms.values()])
    place = {term: np.arange(end - terms[term].shape[1], end) for term, end in zip(terms, ends, strict=True)}

    def explained(chosen: list[Term]) -> Fit:
        index = np.concatenate([place[term] for term in chosen])
        solution, _, rank, _ = np.linalg.lstsq(gram[np.ix_(index, index)], projected[index], rcond=1e-10)
        return Fit(float(projected[index] @ solution), int(rank))

    return explained
