"""The choice by expected score: the process against textbook formulas, and what must not decide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import polygamma
from scipy.stats import norm

from evaluation import process, surface
from evaluation.measurement_error import Measured, inverse_trigamma, summarise
from evaluation.process import Kernel, Layout, Posterior, fit, grouped, negative_log_posterior, posterior
from evaluation.surface import Candidates, chance_of_best, expected_harmonic, select
from evaluation.sweetspot import S_ERROR


def sweep(lrs=(1e-6, 2e-6, 4e-6), steps=(100, 200, 400, 800), ways=("ddim",), prompts=4, images=2, seed=0, noise=0.05):
    """A grid whose score peaks in its middle."""
    rng = np.random.default_rng(seed)
    rows = [(lr, step, way) for lr in lrs for step in steps for way in ways]
    lr, step = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], float)
    along = np.log(lr / 2e-6) + np.log(step / 250)
    s, t = 0.9 / (1 + np.exp(-2 * along - 1)), 0.95 - 0.6 / (1 + np.exp(2 - 2 * along))
    shape = (len(rows), prompts, images)
    prompt = rng.normal(0, 0.05, (1, prompts, 1))
    values = [true[:, None, None] + prompt + rng.normal(0, noise, shape) for true in (s, t)]
    axes = np.array([[row[2]] for row in rows])
    return Candidates(lr, step, axes, lr.astype(str), *values, np.zeros(len(rows), bool))


def changed(candidates, **fields):
    return Candidates(**{name: getattr(candidates, name) for name in candidates.__dataclass_fields__} | fields)


# --- noise ----------------------------------------------------------------------------------------------------------


def test_noise_is_recovered():
    rng = np.random.default_rng(0)
    position = np.linspace(-1.7, 1.7, 60)
    found = []
    for _ in range(60):
        prompts = 0.05 * rng.normal(size=(1, 8, 1)) + 0.04 * rng.normal(size=(1, 8, 1)) * position[:, None, None]
        measured = summarise(0.5 + prompts + rng.normal(0, 0.08, (60, 8, 2)), position[:, None])
        found.append([measured.shared[0, 0], measured.shared[1, 1], measured.own.mean()])
    np.testing.assert_allclose(np.mean(found, 0), [0.05**2 / 8, 0.04**2 / 8, 0.08**2 / 16], rtol=0.2)


def test_uneven_noise_is_told_apart_and_even_noise_is_not():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(100, 8, 2)) * np.repeat([0.02, 0.2], 50)[:, None, None]
    uneven = summarise(noise, np.zeros((100, 0))).own
    assert np.median(uneven[50:]) > 10 * np.median(uneven[:50])
    even = summarise(rng.normal(size=(100, 8, 2)), np.zeros((100, 0))).own
    assert even.max() < 2 * even.min()


def test_images_that_resemble_each_other_within_a_prompt_count_for_less():
    rng = np.random.default_rng(2)
    values = np.repeat(rng.normal(size=(80, 8, 1)), 4, axis=2) + 0.01 * rng.normal(size=(80, 8, 4))
    assert summarise(values, np.zeros((80, 0))).own.mean() == pytest.approx(1 / 8, rel=0.15)


def test_a_missing_prompt_is_not_taken_for_an_easy_one():
    values = np.array([[0.0], [1.0], [0.5]])[:, :, None] + np.array([-0.4, 0.1, 0.3])[:, None]
    values = np.repeat(values, 2, axis=2)
    values[0, 0] = np.nan
    np.testing.assert_allclose(np.diff(summarise(values, np.zeros((3, 0))).mean), [1.0, -0.5], atol=1e-9)


def test_inverse_trigamma():
    for x in (0.3, 1.0, 20.0):
        assert inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)


# --- process --------------------------------------------------------------------------------------------------------


def small_layout():
    rng = np.random.default_rng(3)
    training = np.repeat(np.arange(4), 4)
    checkpoint = np.repeat(np.arange(8), 2)
    return Layout(rng.normal(size=(16, 2)), np.tile([0, 1], 8)[:, None], training, checkpoint)


def test_posterior_is_the_textbook_one():
    """Element by element, with the joint normal of truth and measurement conditioned in another way."""
    layout, rng = small_layout(), np.random.default_rng(4)
    measured = Measured(rng.normal(0.5, 0.2, 16), rng.uniform(0.001, 0.01, 16), np.ones((16, 1)), np.array([[0.002]]))
    theta = np.array([-1.0, 0.2, 0.5, 0.3, -2.0, -3.0, -3.5, -4.0])
    prior = np.empty((16, 16))
    for i in range(16):
        for j in range(16):
            r = np.sqrt(5 * sum((layout.coordinates[i] - layout.coordinates[j]) ** 2 / np.exp(2 * theta[1:3])))
            same = [getattr(layout, name)[i] == getattr(layout, name)[j] for name in ("training", "checkpoint")]
            way = layout.axes[i, 0] == layout.axes[j, 0]
            prior[i, j] = (
                process.CENTRE_SD**2
                + np.exp(-2.0) * (1 + r + r**2 / 3) * np.exp(-r) * (1 if way else 1 / (1 + np.exp(-0.3)))
                + np.exp(-4.0) * way + np.exp(-6.0) * same[0] + np.exp(-7.0) * same[1] + np.exp(-8.0) * (i == j)
            )  # fmt: skip
    noise = np.diag(measured.own) + 0.002
    precision = np.linalg.inv(np.linalg.inv(prior) + np.linalg.inv(noise))
    mean = process.CENTRE + precision @ np.linalg.solve(noise, measured.mean - process.CENTRE)
    found = posterior(layout, measured, theta)
    np.testing.assert_allclose(found.mean, mean, atol=1e-8)
    np.testing.assert_allclose(found.covariance, precision, atol=1e-8)


def test_gradient_is_that_of_the_value():
    layout, rng = small_layout(), np.random.default_rng(5)
    kernel, y, noise = Kernel(layout, grouped(layout)), rng.normal(0.5, 0.2, 16), 0.01 * np.eye(16)
    theta = kernel.centre + 0.3 * rng.normal(size=len(kernel.centre))
    _, gradient = negative_log_posterior(theta, kernel, y, noise)
    for i, step in enumerate(1e-5 * np.eye(len(theta))):
        ahead, behind = (negative_log_posterior(theta + side * step, kernel, y, noise)[0] for side in (1, -1))
        assert gradient[i] == pytest.approx((ahead - behind) / 2e-5, rel=1e-4, abs=1e-5)


def test_many_candidates_are_fitted_on_some(monkeypatch):
    monkeypatch.setattr(process, "MOST", 6)
    assert len(process.some_trainings(small_layout())) in (4, 6, 8)
    assert select(sweep(ways=("ddim", "pndm"))).choice is not None


def test_hyperparameters_stay_near_their_priors_where_nothing_is_known():
    layout = small_layout()
    flat = Measured(np.full(16, 0.5), np.full(16, 100.0), np.ones((16, 1)), np.zeros((1, 1)))
    centre = Kernel(layout, grouped(layout)).centre
    found = fit(layout, flat)
    np.testing.assert_allclose(found.parameters, centre, atol=0.2)
    assert found.equal == pytest.approx(0.5, abs=0.05)  # nothing speaks for either


def test_that_candidates_hardly_differ_has_to_be_seen():
    """Forty candidates of the same truth, and of one that differs by more and more."""
    rng = np.random.default_rng(9)
    layout = Layout(np.log(np.arange(1.0, 41))[:, None], np.zeros((40, 0), int), np.zeros(40, int), np.arange(40))
    noise = 0.03 * rng.normal(size=40)
    measured = lambda by: Measured(  # noqa: E731
        0.7 + by * np.linspace(-1, 1, 40) + noise, np.full(40, 0.03**2), np.ones((40, 1)), np.zeros((1, 1))
    )
    equal = [fit(layout, measured(by)).equal for by in (0.0, 0.01, 0.05)]
    assert equal[0] > 0.9
    assert equal[0] > equal[1] > equal[2]
    assert equal[2] < 0.001


def test_where_candidates_hardly_differ_none_is_likelier_than_another():
    s = Posterior(np.array([0.5, 0.6, 0.7]), 1e-6 * np.eye(3), equal=1.0)
    t = Posterior(np.array([0.7, 0.7, 0.7]), 1e-6 * np.eye(3), equal=1.0)
    np.testing.assert_allclose(chance_of_best(s, t, np.arange(3)), 1 / 3, atol=0.03)
    sure = chance_of_best(Posterior(s.mean, s.covariance), t, np.arange(3))
    assert sure.tolist() == [0, 0, 1]


# --- expected score and chance of being best ------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [(0.5, 0.7), (0.02, 0.9), (0.98, 1.05), (-0.2, 0.5), (0.8, 0.0)])
@pytest.mark.parametrize("sd", [0.01, 0.05, 0.2])
def test_expected_score_is_the_mean_of_many_draws(mean, sd):
    rng = np.random.default_rng(6)
    s, t = (np.clip(m + sd * rng.normal(size=400_000), 0, 1) for m in mean)
    brute = np.mean(2 * s * t / np.maximum(s + t, 1e-12))
    parts = (Posterior(np.array([m]), np.array([[sd**2]])) for m in mean)
    assert expected_harmonic(*parts)[0] == pytest.approx(brute, abs=1e-3)


def test_expected_score_without_doubt_is_the_score():
    sure = [Posterior(np.array([m, 1.2]), np.zeros((2, 2))) for m in (0.4, 0.8)]
    np.testing.assert_allclose(expected_harmonic(*sure), [2 * 0.4 * 0.8 / 1.2, 1.0], atol=1e-6)


def test_chance_of_best_is_that_of_two_normals():
    s = Posterior(np.array([0.5, 0.52]), 0.0004 * np.eye(2))
    t = Posterior(np.array([0.5, 0.5]), 1e-12 * np.eye(2))
    wider = surface.WIDER * np.sqrt(2) * 0.02
    assert chance_of_best(s, t, np.arange(2))[1] == pytest.approx(norm.cdf(0.02 / wider), abs=0.02)


def test_an_error_that_all_share_decides_nothing():
    """Level noise moves all candidates alike: it must not blur which of them is best."""
    s = Posterior(np.array([0.5, 0.56]), 0.01 * np.ones((2, 2)) + 1e-6 * np.eye(2))
    t = Posterior(np.array([0.7, 0.7]), 0.01 * np.ones((2, 2)) + 1e-6 * np.eye(2))
    assert chance_of_best(s, t, np.arange(2))[1] > 0.99


# --- the choice -----------------------------------------------------------------------------------------------------


def test_middle_of_the_ridge_is_chosen_and_is_in_its_region():
    selection = select(sweep())
    assert selection.choice in selection.region
    assert 0.9 <= selection.region_probability <= 1
    assert selection.p_best.sum() == pytest.approx(1)
    assert selection.choice == np.nanargmax(selection.expected_score)


def test_neighbours_correct_a_lucky_candidate():
    lucky = sweep(lrs=(2e-6,), steps=(100, 200, 300, 400, 500, 600, 700, 800), noise=0.03)
    s, t = (np.full_like(values, level) for values, level in ((lucky.s, 0.6), (lucky.t, 0.8)))
    bump = 0.1 * np.exp(-(((lucky.steps - 300) / 200) ** 2))
    noise = 0.08 * np.random.default_rng(7).normal(size=(2, *s.shape))
    noise = noise - noise.mean((2, 3), keepdims=True)
    s = s + bump[:, None, None] + noise[0]
    s[-1] += 0.11  # by luck just above the bump
    chosen = select(changed(lucky, s=s, t=t + noise[1])).choice
    assert s.mean((1, 2)).argmax() == 7
    assert lucky.steps[chosen] in (200, 300, 400)


def test_vetoed_is_not_chosen_but_informs():
    candidates = sweep()
    first = select(candidates).choice
    vetoed = np.arange(len(candidates.lr)) == first
    second = select(changed(candidates, vetoed=vetoed))
    assert second.choice != first
    assert np.isnan(second.expected_score[first])
    assert second.p_best[first] == 0
    assert np.isfinite(second.s).all()


def test_an_error_of_each_training_blurs_the_trainings_and_not_the_steps_of_one_nor_the_choice():
    candidates = sweep(noise=0.01)
    before, after = select(candidates), select(candidates, s_error=0.1)
    assert after.choice == before.choice
    np.testing.assert_array_equal(after.expected_score, before.expected_score)
    chosen = candidates.training == candidates.training[after.choice]
    assert before.p_best[chosen].sum() > 0.5
    assert after.p_best[chosen].sum() == pytest.approx(1 / 3, abs=0.05)  # of three trainings
    alone = candidates.take(np.flatnonzero(chosen))
    np.testing.assert_allclose(select(alone, s_error=0.02).p_best, select(alone).p_best, atol=0.1)


def test_nothing_allowed_nothing_chosen():
    candidates = sweep()
    selection = select(changed(candidates, vetoed=np.ones(len(candidates.lr), bool)))
    assert selection.choice is None
    assert selection.region == ()
    assert np.isfinite(selection.s).all()


def test_missing_is_left_out():
    candidates = sweep()
    s = candidates.s.copy()
    s[2] = np.nan
    s[3, 0] = np.nan
    selection = select(changed(candidates, s=s))
    assert np.isnan(selection.expected_score[2])
    assert np.isfinite(selection.expected_score[np.arange(len(s)) != 2]).all()
    assert select(changed(candidates, s=np.full_like(s, np.nan))).choice is None


@pytest.mark.parametrize("rows", [[0], [0, 1], [0, 4], [0, 1, 2, 3], [0, 4, 8]])
def test_few_candidates(rows):
    selection = select(sweep().take(np.array(rows)))
    assert selection.choice is not None
    assert np.isfinite(selection.expected_score).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_few_images(shape):
    selection = select(sweep(prompts=shape[0], images=shape[1]))
    assert np.isfinite(selection.expected_score).all()


def test_equal_values_are_the_least_training():
    candidates = sweep()
    same = np.full_like(candidates.s, 0.7)
    selection = select(changed(candidates, s=same, t=same))
    assert (candidates.steps[selection.choice], candidates.lr[selection.choice]) == (100, 1e-6)


def test_ties_go_to_the_measured_score_then_to_less_training():
    rows = Candidates(
        np.array([2e-6, 1e-6, 1e-6]), np.array([100.0, 100, 50]), np.zeros((3, 0)), np.arange(3),
        np.full((3, 1, 1), 0.5), np.array([0.6, 0.6, 0.5]).reshape(3, 1, 1), np.zeros(3, bool),
    )  # fmt: skip
    assert surface.best_of(np.array([0.5, 0.5, 0.5]), rows) == 1
    assert surface.best_of(np.array([0.5, 0.5 - 2 * surface.TIE, 0.5]), rows) == 0


@settings(max_examples=20, deadline=None)
@given(
    order=st.permutations(range(24)), seed=st.integers(0, 3), digits=st.sampled_from([1, 6]),
    names=st.permutations(["a", "b", "c"]), ways=st.permutations(["x", "y"]),
)  # fmt: skip
def test_names_and_positions_never_decide(order, seed, digits, names, ways):
    """Coarse values make many ties."""
    candidates = sweep(ways=("ddim", "pndm"), seed=seed)
    candidates = changed(candidates, s=candidates.s.round(digits), t=candidates.t.round(digits))
    trainings = dict(zip(np.unique(candidates.training), names, strict=True))
    renamed = changed(
        candidates,
        training=np.array([trainings[name] for name in candidates.training]),
        axes=np.where(candidates.axes == "ddim", ways[0], ways[1]),
    ).take(np.array(order))
    before, after = select(candidates), select(renamed)
    assert order[after.choice] == before.choice
    assert [order[i] for i in after.region] == list(before.region)
    np.testing.assert_array_equal(after.expected_score, before.expected_score[list(order)])


def test_order_of_the_axes_does_not_decide():
    rng = np.random.default_rng(8)
    candidates = sweep(ways=("ddim", "pndm"))
    axes = np.column_stack([candidates.axes, rng.integers(0, 3, len(candidates.lr))])
    two = (select(changed(candidates, axes=each)).expected_score for each in (axes, axes[:, ::-1]))
    np.testing.assert_array_equal(*two)


# --- constants that decide ------------------------------------------------------------------------------------------


def test_region_reaches_its_level_and_no_more_than_needed():
    selection = select(sweep(noise=0.2))
    assert surface.LEVEL == 0.9
    shares = selection.p_best[list(selection.region)]
    assert shares.sum() >= 0.9 > shares[:-1].sum()
    assert list(shares) == sorted(shares, reverse=True)


def test_calibration_of_the_region_is_pinned():
    assert (surface.WIDER, process.AMPLITUDE, process.LENGTH, process.HARDLY) == (1.2, (0.25, 0.7), 2.0, 0.002)
    assert S_ERROR == 0.035
