"""Overfitting is said to begin where prompt fidelity falls, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.fidelity import Fidelity, Scale, normalised
from evaluation.onset import falls, overfit_onset
from evaluation.sweetspot import find
from tests.evaluation.synthetic import grid, sweep

FALL, RISE, ENOUGH = 0.05, 0.05, 16  # as they are: imported, a changed one would go unnoticed
FALLEN = (0.91, 0.91, 0.91, 0.84, 0.70, 0.63)  # of the miniature's face with batch_size=1 and lr=5e-6


def curve(s, t, prompts=16, images=2, image_sd=0.1, own=0.05, seed=0):
    """Fidelity of a curve whose prompts are hard or easy together (.05) and each step by itself (`own`)."""
    rng = np.random.default_rng(seed)
    common = 0.05 * rng.standard_normal(prompts)

    def measured(levels):
        noise = np.hypot(own, image_sd / np.sqrt(images)) * rng.standard_normal((len(levels), prompts))
        return (np.asarray(levels)[:, None] + common + noise)[:, None]

    zero = np.zeros(prompts)
    return normalised(measured(s), measured(t), Scale(zero, zero + 1, zero, 1.0))


def onset_of(s, t, **how):
    return overfit_onset(100 * np.arange(1, 1 + len(t)), curve(s, t, **how))


@pytest.mark.parametrize("steps", [6, 12, 24])
@pytest.mark.parametrize("noise", [{}, {"image_sd": 0.4, "own": 0.2}], ids=["usual", "four times the noise"])
def test_on_a_plateau_no_overfitting_begins(steps, noise):
    """It did in 25, 67 and 97 % of such curves."""
    found = [onset_of([0.8] * steps, [0.9] * steps, seed=seed, **noise) for seed in range(40)]
    assert sum(step is not None for step in found) <= 2


def test_where_prompts_are_lost_overfitting_begins():
    found = [onset_of([0.81] * 6, FALLEN, seed=seed) for seed in range(40)]
    assert set(found) <= {400, 500}
    assert found.count(500) > 30  # .84 is .07 below the best, hardly more than what matters


def exact(s, t, error=0.0):
    """A curve that is known up to an independent error of each point."""
    s = np.asarray(s, float)
    t = np.asarray(t, float)
    spread = error * np.concatenate([np.eye(2 * len(s)), -np.eye(2 * len(s))]).T
    draws = [level[:, None] + part for level, part in ((s, spread[: len(s)]), (t, spread[len(s) :]))]
    return Fidelity(s, t, s * t, *draws, draws[0] * draws[1])


@pytest.mark.parametrize(("fall", "step"), [(FALL - 1e-6, None), (FALL + 1e-6, 300)])
def test_a_fall_counts_from_its_margin_on(fall, step):
    t = [0.9, 0.9, 0.9 - fall]
    assert overfit_onset(np.array([100, 200, 300]), exact([0.8] * 3, t)) == step


@pytest.mark.parametrize(("rise", "step"), [(RISE - 1e-6, 200), (RISE + 1e-6, None)])
@pytest.mark.parametrize("at", [1, 2])
def test_while_the_subject_is_still_being_learned_nothing_begins(rise, step, at):
    """At the step of the fall or later."""
    s = np.array([0.5, 0.5, 0.5])
    s[at:] += rise
    assert overfit_onset(np.array([100, 200, 300]), exact(s, [0.9, 0.7, 0.7])) in (step, 300 if at == 1 else step)
    assert overfit_onset(np.array([100, 200]), exact(s[[0, at]], [0.9, 0.7])) == step


@pytest.mark.parametrize(("s", "step"), [(-1e-6, None), (1e-6, 200)])
def test_what_was_not_learned_does_not_overfit(s, step):
    assert overfit_onset(np.array([100, 200]), exact([s, s], [0.9, 0.7])) == step


def test_the_fall_is_from_the_best_before():
    assert falls(np.array([0.5, 0.9, 0.8, 0.95])).tolist() == pytest.approx([-np.inf, -0.4, 0.1, -0.05])


def test_steps_without_scores_are_passed_over():
    s, t = np.array([0.8, np.nan, 0.8]), np.array([0.9, np.nan, 0.7])
    assert overfit_onset(np.array([100, 200, 300]), exact(s, t)) == 300
    assert overfit_onset(np.array([100, 200, 300]), exact(s, t), after=2) is None
    assert overfit_onset(np.array([100]), exact([0.8], [0.9])) is None


def spot_of(prompts, t, s=lambda *_: 0.9, **how):
    return find(*sweep(grid(), s, t, prompts=prompts, **how))


@pytest.mark.parametrize(("prompts", "onset"), [(ENOUGH - 1, None), (ENOUGH, 500)])
def test_on_few_prompts_none_is_claimed_and_the_answer_says_why(prompts, onset):
    spot = spot_of(prompts, lambda step, _: 1.0 if step < 500 else 0.4)
    assert spot.onset == {"lr=2e-06": onset}
    assert spot.onset_told == (onset is not None)
    assert any("that takes 16 prompts" in note for note in spot.notes) == (onset is None)
    assert ("overfitting" in spot.reason) == (onset is not None)


def test_of_one_prompt_the_images_count():
    assert spot_of(1, lambda step, _: 1.0 if step < 500 else 0.4, images=ENOUGH).onset_told
    assert not spot_of(1, lambda step, _: 1.0 if step < 500 else 0.4, images=ENOUGH - 1).onset_told


def test_overfitting_does_not_begin_inside_what_is_as_good():
    """s makes up for what t loses at step 400: the score is the same."""
    step = 100 * np.arange(1, 7)
    s, t = [0.8] * 6, [0.95, 0.95, 0.95, 0.8, 0.8, 0.4]
    assert overfit_onset(step, exact(s, t)) == 400
    assert overfit_onset(step, exact(s, t), after=4) == 600
    assert overfit_onset(step, exact(s, t), after=5) is None
    for seed in range(10):
        spot = spot_of(16, lambda step, _: 0.9 - step / 3000, lambda step, _: 0.5 + step / 10000, seed=seed, noise=0.2)
        onset = spot.onset["lr=2e-06"]
        assert onset is None or all(grid()[i].step < onset for i in spot.region)


def test_a_curve_that_falls_by_chance_alone_is_within_the_bands():
    """The level of the bands: of the largest falls that chance gives, 95 % are below."""
    steps = np.array([100, 200])
    largest = np.linspace(0, 1, 1001)  # the largest fall in each draw
    draws = np.stack([0.9 + largest, np.full(1001, 0.9)])
    known = exact([0.8, 0.8], [0.9, 0.9])
    s = np.full((2, 1001), 0.8)
    for fall, step in ((0.95 + FALL - 1e-3, None), (0.95 + FALL + 1e-3, 200)):
        t = np.array([0.9, 0.9 - fall])
        moved = replace(known, t=t, s_draws=s, t_draws=draws - np.array([[0.0], [fall]]))
        assert overfit_onset(steps, moved) == step
