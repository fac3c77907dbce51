"""Intervals cover what they say, over few prompts and few training seeds."""

import numpy as np
import pytest
from scipy.stats import t as student

from evaluation.bootstrap import draw_weights, drawn_means, interval, lower, means, standard_error

REPEATS = 2000


def drawn(values):
    return drawn_means(values, draw_weights(*values.shape[1:]))


def simulated(seeds, units, of_seed, of_unit, of_image):
    """[REPEATS, seeds, units] of a mean of zero, from effects with these standard deviations."""
    rng = np.random.default_rng(1)
    return (
        rng.normal(0, of_seed, (REPEATS, seeds, 1))
        + rng.normal(0, of_unit, (REPEATS, 1, units))
        + rng.normal(0, of_image, (REPEATS, seeds, units))
    )


def coverage(values):
    low, high = interval(drawn(values)).T
    return np.mean((low <= 0) & (high >= 0))


@pytest.mark.parametrize("units", [2, 4, 8, 25])
def test_intervals_over_few_prompts_cover_what_they_say(units):
    assert 0.93 < coverage(simulated(1, units, 0, 0.05, 0.08)) < 0.97


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    ("of_seed", "of_unit", "of_image"),
    [(0, 0.05, 0.08), (0.04, 0, 1e-4), (0.04, 0.05, 0.08), (0.08 / np.sqrt(8), 0, 0.08)],
    ids=["noise of images only", "training seeds only", "both", "both alike"],
)
def test_intervals_over_few_training_seeds_cover_what_they_say(seeds, of_seed, of_unit, of_image):
    assert 0.92 < coverage(simulated(seeds, 8, of_seed, of_unit, of_image)) < 0.975


def test_noise_of_images_is_not_counted_twice_over_training_seeds():
    """It was: 1.7 times too wide."""
    values = simulated(5, 25, 0, 0, 0.08)
    assert 0.95 < standard_error(drawn(values)).mean() / (0.08 / np.sqrt(125)) < 1.25


@pytest.mark.parametrize("units", [4, 8, 25])
def test_the_interval_is_students(units):
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (400, 1, units))
    low, high = interval(drawn(values)).T
    of_student = student.ppf(0.975, units - 1) * values.std(2, ddof=1)[:, 0] / np.sqrt(units)
    assert np.median((high - low) / 2 / of_student) == pytest.approx(1, rel=0.03)
    assert (high + low) / 2 == pytest.approx(means(values), abs=0.05)


def test_the_level_is_95_percent_of_the_draws():
    draws = np.arange(1001.0)
    assert interval(draws).tolist() == [25, 975]
    assert lower(draws) == 25


def test_differences_are_paired_by_prompt():
    """A hard prompt moves both, and not their difference."""
    rng = np.random.default_rng(3)
    prompt = rng.normal(0, 1, 8)
    one, other = drawn(np.stack([prompt, prompt + 0.1])[:, None])
    assert interval(other - one) == pytest.approx([0.1, 0.1])
    assert np.ptp(interval(one)) > 1


def test_a_missing_prompt_costs_its_own_share_only():
    rng = np.random.default_rng(4)
    whole = rng.normal(0, 1, (500, 1, 9))
    gap = whole.copy()
    gap[:, :, 8] = np.nan
    wide, narrow = np.ptp(interval(drawn(gap)), 1), np.ptp(interval(drawn(whole[:, :, :8])), 1)
    assert np.median(wide / narrow) == pytest.approx(1, abs=0.05)
    assert means(gap) == pytest.approx(whole[:, 0, :8].mean(1))


def test_nothing_there_has_no_interval_and_one_unit_no_spread():
    nothing = drawn(np.full((1, 2, 3), np.nan))
    assert np.isnan(interval(nothing)).all()
    assert interval(drawn(np.array([[[0.5]]]))).tolist() == [[0.5, 0.5]]
