"""The sweet spot on curves whose answer is known."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.fidelity import harmonic
from evaluation.sweetspot import find
from tests.evaluation.synthetic import S0, SR, STEPS, baselines, grid, scorecard, sweep

LRS = (1e-6, 2e-6, 5e-6)


def learned(step, lr):
    """s rises to 0.9 at step 300 of lr 2e-6."""
    return min(0.9, 0.9 * step * lr / 6e-4)


def forgotten(step, lr):
    """t falls from step 400 of lr 2e-6 on."""
    return 1 - max(0, step * lr / 2e-6 - 400) / 250


def answer(candidates, *args, **kwargs):
    spot = find(*sweep(candidates, *args, **kwargs))
    return spot, None if spot.best is None else candidates[spot.best]


def test_a_clear_optimum_is_found_with_the_onset_after_it():
    spot, best = answer(grid(), learned, forgotten, prompts=16)
    assert (spot.verdict, spot.found) == ("region", True)
    assert best.step in (300, 400)
    assert spot.onset == {"lr=2e-06": 500}
    assert best.words in spot.reason
    assert "overfitting begins at step 500" in spot.reason


def test_s_t_and_score_are_the_formulas():
    candidates = grid(steps=(400,))
    spot = find(*sweep(candidates, lambda *_: 0.6, lambda *_: 0.75, noise=0))
    assert spot.s[0] == pytest.approx(0.6)
    assert spot.t[0] == pytest.approx(0.75)
    assert spot.score[0] == pytest.approx(2 * 0.6 * 0.75 / (0.6 + 0.75))


def test_on_equal_checkpoints_no_difference_is_claimed():
    verdicts = [answer(grid(), lambda *_: 0.6, lambda *_: 0.8, seed=seed)[0].verdict for seed in range(40)]
    assert verdicts.count("flat") >= 28  # the test is at 95 %, on four prompts only


def test_large_differences_are_not_called_flat_for_want_of_evidence():
    spot, best = answer(grid(), learned, forgotten, noise=0.8, prompts=4)
    assert max(spot.score) - min(spot.score) > 0.3
    assert spot.verdict != "flat"


def test_without_learning_there_is_none_and_more_training_is_advised():
    spot, best = answer(grid(), lambda *_: -0.02, lambda *_: 1.0)
    assert (spot.verdict, spot.found, best) == ("none", False, None)
    assert "no checkpoint resembles the subject" in spot.reason.lower()
    assert spot.suggestion == "Train harder: lr=4e-6 or steps=1200."
    assert spot.more_steps


def test_with_every_prompt_lost_there_is_none_and_less_training_is_advised():
    spot, _ = answer(grid(), lambda *_: 0.9, lambda *_: -0.1)
    assert spot.verdict == "none"
    assert "ignores the prompts" in spot.reason
    assert spot.suggestion == "Train less: lr=1e-6 or steps=50."
    assert not spot.more_steps


def test_still_rising_at_the_last_step_is_the_edge():
    spot, best = answer(grid(), lambda step, lr: step / 800, lambda *_: 0.95)
    assert (spot.verdict, best.step) == ("edge", 600)
    assert spot.suggestion == "Extend the grid: steps=1200."
    assert spot.more_steps
    assert "edge of the grid" in spot.reason


def test_falling_from_the_first_step_is_the_edge_too():
    spot, best = answer(grid(), lambda *_: 0.9, lambda step, lr: 1 - step / 800)
    assert (spot.verdict, best.step) == ("edge", 100)
    assert spot.suggestion == "Extend the grid: steps=50."
    assert not spot.more_steps


def test_the_highest_learning_rate_being_best_is_the_edge():
    s = lambda step, lr: 0.3 + 0.1 * LRS.index(lr)  # noqa: E731
    spot, best = answer(grid(LRS, (200, 400, 600)), s, lambda step, lr: 0.9 - abs(step - 400) / 800)
    assert (spot.verdict, best.lr) == ("edge", 5e-6)
    assert spot.suggestion == "Extend the grid: lr=1e-5."
    assert not spot.more_steps


def test_a_collapse_after_the_optimum_is_passed_over():
    spot, best = answer(
        grid(), lambda step, lr: 0.8 if step <= 300 else 0.1, lambda step, lr: 0.9 if step <= 300 else 0.05, prompts=16
    )
    assert best.step <= 300
    assert spot.onset["lr=2e-06"] == 400


def test_of_wholly_equal_checkpoints_the_earlier_step_wins_then_the_lower_lr():
    candidates = grid(LRS)
    spot = find(*sweep(candidates, lambda *_: 0.7, lambda *_: 0.9, noise=0))
    assert (candidates[spot.best].lr, candidates[spot.best].step) == (1e-6, 100)
    assert (spot.verdict, spot.region_probability, spot.p_best) == ("flat", None, ())  # nothing tells them apart


def test_the_answer_has_the_highest_expected_score_and_not_the_highest_measured_one():
    """The last checkpoint's s is high by luck; its neighbours do not bear it out."""
    candidates, cards, base = sweep(grid(steps=range(100, 900, 100)), lambda *_: 0.7, lambda *_: 0.9, noise=0.15)
    for c, card in zip(candidates, cards, strict=True):
        s = 0.6 + 0.1 * np.exp(-(((c.step - 300) / 200) ** 2)) + (0.11 if c.step == 800 else 0.0)
        values = np.array(card["values"]["dino"])
        card["values"]["dino"] = (values - values.mean() + S0 + s * (SR - S0)).tolist()
    spot = find(candidates, cards, base)
    assert candidates[int(np.argmax(spot.score))].step == 800
    assert candidates[spot.best].step in (200, 300, 400)
    assert spot.best == np.argmax(spot.expected_score)


