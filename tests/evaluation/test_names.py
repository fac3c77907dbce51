"""Names, order and hashes never decide: renamed and reordered, random sweeps have the same answer."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.sweetspot import Candidate, find
from tests.evaluation.synthetic import baselines, scorecard


def random_sweep(rng):
    """A grid or a search with up to two further axes and two seeds, some of it vetoed or failed; coarse numbers, which
    make ties of step, lr and score likely."""
    lrs = 1e-6 * 2.0 ** np.arange(rng.integers(1, 4))
    steps = 100 * np.arange(1, rng.integers(2, 5))
    ways = [("ddim", "pndm", "lms")[: rng.integers(1, 4)], (False, True)[: rng.integers(1, 3)]]
    seeds = range(rng.integers(1, 3))
    candidates, cards = [], []
    for lr, step, scheduler, prior, seed in (
        (*each, seed) for each in np.array(np.meshgrid(lrs, steps, *map(range, map(len, ways)))).T.reshape(-1, 4)
        for seed in seeds
    ):  # fmt: skip
        axes = {"scheduler": ways[0][int(scheduler)], "prior": ways[1][int(prior)]}
        curve = f"{lr}-{axes}"
        training = f"{lr}-{axes['prior']}-{seed}"
        words = f"{training}-{step}-{axes}"
        candidates.append(Candidate("", curve, training, int(step), lr, int(seed), words, axes=axes))
        s, t = rng.choice([0.4, 0.5, 0.6], size=2)
        card = scorecard(s, t + 0.2, rng, 0.05, prompts=4)
        if rng.random() < 0.05:
            card["values"]["copying"] = [[0.95, 0.96]] * 4
        cards.append(None if rng.random() < 0.05 else card)
    return candidates, cards


def renamed(candidates, rng):
    """Every name replaced by a random one, axes and their values too; what was equal stays equal."""
    new = {}

    def name(*old):
        return new.setdefault(old, f"{rng.integers(1 << 60):x}")

    return [
        replace(
            c,
            key=name(c.key),
            curve=name("curve", c.curve),
            training=name("training", c.training),
            axes={name("axis", axis): name(axis, value) for axis, value in reversed(c.axes.items())},
        )
        for c in candidates
    ]


@pytest.mark.parametrize("seed", range(25))
def test_names_and_order_never_decide(seed):
    rng = np.random.default_rng(seed)
    candidates, cards = random_sweep(rng)
    base = baselines(prompts=4)
    order = rng.permutation(len(candidates))
    others = renamed(candidates, rng)
    one = find(candidates, cards, [base] * len(cards))
    other = find([others[i] for i in order], [cards[i] for i in order], [base] * len(cards))
    assert (one.verdict, one.suggestion, one.reason) == (other.verdict, other.suggestion, other.reason)
    assert one.best == (None if other.best is None else order[other.best])
    assert one.region == tuple(order[list(other.region)])
    assert one.region_probability == other.region_probability
    for name in ("expected_score", "score", "p_best"):
        ours = np.array(getattr(one, name))
        np.testing.assert_array_equal(ours[order] if len(ours) else ours, getattr(other, name))
    if one.found:
        assert np.nanmax(one.expected_score) - one.expected_score[one.best] < 1e-9
