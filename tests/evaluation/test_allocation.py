"""Where images go: never more than uniform evaluation takes, to the best cells, whatever their names and order."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation import allocation
from evaluation.allocation import FINALISTS, Scheme, Taken, after, first_round, next_round, ranking
from evaluation.surface import Candidates, select

ADAPTIVE = Scheme(prompts=16, fresh_prompts=16)


def images_of(part):
    """(prompt, image) of every image of a slice; class images have prompt -1."""
    prompts = range(part.first_prompt, part.first_prompt + part.prompts)
    shown = {(p, k) for p in prompts for k in range(part.first_image, part.first_image + part.images)}
    return shown | {(-1, k) for k in range(part.class_images)}


def spent(scheme, taken, ways):
    """Counted image by image."""
    total = 0
    for slice_of, counts in ((scheme.ranked, taken.ranked), (scheme.fresh, taken.fresh)):
        for number in range(counts.max()):
            total += len(images_of(slice_of(number))) * (int((counts > number).sum()) + ways)
    return total


def play(rank, curves, ways, scheme):
    """Round after round to the end."""
    rounds = [first_round(len(curves))]
    while True:
        grown = after(rank(rounds[-1]), curves, ways, scheme, rounds[-1])
        if grown == rounds[-1]:
            return rounds
        rounds.append(grown)


def sweep(seed=0, lrs=4, steps=5, ways=2, prompts=16, images=2):
    """Measured slices of a smooth sweep: s rises and t falls; a hill on top."""
    rng = np.random.default_rng(seed)
    rows = [(lr, step, way) for lr in range(lrs) for step in range(steps) for way in range(ways)]
    lr, step, way = np.array(rows).T
    along = lr + step + rng.normal(0, 0.3, len(lr))
    s = 1 / (1 + np.exp(2 - along))
    t = 1 / (1 + np.exp(along - 5))
    values = [
        true[:, None, None] + rng.normal(0, 0.05, (1, prompts, 1)) + rng.normal(0, 0.08, (len(lr), prompts, images))
        for true in (s, t)
    ]
    candidates = Candidates(1e-6 * 2.0**lr, 100.0 * 2**step, way[:, None], lr, *values, np.zeros(len(lr), bool))
    return candidates, lr * 10 + way


def masked(candidates, scheme, taken):
    """What the ranked slices show."""
    there = np.zeros(candidates.s.shape, bool)
    for cell in range(len(there)):
        for part in (scheme.ranked(n) for n in range(taken.ranked[cell])):
            for p, k in images_of(part):
                there[cell, p, k] = True
    return replace(candidates, s=np.where(there, candidates.s, np.nan), t=np.where(there, candidates.t, np.nan))


@pytest.mark.parametrize("cells", [1, 2, 3, 4, 7, 18, 108, 1000])
@pytest.mark.parametrize("prompts", [1, 2, 3, 16, 30])
def test_budget_is_never_exceeded(cells, prompts):
    for ways in {1, min(cells, 108)}:
        rng = np.random.default_rng([cells, prompts, ways])
        images = int(rng.integers(1, 4))
        scheme = Scheme(prompts, int(rng.choice([0, 5, 16])), images, class_images=int(rng.integers(2, 17)))
        curves = np.arange(cells) // int(rng.integers(1, cells + 1))
        allowed = int(rng.integers(1, cells + 1))
        rounds = play(lambda _: rng.permutation(cells)[:allowed].tolist(), curves, ways, scheme)  # noqa: B023
        assert spent(scheme, rounds[-1], ways) <= (prompts * images + scheme.class_images) * (cells + ways)
        for before, then in zip(rounds, rounds[1:], strict=False):
            assert (then.ranked >= before.ranked).all()
            assert (then.fresh >= before.fresh).all()


@pytest.mark.parametrize("prompts", [1, 2, 3, 4, 5, 8, 16, 17, 30])
def test_slices_never_overlap(prompts):
    for scheme in (Scheme(prompts, 0), Scheme(prompts, 16), Scheme(prompts, 3)):
        parts = [scheme.ranked(n) for n in range(allocation.LEVELS)]
        parts += [scheme.fresh(n) for n in range(allocation.MOST_FRESH)]
        every = [image for part in parts for image in images_of(part)]
        assert len(every) == len(set(every)) == sum(part.cost for part in parts)
        whole = set.union(*(images_of(scheme.ranked(n)) for n in range(scheme.whole)))
        assert whole == {(p, 0) for p in range(prompts)}
        fresh = {p for n in range(allocation.MOST_FRESH) for p, _ in images_of(scheme.fresh(n)) if p >= 0}
        first, count = (prompts, scheme.fresh_prompts) if scheme.fresh_prompts else (0, prompts)
        assert fresh == set(range(first, first + min(count, allocation.MOST_FRESH * -(-prompts // 2))))


def test_halves_go_on_and_the_best_few_get_fresh_images():
    """108 cells of 36 curves that keep their ranks: the published course of a sweep."""
    rounds = play(lambda _: list(range(108)), np.arange(108) // 3, 3, ADAPTIVE)
    counts = [[int((taken.ranked > n).sum()) for n in range(taken.ranked.max())] for taken in rounds]
    assert counts[:5] == [[108], [108, 54], [108, 54, 27], [108, 54, 27, 14], [108, 54, 27, 14, 4]]  # 7 are too dear
    last = rounds[-1]
    assert (last.fresh > 0).nonzero()[0].tolist() == list(range(FINALISTS))
    assert last.fresh[:FINALISTS].tolist() == [allocation.MOST_FRESH] * FINALISTS


def test_about_a_third_is_fresh():
    for cells, ways in ((9, 1), (12, 1), (24, 1), (54, 3)):
        purse = allocation.Purse(ADAPTIVE, cells, ways)
        last = play(lambda _, cells=cells: list(range(cells)), np.arange(cells) // 3, ways, ADAPTIVE)[-1]
        assert 0.25 < purse.spent_fresh(last) / purse.spent(last) < 0.42
        assert purse.spent(last) > 0.75 * purse.budget


@pytest.mark.parametrize("cells", [5, 6, 12, 40, 200])
def test_every_step_of_the_best_curve_gets_every_prompt_though_the_sweep_is_but_that_curve(cells):
    last = play(lambda _: list(range(cells)), np.zeros(cells, int), 1, ADAPTIVE)[-1]
    assert (last.ranked >= ADAPTIVE.whole).all()
    assert last.fresh[0]


@pytest.mark.parametrize("cells", [1, 2, 3, 4])
def test_the_smallest_sweeps_confirm_their_answer_before_they_look_for_an_onset(cells):
    last = play(lambda _: list(range(cells)), np.zeros(cells, int), 1, ADAPTIVE)[-1]
    assert last.fresh[0]


def test_a_curve_that_comes_to_the_fore_late_gets_every_prompt_too():
    curves = np.repeat([0, 1, 2, 3], 5)
    first = play(
        lambda taken: list(range(20)) if taken.ranked.max() < 3 else list(range(19, -1, -1)), curves, 1, ADAPTIVE
    )
    assert (first[-1].ranked[15:] >= ADAPTIVE.whole).all()


def test_nothing_allowed_nothing_spent():
    assert after([], np.zeros(3, int), 1, ADAPTIVE, first_round(3)) == first_round(3)


def test_where_the_first_is_vetoed_at_last_the_next_gets_fresh_images():
    """The budget of a middling sweep has room for that."""
    order = list(range(24))
    last = play(lambda taken: order[FINALISTS:] if taken.fresh.any() else order, np.arange(24) // 4, 1, ADAPTIVE)[-1]
    assert last.fresh[FINALISTS]


def test_ranking_is_by_expected_score_and_leaves_out_what_is_vetoed():
    candidates, _ = sweep()
    vetoed = np.zeros(40, bool)
    vetoed[select(candidates).choice] = True
    vetoed[3] = True
    candidates = replace(candidates, vetoed=vetoed)
    selection = select(candidates)
    ranked = ranking(candidates)
    assert ranked[0] == selection.choice
    assert sorted(ranked) == np.flatnonzero(~vetoed).tolist()
    assert (np.diff(selection.expected_score[ranked[1:]]) <= 0).all()


def test_an_early_veto_does_not_count():
    """With a quarter of the prompts there is too little to rule a cell out."""
    candidates, curves = sweep(ways=1)
    best = ranking(masked(candidates, ADAPTIVE, first_round(20)))[0]
    vetoed = np.arange(20) == best
    taken = first_round(20)
    assert (
        next_round(replace(masked(candidates, ADAPTIVE, taken), vetoed=vetoed), curves, 1, ADAPTIVE, taken).ranked[best]
        == 2
    )
    taken = Taken(2 * taken.ranked, taken.fresh)
    again = next_round(replace(masked(candidates, ADAPTIVE, taken), vetoed=vetoed), curves, 1, ADAPTIVE, taken)
    assert again.ranked[best] == 2 < again.ranked.max()


@pytest.mark.parametrize("seed", range(4))
def test_names_and_order_never_decide_and_nothing_is_changed(seed):
    candidates, curves = sweep(seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(curves))
    names = rng.permutation(1000)
    shuffled = replace(
        candidates.take(order), axes=names[candidates.axes[order]], training=names[candidates.training[order]]
    )
    taken = first_round(len(curves))
    for _ in range(4):
        before = masked(candidates, ADAPTIVE, taken)
        copies = [array.copy() for array in (before.s, taken.ranked, taken.fresh)]
        grown = next_round(before, curves, 2, ADAPTIVE, taken)
        moved = Taken(taken.ranked[order], taken.fresh[order])
        again = next_round(masked(shuffled, ADAPTIVE, moved), names[curves[order]], 2, ADAPTIVE, moved)
        assert again == Taken(grown.ranked[order], grown.fresh[order])
        for array, copy in zip((before.s, taken.ranked, taken.fresh), copies, strict=True):
            np.testing.assert_array_equal(array, copy)
        taken = grown