def test_expected_scores_are_absent_where_vetoed_and_shares_sum_to_one():
    candidates, cards, base = sweep(grid(LRS), learned, forgotten)
    cards[3]["values"]["copying"] = VETO_VALUES["copying"]
    spot = find(candidates, cards, base)
    assert np.isnan(spot.expected_score[3])
    assert np.isfinite(np.delete(spot.expected_score, 3)).all()
    assert spot.p_best[3] == 0
    assert sum(spot.p_best) == pytest.approx(1)
    assert sum(spot.p_best[i] for i in spot.region) == pytest.approx(spot.region_probability)
    assert spot.fresh_score is None  # nothing measures it yet


def test_one_checkpoint_is_named_but_compared_with_nothing():
    spot, best = answer(grid(steps=(400,)), learned, forgotten)
    assert (spot.verdict, spot.found, spot.best) == ("single", True, 0)


def test_one_prompt_takes_its_images_for_units():
    spot, best = answer(grid(), learned, forgotten, prompts=1, images=6)
    assert best.step in (300, 400)
    assert "6 images of one prompt" in spot.conditional_on


def test_one_image_in_all_still_gives_an_answer():
    spot, best = answer(grid(), learned, forgotten, prompts=1, images=1, noise=0)
    assert best.step in (300, 400)
    assert spot.intervals["s"][0][0] == spot.intervals["s"][0][1]  # no spread, and none claimed


def test_failed_checkpoints_are_passed_over():
    candidates, cards, base = sweep(grid(), learned, forgotten)
    cards[3], base = None, [*base[:3], None, *base[4:]]
    spot = find(candidates, cards, base)
    assert candidates[spot.best].step == 300
    assert np.isnan(spot.score[3])
    assert len(spot.score) == len(spot.vetoes) == len(candidates)


def test_missing_values_leave_the_others_to_judge_by():
    candidates, cards, base = sweep(grid(), learned, forgotten)
    cards[2]["values"]["dino"][0] = [None, None]
    spot = find(candidates, cards, base)
    assert np.isfinite(spot.score).all()
    assert candidates[spot.best].step in (300, 400)


def test_nothing_evaluated_is_refused():
    spot = find(grid(), [None] * 6, [None] * 6)
    assert (spot.found, spot.verdict) == (False, "refused")


@pytest.mark.parametrize(
    ("scale", "words"), [({"sr": 0.29}, "photographs are no more alike"), ({"tc": 0.31}, "follows the prompts")]
)
def test_a_scale_without_length_is_refused(scale, words):
    candidates, cards, _ = sweep(grid(), learned, forgotten)
    spot = find(candidates, cards, [baselines(**scale)] * len(cards))
    assert (spot.verdict, spot.found) == ("refused", False)
    assert words in spot.reason
    assert (spot.score, spot.s, spot.t) == ((), (), ())  # numbers on such a scale would mean nothing


