from itertools import product

import numpy as np
import pytest

from sweeper.report.effects import effects

AXES = {"a": (1, 2, 3), "b": ("x", "y"), "c": (False, True)}
PLACES = [dict(zip(AXES, values, strict=True)) for values in product(*AXES.values())]


def _effects(function, places=PLACES, axes=AXES):
    return effects(places, axes, np.array([float(function(**place)) for place in places]))


def test_main_effects_are_the_matched_means():
    found = _effects(lambda a, b, c: 10 * a + (b == "y"))
    assert [level["mean"] for level in found["levels"]["a"]] == pytest.approx([10.5, 20.5, 30.5])
    assert [level["high"] - level["low"] for level in found["levels"]["a"]] == pytest.approx([0, 0, 0])
    assert [level["mean"] for level in found["levels"]["c"]] == pytest.approx([20.5, 20.5])


def test_shares_of_a_balanced_grid_add_up():
    found = _effects(lambda a, b, c: a * (b == "y") + 3 * c)
    shares = {tuple(entry["term"]): entry["share"] for entry in found["shares"]}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["c",] > 0.5
    assert shares["a", "b"] > 0.01
    assert ("a", "c") not in shares


def test_a_failed_cell_favours_no_value():
    values = np.array([100.0 * (place["b"] == "y") for place in PLACES])
    values[0] = np.nan  # one of b=x
    found = effects(PLACES, AXES, values)
    assert len({round(level["mean"], 9) for level in found["levels"]["c"]}) == 1


def test_constant_and_empty_values():
    assert _effects(lambda a, b, c: 1.0)["shares"] == []
    assert effects(PLACES, AXES, np.full(len(PLACES), np.nan))["levels"]["a"] is None


@pytest.mark.parametrize("blocks", [2, 3, 8])
def test_intervals_of_main_effects_cover_what_they_say(blocks):
    """With 1.96 standard errors three blocks covered .81."""
    rng = np.random.default_rng(0)
    axes = {"a": (1, 2, 3), "b": tuple(range(blocks))}
    places = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    covered = []
    for _ in range(500):
        values = rng.standard_normal(len(places))
        for level in effects(places, axes, values)["levels"]["a"]:
            half = (level["high"] - level["low"]) / 2
            covered.append(abs(level["mean"] - values.mean()) <= half)  # each true difference from the mean is 0
    assert 0.93 < np.mean(covered) < 0.97


def of_noise(shape, noise=None, repeats=100, signal=0.0):
    """The terms that are named where each value is noise of variance 1, and `signal` where both first axes are last."""
    rng = np.random.default_rng(0)
    axes = {name: tuple(range(size)) for name, size in zip("abcd", shape, strict=False)}
    places = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    added = np.array([signal * (p["a"] == shape[0] - 1 and p["b"] == shape[1] - 1) for p in places])
    found = [effects(places, axes, added + rng.standard_normal(len(places)), noise) for _ in range(repeats)]
    return [{tuple(share["term"]) for share in each["shares"]} for each in found], found


@pytest.mark.parametrize(("shape", "noise"), [((3, 4), 1.0), ((3, 4), None), ((3, 3, 3), None), ((2, 2, 2, 3), None)])
def test_of_pure_noise_nothing_is_explained(shape, noise):
    """Interactions "explained" 23 % of it."""
    named, found = of_noise(shape, noise)
    assert np.mean([bool(terms) for terms in named]) <= 0.1
    assert all(
        set(each["pairs"]) == {"|".join(t) for t in terms if len(t) == 2}
        for terms, each in zip(named, found, strict=True)
    )


def test_what_exceeds_noise_is_shown():
    named, _ = of_noise((3, 3, 3), signal=9.0, repeats=20)
    assert sum(("a", "b") in terms for terms in named) >= 18
    assert not any(("a", "c") in terms for terms in named[:5])


def test_without_a_rest_and_without_known_noise_no_interaction_is_named():
    named, _ = of_noise((3, 4), signal=30.0, repeats=5)
    assert all(len(term) == 1 for terms in named for term in terms)
    named, _ = of_noise((3, 4), noise=1.0, signal=30.0, repeats=5)
    assert all(("a", "b") in terms for terms in named)


def test_one_axis_is_named_where_noise_is_known():
    axes = {"a": (1, 2, 3, 4)}
    places = [{"a": a} for a in axes["a"]]
    values = np.array([0.1, 0.5, 0.9, 0.4])
    assert effects(places, axes, values)["shares"] == []
    assert effects(places, axes, values, 0.01)["shares"][0]["term"] == ["a"]
    assert effects(places, axes, values, 1.0)["shares"] == []
