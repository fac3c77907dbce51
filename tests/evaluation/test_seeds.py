"""Points with more training seeds than others are compared by those that they share."""

import numpy as np
import pytest

from evaluation.bootstrap import draw_weights, drawn_means, interval, means
from evaluation.seeds import filled
from evaluation.sweetspot import find
from tests.evaluation.synthetic import baselines, grid, scorecard


def simulated(rng, common=0.1, own=0.01, of_image=0.02, points=6, seeds=3, units=8):
    """Points alike whose trainings differ by their seed (`common` to all points, `own` of each); most lack seeds."""
    values = (
        common * rng.standard_normal((1, seeds, 1))
        + own * rng.standard_normal((points, seeds, 1))
        + of_image * rng.standard_normal((points, seeds, units))
    )
    values[points // 2 :, 1:] = np.nan
    return values


def test_what_seeds_have_in_common_is_no_difference_between_points():
    rng = np.random.default_rng(0)
    apart, without = [], []
    for _ in range(200):
        values = simulated(rng)
        apart.append(np.subtract(*means(filled(values))[[0, -1]]))
        without.append(np.subtract(*means(values)[[0, -1]]))
    assert np.std(apart) < 0.025
    assert np.std(without) > 0.06


def test_the_interval_of_the_difference_covers_it():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        values = filled(simulated(rng, own=0.0))
        one, other = drawn_means(values, draw_weights(3, 8))[[0, -1]]
        low, high = interval(one - other)
        covered.append(low <= 0 <= high)
    assert np.mean(covered) > 0.9


def test_without_effects_of_seeds_hardly_anything_is_moved():
    rng = np.random.default_rng(2)
    values = simulated(rng, common=0.0, own=0.0)
    assert means(filled(values)) == pytest.approx(means(values), abs=0.01)


@pytest.mark.parametrize("present", [np.ones((2, 3)), np.array([[1, 0, 0], [0, 1, 1]]), np.zeros((2, 3))])
def test_whole_ones_stay_and_what_shares_no_seed_is_not_moved(present):
    values = np.where(present[:, :, None] == 1, np.arange(6.0).reshape(2, 3, 1), np.nan) + np.zeros(4)
    found = filled(values)
    assert np.array_equal(np.where(present[:, :, None] == 1, found, 0), np.nan_to_num(values))
    assert means(found) == pytest.approx(means(values), nan_ok=True)


def test_a_lucky_seed_alone_is_not_the_best():
    """Seed 1 adds .25 to everything; the worse setting was trained with it only."""
    candidates = [c for c in grid((1e-6, 2e-6, 5e-6), (100, 200), seeds=(0, 1)) if c.lr != 5e-6 or c.seed == 1]
    rng = np.random.default_rng(0)
    cards = [scorecard({1e-6: 0.6, 2e-6: 0.6, 5e-6: 0.5}[c.lr] + 0.25 * c.seed, 0.9, rng, 0.01) for c in candidates]
    spot = find(candidates, cards, [baselines()] * len(candidates))
    assert candidates[spot.best].lr != 5e-6
