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
    assert shares["a", "c"] == pytest.approx(0, abs=1e-9)


def test_a_failed_cell_favours_no_value():
    values = np.array([100.0 * (place["b"] == "y") for place in PLACES])
    values[0] = np.nan  # one of b=x
    found = effects(PLACES, AXES, values)
    assert len({round(level["mean"], 9) for level in found["levels"]["c"]}) == 1


def test_constant_and_empty_values():
    assert _effects(lambda a, b, c: 1.0)["shares"] == []
    assert effects(PLACES, AXES, np.full(len(PLACES), np.nan))["levels"]["a"] is None
