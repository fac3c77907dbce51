"""The score of an answer on fresh images: its interval holds the truth as often as it says."""

import numpy as np
import pytest

from evaluation.fidelity import Scale, normalised
from evaluation.fresh import fresh_fidelity


def drawn(rng, units, s=0.8, t=0.7):
    """Values of one checkpoint and baselines that vary from prompt to prompt, in part together."""
    hard = rng.normal(0, 0.03, units)
    s0 = 0.3 + hard + rng.normal(0, 0.02, units)
    t0 = 0.30 + rng.normal(0, 0.01, units)
    tc = 0.20 + rng.normal(0, 0.01, units)
    dino = 0.3 + s * (0.7 - 0.3) + hard + rng.normal(0, 0.04, units)
    clip_t = tc + t * (t0 - tc) + rng.normal(0, 0.01, units)
    return dino, clip_t, Scale(s0, t0, tc, 0.7)


@pytest.mark.parametrize("units", [4, 8, 16])
@pytest.mark.parametrize(("s", "t"), [(0.8, 0.7), (0.95, 0.5)])
def test_intervals_hold_the_truth_as_often_as_they_say(units, s, t):
    truth = {"s": s, "t": t, "score": 2 * s * t / (s + t)}
    rng = np.random.default_rng(units)
    estimates = [fresh_fidelity(*drawn(rng, units, s, t)) for _ in range(2000)]
    for name, true in truth.items():
        assert 0.93 < np.mean([each[name].low <= true <= each[name].high for each in estimates]) < 0.97
        assert np.mean([each[name].mean for each in estimates]) == pytest.approx(true, abs=0.02)


def test_a_prompt_that_is_missing_is_left_out():
    dino, clip_t, scale = drawn(np.random.default_rng(0), 8)
    short = fresh_fidelity(dino[1:], clip_t[1:], Scale(scale.s0[1:], scale.t0[1:], scale.tc[1:], scale.sr))
    dino[0] = np.nan
    assert fresh_fidelity(dino, clip_t, scale) == short


def test_a_point_that_lacks_prompts_is_measured_on_the_baselines_of_its_own():
    rng = np.random.default_rng(0)
    dino, clip_t, scale = drawn(rng, 8)
    some = np.arange(8) < 4
    part = normalised(*(np.where(some, v, np.nan)[None, None] for v in (dino, clip_t)), scale)
    own = Scale(scale.s0[:4], scale.t0[:4], scale.tc[:4], scale.sr)
    alone = normalised(dino[None, None, :4], clip_t[None, None, :4], own)
    assert part.s == pytest.approx(alone.s)
    assert part.t == pytest.approx(alone.t)
    assert part.s_draws.std() == pytest.approx(alone.s_draws.std(), rel=0.5)


def test_a_single_prompt_has_no_interval():
    score = fresh_fidelity(*drawn(np.random.default_rng(0), 1))["score"]
    assert np.isfinite(score.mean)
    assert np.isnan([score.low, score.high]).all()


def test_beyond_the_photographs_is_no_better():
    dino, clip_t, scale = drawn(np.random.default_rng(0), 8, s=1.5, t=1.0)
    assert fresh_fidelity(dino, clip_t, scale)["score"].mean == pytest.approx(1, abs=0.03)
