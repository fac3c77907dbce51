"""What is said of all checkpoints together, just below and just above where it begins to hold."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.fidelity import Fidelity, Points
from evaluation.sweetspot import find
from evaluation.verdicts import above_zero, grid_edges, is_flat, too_weak, why_none
from tests.evaluation.synthetic import grid, sweep

EDGE, FOUND, LITTLE = 2 / 3, 0.5, 0.05  # as they are: imported, a changed one would go unnoticed


def points_of(*places):
    """Points at (step, lr)."""
    candidates = [candidate for step, lr in places for candidate in grid((lr,), (step,))]
    return Points.of(candidates, np.arange(len(candidates)))


def fidelity_of(score, error=0.0, draws=1000, seed=0):
    """Scores with independent normal errors."""
    score = np.asarray(score, float)
    noise = error * np.random.default_rng(seed).standard_normal((len(score), draws))
    drawn = score[:, None] + noise
    return Fidelity(score, score, score, drawn, drawn, drawn)


def everybody(fidelity):
    return np.ones(len(fidelity.score), bool)


def flat(fidelity):
    return is_flat(fidelity, everybody(fidelity))


@pytest.mark.parametrize(("apart", "said"), [(LITTLE - 1e-6, True), (LITTLE + 1e-6, False)])
def test_flat_is_within_what_does_not_matter(apart, said):
    assert flat(fidelity_of([0.8, 0.8 + apart, 0.8 + apart / 2])) == said


@pytest.mark.parametrize(("error", "said"), [(0.015, True), (0.025, False)])
def test_flat_takes_evidence(error, said):
    """95 % of a difference of two are within 1.645 * sqrt(2) errors: .035 and .058."""
    assert flat(fidelity_of([0.8, 0.8], error)) == said


def test_a_single_checkpoint_that_nobody_knows_is_enough_to_say_nothing():
    known = fidelity_of([0.8] * 60)
    loud = known.score_draws.copy()
    loud[30] += np.linspace(-0.2, 0.2, 1000)
    assert flat(known)
    assert not flat(replace(known, score_draws=loud))
    assert not is_flat(known, np.arange(60) > 0)


@pytest.mark.parametrize("cells", [36, 108])
def test_flat_is_said_of_equal_checkpoints(cells):
    """It never was, with 36 or 108 of them."""
    candidates = grid(tuple(i * 1e-6 for i in range(1, cells // 6 + 1)))
    spots = [find(*sweep(candidates, lambda *_: 0.8, lambda *_: 0.8, noise=0.02, seed=seed)) for seed in range(5)]
    assert [spot.verdict for spot in spots] == ["flat"] * 5


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.06])
def test_flat_is_not_said_where_one_checkpoint_is_better(noise):
    """By .1 of the score."""
    candidates = grid((1e-6, 2e-6, 5e-6))
    better = lambda step, lr: 0.8 + 0.2286 * (step == 300 and lr == 2e-6)  # noqa: E731
    spots = [find(*sweep(candidates, lambda *_: 0.8, better, noise=noise, seed=seed)) for seed in range(8)]
    assert spots[0].score[8] - spots[0].score[0] == pytest.approx(0.1, abs=0.05)
    assert "flat" not in [spot.verdict for spot in spots]


def test_flat_is_seldom_said_where_it_is_just_untrue():
    """Two checkpoints whose true difference is the limit itself: in 5 %."""
    rng = np.random.default_rng(1)
    said = []
    for seed in range(400):
        estimate = np.array([0.8, 0.8 + LITTLE]) + 0.01 * rng.standard_normal(2)
        said.append(flat(fidelity_of(estimate, 0.01, seed=seed)))
    assert np.mean(said) < 0.08


@pytest.mark.parametrize(("low", "found"), [(FOUND, False), (FOUND + 1e-6, True)])
def test_a_sweet_spot_is_surely_above_one_half(low, found):
    fidelity = {"score": (0.6, low, 0.7), "s": (0.5, 0.4, 0.6), "t": (0.7, 0.6, 0.8)}
    weak = too_weak("lr=2e-6 at step 100", fidelity, np.array([100]), np.array([2e-6]))
    assert (weak is None) == found
    if weak:
        assert "0.60 [0.50, 0.70]: not surely above 0.5" in weak[0]
        assert weak[1] == "Train harder: lr=4e-6 or steps=200."
        lost = fidelity | {"t": (0.4, 0.3, 0.5)}
        assert "Train less" in too_weak("", lost, np.array([100]), np.array([2e-6]))[1]


@pytest.mark.parametrize(("s", "t", "more"), [(0.1, 0.9, True), (0.9, 0.1, False)])
def test_mush_is_never_called_a_sweet_spot(s, t, more):
    """A true score of .18 was called one in 68 to 100 %."""
    for seed in range(10):
        spot = find(*sweep(grid(), lambda *_: s, lambda *_: t, seed=seed))
        assert (spot.found, spot.verdict, spot.best, spot.more_steps) == (False, "none", None, more)
        assert "not surely above 0.5" in spot.reason
        assert max(spot.score) < 0.3


@pytest.mark.parametrize(("level", "above"), [(0.94, False), (0.96, True)])
def test_the_best_of_several_is_above_zero_at_95_percent(level, above):
    """Draws whose largest excess is uniform on 0..1."""
    levels = np.array([level, -1.0])
    draws = levels[:, None] + np.stack([np.linspace(0, 1, 1001), np.linspace(0, 1, 1001) - 1])
    assert above_zero(levels, draws) == above


@pytest.mark.parametrize("points", [1, 6, 36])
def test_above_zero_is_seldom_claimed_of_nothing(points):
    rng = np.random.default_rng(0)
    claimed = []
    for seed in range(200):
        known = fidelity_of(rng.standard_normal(points), 1.0, seed=seed)
        claimed.append(above_zero(known.s, known.s_draws))
    assert np.mean(claimed) < 0.09


def test_none_of_no_points_is_above_zero():
    assert not above_zero(np.empty(0), np.empty((0, 1000)))


@pytest.mark.parametrize(("share", "edges"), [(EDGE - 0.01, []), (EDGE + 0.01, ["more steps"])])
def test_the_grid_ends_too_early_where_the_best_lies_at_its_end_in_two_thirds(share, edges):
    points = points_of((100, 2e-6), (200, 2e-6), (300, 2e-6))
    p_best = np.array([0.0, 1 - share, share])
    curve = next(iter(points.curves))
    assert grid_edges(points, {curve: None}, p_best) == edges
    assert grid_edges(points, {curve: 300}, p_best) == []


@pytest.mark.parametrize(
    ("best", "edge"),
    [((100, 1e-6), "fewer steps lower lr"), ((300, 5e-6), "more steps higher lr"), ((200, 2e-6), "")],
)
def test_which_end_it_is(best, edge):
    places = [(step, lr) for step in (100, 200, 300) for lr in (1e-6, 2e-6, 5e-6)]
    points = points_of(*places)
    p_best = np.array([float((step, points.lrs[g]) == best) for g, step in enumerate(points.steps)])
    assert " ".join(grid_edges(points, dict.fromkeys(points.curves), p_best)) == edge


def test_a_curve_of_one_step_has_no_end():
    points = points_of((100, 1e-6), (100, 2e-6), (100, 5e-6))
    assert grid_edges(points, dict.fromkeys(points.curves), np.array([0.0, 1.0, 0.0])) == []


def test_why_there_is_none():
    points = points_of((100, 2e-6), (200, 2e-6))
    zero, good = fidelity_of([0.0, 0.0], 0.1), fidelity_of([0.8, 0.8], 0.01)
    allowed = np.array([True, True])
    assert "resembles the subject" in why_none(zero, allowed, points, [{}, {}])[0]
    ruled_out = why_none(good, ~allowed, points, [{"noise": "noisy"}, {"noise": "noisy", "div": "same"}])
    assert "noisier images" in ruled_out[0]
    assert "another scheduler" in ruled_out[1]
    lost = replace(good, score=zero.score, score_draws=zero.score_draws)
    assert "ignores the prompts" in why_none(lost, allowed, points, [{}, {}])[0]
    assert why_none(good, allowed, points, [{}, {}]) is None