VETO_VALUES = {
    "copying": [[0.97, 0.98]] * 8,
    "noise": [[6.0, 6.1]] * 8,
    "pres": [[0.7, 0.72, 0.68, 0.7]],
    "div": [[0.02, 0.03]] * 8,
}


@pytest.mark.parametrize("name", ["copying", "noise", "div"])
def test_a_veto_rules_the_best_out_and_says_so(name):
    candidates, cards, base = sweep(grid(), learned, forgotten)
    assert find(candidates, cards, base).vetoes == ((),) * 6
    for i in (2, 3):
        cards[i]["values"][name] = VETO_VALUES[name]
    spot = find(candidates, cards, base)
    assert candidates[spot.best].step not in (300, 400)
    assert [bool(v) for v in spot.vetoes] == [False, False, True, True, False, False]
    for card in cards:
        card["values"][name] = VETO_VALUES[name]
    spot = find(candidates, cards, base)
    assert spot.verdict == "none"
    assert "ruled out" in spot.reason


def test_class_drift_is_a_veto_where_the_class_can_be_kept():
    """The same scores with and without drift: the later step that keeps the class wins."""
    candidates, cards, base = sweep(grid(), learned, forgotten)
    for i in (0, 1, 2):
        cards[i]["values"]["pres"] = VETO_VALUES["pres"]
    spot = find(candidates, cards, base)
    assert candidates[spot.best].step == 400
    assert "class has turned" in spot.vetoes[2][0]
    assert "prior_preservation" not in spot.reason


def test_class_drift_that_comes_with_learning_is_said_and_not_vetoed():
    candidates, cards, base = sweep(grid(), learned, forgotten)
    for card in cards[1:]:
        card["values"]["pres"] = VETO_VALUES["pres"]
    spot = find(candidates, cards, base)
    assert candidates[spot.best].step in (300, 400)
    assert spot.vetoes == ((),) * 6
    assert "prior_preservation=true" in spot.reason


def test_a_veto_needs_evidence():
    """The same mean over the margin, but from images that disagree."""
    candidates, cards, base = sweep(grid(), learned, forgotten)
    cards[2]["values"]["copying"] = [[0.99, 0.99]] * 5 + [[0.75, 0.75]] * 3
    assert np.mean(cards[2]["values"]["copying"]) == pytest.approx(0.9)
    assert find(candidates, cards, base).vetoes[2] == ()


def test_noisy_photographs_excuse_noise():
    candidates, cards, base = sweep(grid(), learned, forgotten, noise=0.01)
    for card in cards:
        card["values"]["noise"] = VETO_VALUES["noise"]
    base[0]["photographs"]["noise"] = [6.0] * 5
    assert find(candidates, cards, base).vetoes == ((),) * 6


def test_of_replicates_the_best_checkpoint_is_handed_out():
    candidates = grid(steps=(300, 400), seeds=(0, 1, 2))
    s = {0: 0.5, 1: 0.7, 2: 0.9}
    rng = np.random.default_rng(0)
    cards = [scorecard(s[c.seed], 0.9, rng, 0.01) for c in candidates]
    spot = find(candidates, cards, [baselines()] * 6)
    assert candidates[spot.best].seed == 2
    assert "3 training seeds" in spot.conditional_on


def test_a_step_cannot_come_twice():
    candidates = grid(steps=(300, 300))
    with pytest.raises(ValueError, match="two candidates"):
        find(*sweep(candidates, learned, forgotten))


def test_scorecards_of_different_prompts_do_not_compare():
    candidates, cards, base = sweep(grid(), learned, forgotten)
    cards[1] = scorecard(0.5, 0.5, np.random.default_rng(0), prompts=4)
    with pytest.raises(ValueError, match="different prompts"):
        find(candidates, cards, base)


def test_a_rise_in_s_that_does_not_matter_does_not_hide_overfitting():
    spot, _ = answer(grid(), lambda step, lr: 0.9 + step / 1e5, forgotten, noise=0.001, prompts=16)
    assert spot.onset == {"lr=2e-06": 500}


