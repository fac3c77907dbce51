"""Which checkpoints get more images: a few for every cell, more for the better half, fresh ones for the last.

Images come in slices of fixed composition, the same prompts and noise for whoever gets them:

    1          a quarter of the prompts, an image each; every cell has it
    2, 3       the next quarter, and the other half
    4, 5, ...  all prompts with other noise, twice as many images each time
    fresh      other prompts, half as many; the first one has images of the class prompt too. No rank depends on it

After each round the cells are ranked by their expected score (surface.py), and the better half gets the next slice. The
curve of the first gets every prompt at each of its steps, so that an onset can be told. Then the best few get fresh
slices. The budget is what `images_per_prompt` images of every prompt take for every cell and every baseline. Arrays in,
arrays out: no plans and no files; names and order have no say.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.scheme import Part, Scheme
from evaluation.surface import Candidates, canonical_order, select

Ints = NDArray[np.int64]

FINALISTS = 4
LEVELS = 7  # slices that a cell is ranked by, at most: 16 images of each prompt
MOST_FRESH = 8  # slices
FRESH_SHARE = 1 / 3  # of the budget


@dataclass(frozen=True)
class Wish:
    """So many slices for a cell; more where it has more."""

    cell: int
    ranked: int = 0
    fresh: int = 0


@dataclass(frozen=True, eq=False)
class Taken:
    """How many slices each of C cells has, or is to have after a round."""

    ranked: Ints  # [C]
    fresh: Ints  # [C]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Taken):
            return NotImplemented
        return np.array_equal(self.ranked, other.ranked) and np.array_equal(self.fresh, other.fresh)

    def has(self, wish: Wish) -> bool:
        return bool(self.ranked[wish.cell] >= wish.ranked and self.fresh[wish.cell] >= wish.fresh)


def first_round(cells: int) -> Taken:
    return Taken(np.ones(cells, np.int64), np.zeros(cells, np.int64))


@dataclass(frozen=True)
class Purse:
    """What slices cost. A slice that some cell has, the baseline of every way of sampling has too."""

    scheme: Scheme
    cells: int
    ways: int  # of sampling

    @property
    def budget(self) -> int:
        """Images: what all cells and baselines take where they are treated alike."""
        return self.scheme.per_cell * (self.cells + self.ways)

    def spent(self, taken: Taken) -> int:
        return self._of(self.scheme.ranked, taken.ranked) + self.spent_fresh(taken)

    def spent_fresh(self, taken: Taken) -> int:
        return self._of(self.scheme.fresh, taken.fresh)

    def _of(self, part: Callable[[int], Part], counts: Ints) -> int:
        slices = range(int(counts.max(initial=0)))
        return sum(part(number).cost * (int((counts > number).sum()) + self.ways) for number in slices)

    def buy(self, taken: Taken, wishes: Iterable[Wish], limit: float) -> Taken:
        """With the wishes, one after the other, up to the first for which `limit` images do not suffice."""
        ranked = taken.ranked.copy()
        fresh = taken.fresh.copy()
        left = limit - self.spent(taken)
        for wish in wishes:
            left -= self._price(self.scheme.ranked, ranked, wish.cell, wish.ranked)
            left -= self._price(self.scheme.fresh, fresh, wish.cell, wish.fresh)
            if left < 0:
                break
            ranked[wish.cell] = max(ranked[wish.cell], wish.ranked)
            fresh[wish.cell] = max(fresh[wish.cell], wish.fresh)
        return Taken(ranked, fresh)

    def _price(self, part: Callable[[int], Part], counts: Ints, cell: int, wanted: int) -> int:
        bought = int(counts.max())
        return sum(part(n).cost * (1 + self.ways * (n >= bought)) for n in range(int(counts[cell]), wanted))


def next_round(candidates: Candidates, curves: NDArray[np.generic], ways: int, scheme: Scheme, taken: Taken) -> Taken:
    """What every cell is to have after the next round; equal to `taken` where there is no other.

    candidates: C cells, with what was measured of their ranked slices; a veto counts from the second slice on.
    curves [C]: equal for cells that differ in nothing but the step. ways: of sampling, each with a baseline.
    """
    early = taken.ranked < 2
    return after(ranking(replace(candidates, vetoed=candidates.vetoed & ~early)), curves, ways, scheme, taken)


def after(ranked: Sequence[int], curves: NDArray[np.generic], ways: int, scheme: Scheme, taken: Taken) -> Taken:
    """`next_round` for cells that are ranked already, the best first; those that are vetoed are left out."""
    if not ranked:
        return taken
    purse = Purse(scheme, len(curves), ways)
    if not taken.fresh.any():
        curve = [cell for cell in ranked if curves[cell] == curves[ranked[0]]]
        most = int(np.unique(curves, return_counts=True)[1].max())
        grown = halved(purse, taken, ranked, curve, most)
        if grown != taken:
            return grown
    return refreshed(purse, taken, ranked[:FINALISTS])


def ranking(candidates: Candidates) -> list[int]:
    """The cells that are measured and not vetoed, by expected score from the best on."""
    selection = select(candidates)
    if selection.choice is None:
        return []
    order = canonical_order(candidates)
    order = order[np.isfinite(selection.expected_score[order])]
    by_score = order[np.argsort(-selection.expected_score[order], kind="stable")]
    return [selection.choice, *(int(cell) for cell in by_score if cell != selection.choice)]


def halved(purse: Purse, taken: Taken, ranked: Sequence[int], curve: Sequence[int], most: int) -> Taken:
    """The next slice for the better half of those that had the last one; every prompt for the curve of the first.

    most: cells of a curve. The images of such a curve are put by until one has them.
    """
    scheme = purse.scheme
    level = int(taken.ranked.max())
    best = ranked[:FINALISTS]
    fresh = scheme.fresh(0).cost
    limit = purse.budget - max(FRESH_SHARE * purse.budget, fresh * (len(best) + purse.ways))
    half = ranked[: max(len(best), -(-len(taken.ranked) // 2**level))] if level < LEVELS else []
    whole = [Wish(cell, ranked=scheme.whole) for cell in curve]
    put_by = sum(scheme.ranked(number).cost for number in range(1, scheme.whole)) * (most + purse.ways)
    next_level = [Wish(cell, ranked=level + 1) for cell in half]
    for wishes, least, left in (
        (next_level, len(best), limit - put_by),
        (whole, len(whole), purse.budget - fresh * (1 + purse.ways)),
        (next_level, len(best), limit),
        (next_level, min(2, len(best)), limit),
        ([Wish(cell, ranked=level) for cell in best], 1, limit),
    ):
        grown = purse.buy(taken, wishes, left)
        if grown != taken and all(grown.has(wish) for wish in wishes[:least]):
            return grown
    return taken


def refreshed(purse: Purse, taken: Taken, best: Sequence[int]) -> Taken:
    """A fresh slice for the best few, the first of them first; once they have it, more."""
    grown = purse.buy(taken, (Wish(cell, fresh=1) for cell in best), purse.budget)
    if grown != taken:
        return grown
    limit = min(purse.budget, purse.spent(taken) - purse.spent_fresh(taken) + FRESH_SHARE * purse.budget)
    return purse.buy(taken, (Wish(cell, fresh=n) for n in range(2, MOST_FRESH + 1) for cell in best), limit)