def test_ways_of_sampling_share_one_scale():
    """A sampler that is bad even untuned is not excused by its own baseline."""
    good, bad = grid(steps=(400,)), [replace(c, curve="bad", key="bad") for c in grid(steps=(400,))]
    rng = np.random.default_rng(0)
    cards = [scorecard(0.8, 0.9, rng), scorecard(0.8, 0.6, rng)]
    worse = baselines()
    worse["untuned"]["clip_t"] = (np.array(worse["untuned"]["clip_t"]) - 0.04).tolist()
    spot = find(good + bad, cards, [baselines(), worse])
    assert spot.t[0] - spot.t[1] == pytest.approx(0.3 * 0.1 / 0.08, rel=1e-6)


def seconds(learning_rates):
    """Processor time to find the sweet spot among ten checkpoints of each, at best of three."""
    candidates = grid(tuple(i * 1e-6 for i in range(1, learning_rates + 1)), range(100, 1100, 100))
    arguments = sweep(candidates, learned, forgotten, prompts=25, images=4)
    taken = []
    for _ in range(3):
        start = time.process_time()
        find(*arguments)
        taken.append(time.process_time() - start)
    return min(taken)


def test_ten_times_as_many_checkpoints_take_about_ten_times_as_long():
    assert seconds(100) < 30 * seconds(10)  # 7 measured; 100 if each were compared with each


@given(
    order=st.permutations(range(12)),
    levels=st.lists(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), min_size=12, max_size=12),
)
@settings(max_examples=25, deadline=None)
def test_the_order_of_candidates_does_not_matter(order, levels):
    candidates = grid((1e-6, 2e-6))
    rng = np.random.default_rng(0)
    cards = [scorecard(s, t, rng, 0.05) for s, t in levels]
    one = find(candidates, cards, [baselines()] * 12)
    other = find([candidates[i] for i in order], [cards[i] for i in order], [baselines()] * 12)
    assert (one.verdict, one.reason, one.onset) == (other.verdict, other.reason, other.onset)
    assert one.best == (None if other.best is None else order[other.best])
    assert set(one.region) == {order[i] for i in other.region}
    assert set(one.pareto) == {order[i] for i in other.pareto}


@given(levels=st.lists(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), min_size=6, max_size=6))
@settings(max_examples=50, deadline=None)
def test_what_always_holds(levels):
    candidates = grid()
    rng = np.random.default_rng(0)
    spot = find(candidates, [scorecard(s, t, rng, 0.05) for s, t in levels], [baselines()] * 6)
    assert spot.found == (spot.best is not None)
    assert spot.reason
    assert all(0 <= score <= 1 for score in spot.score)
    assert all(low <= high for bounds in spot.intervals.values() for low, high in bounds)
    assert spot.best is None or spot.best in spot.region
    for i in spot.pareto:
        assert not any(spot.s[j] > spot.s[i] and spot.t[j] > spot.t[i] for j in range(6))
    assert spot.knee is None or spot.knee in spot.pareto
    assert set(spot.onset) == {"lr=2e-06"}
    assert spot.onset["lr=2e-06"] in (None, *STEPS[1:])


def test_harmonic_mean_within_bounds():
    values = harmonic(np.array([0.5, 0.0, -1.0, 2.0, 1.0]), np.array([0.5, 1.0, 0.5, 0.5, 1.0]))
    assert values == pytest.approx([0.5, 0, 0, 2 / 3, 1])


def test_where_the_best_was_deleted_the_next_best_of_its_region_that_is_there_is_taken():
    s, t = lambda step, lr: 0.5, lambda step, lr: 0.9
    candidates = grid()
    spot = find(*sweep(candidates, s, t))
    first, *others = sorted(spot.region, key=lambda i: -spot.expected_score[i])
    assert spot.best == first
    gone = [replace(c, there=i != first) for i, c in enumerate(candidates)]
    found = find(*sweep(gone, s, t))
    assert found.region == spot.region
    assert found.best == others[0]
    assert found.score == spot.score
    assert candidates[first].words in found.notes[-1]
    nothing = [replace(c, there=False) for c in candidates]
    assert find(*sweep(nothing, s, t)).best == first


def test_of_replicates_the_best_whose_weights_are_there_is_taken():
    candidates = [replace(c, seed=seed) for c in grid(LRS[:1], (100, 200)) for seed in (0, 1)]
    spot = find(*sweep(candidates, lambda *_: 0.5, lambda *_: 0.9))
    gone = [replace(c, there=i != spot.best) for i, c in enumerate(candidates)]
    found = find(*sweep(gone, lambda *_: 0.5, lambda *_: 0.9))
    assert found.best != spot.best
    assert found.best in spot.region
