"""What rules a checkpoint out, just below and just above each limit."""

import numpy as np
import pytest

from evaluation.sweetspot import find
from evaluation.vetoes import VETOES, Fault, faults, nearness, vetoes_in_force
from tests.evaluation.synthetic import baselines, grid, sweep

COPY, NEARLY = 0.5, 0.9  # as they are: imported, a changed one would go unnoticed
USUAL = 0.9  # likeness of the photographs to each other
BASE = {
    "untuned": {"noise": np.full((8, 2), 3.0), "pres": np.full((4, 1), 0.3), "div": np.full((8, 2), 0.4)},
    "photographs": {"copying": np.full(5, USUAL), "noise": np.full(5, 2.0), "dino": np.full(5, 0.8)},
}


def found(name, values):
    """Faults of one point whose values are the same for each of 8 prompts of 2 images."""
    shape = (1, 1, 4, 1) if name == "pres" else (1, 1, 8, 2)
    return faults({name: np.broadcast_to(values, shape)}, [BASE])[0]


def copies(share, rng, nearest=0.99, others=0.6, prompts=8, images=4):
    """Likeness to the nearest photograph of images of which a share are copies."""
    count = round(share * prompts * images)
    values = np.array([nearest] * count + [others] * (prompts * images - count))
    return rng.permutation(values).reshape(prompts, images)


@pytest.mark.parametrize(("share", "vetoed"), [(0.0, 0), (0.1, 0), (0.7, 20), (1.0, 20)])
def test_copying_is_the_share_of_copied_images(share, vetoed):
    """On average 70 % of exact copies among images that resemble nothing were as far from the photographs as any."""
    rng = np.random.default_rng(0)
    values = [copies(share, rng, nearest=1.0) for _ in range(20)]
    if share == 0.7:
        assert all(nearness(v, BASE).mean() < 0.25 for v in values)
    held = [faults({"copying": v[None, None]}, [BASE])[0].get("copying") for v in values]
    assert sum(fault is not None and fault.sure for fault in held) == vetoed


@pytest.mark.parametrize(("near", "vetoed"), [(COPY - 0.01, False), (COPY + 0.01, True)])
def test_an_image_is_a_copy_from_half_of_the_way_on(near, vetoed):
    assert ("copying" in found("copying", USUAL + near * (1 - USUAL))) == vetoed


def test_an_image_that_is_not_there_is_no_copy_and_no_other():
    values = copies(1.0, np.random.default_rng(0))
    values[:, 0] = np.nan
    assert faults({"copying": values[None, None]}, [BASE])[0]["copying"].sure


@pytest.mark.parametrize("share", [(2, False), (3, True)])
def test_the_share_of_copies_beside_its_limit(share):
    """Of 8 images of every prompt: 2 are the limit of a quarter itself."""
    count, vetoed = share
    values = np.full((1, 1, 8, 8), 0.6)
    values[..., :count] = 1.0
    assert ("copying" in faults({"copying": values}, [BASE])[0]) == vetoed


@pytest.mark.parametrize(
    ("name", "below", "above"),
    [("noise", 3 * 1.49, 3 * 1.51), ("pres", 0.3 + 0.49 * 0.5, 0.3 + 0.51 * 0.5), ("div", 0.4 * 0.26, 0.4 * 0.24)],
)
def test_the_other_limits(name, below, above):
    assert found(name, below) == {}
    assert found(name, above)[name].sure


def test_the_interval_decides():
    """The same share, from prompts that agree and from prompts that do not."""
    every = np.tile([1.0, 1.0, 0.6, 0.6], (8, 1))
    some = np.repeat([[1.0], [0.6]], 4, axis=0) * np.ones(4)
    for values, sure in ((every, True), (some, False)):
        assert faults({"copying": values[None, None]}, [BASE])[0]["copying"].sure == sure
    assert "50% of its images are copies" in faults({"copying": every[None, None]}, [BASE])[0]["copying"].words


@pytest.mark.parametrize(("kept", "vetoed"), [(NEARLY - 0.001, False), (NEARLY, True)])
def test_drift_is_a_veto_where_a_point_that_keeps_the_class_is_nearly_as_good(kept, vetoed):
    drifted = {"pres": Fault("drifted", True)}
    assert vetoes_in_force([drifted, {}], np.array([1.0, kept])) == [{"pres": "drifted"} if vetoed else {}, {}]
    unsure = {"pres": Fault("drifted", False)}
    assert vetoes_in_force([drifted, unsure], np.array([1.0, 1.0])) == [{}, {}]
    assert vetoes_in_force([drifted, {"noise": Fault("noisy", True)}], np.array([1.0, 1.0]))[0] == {}


def test_on_nothing_no_veto_is_found():
    """Images as the untuned model makes them, however noisy: 5 % at most, of each kind."""
    rng = np.random.default_rng(0)
    points = 400
    values = {
        "copying": USUAL - 0.1 + 0.05 * rng.standard_normal((points, 1, 8, 2)),
        "noise": 3 * np.exp(0.4 * rng.standard_normal((points, 1, 8, 2))),
        "pres": 0.3 + 0.1 * rng.standard_normal((points, 1, 4, 1)),
        "div": 0.4 + 0.1 * rng.standard_normal((points, 1, 8, 2)),
    }
    every = faults(values, [BASE] * points)
    for name in VETOES:
        assert np.mean([name in held and held[name].sure for held in every]) <= 0.05, name


def test_a_veto_without_its_scores_finds_nothing():
    nothing = {"untuned": {}, "photographs": {}}
    assert faults({"copying": np.ones((1, 1, 8, 2))}, [nothing]) == [{}]
    candidates, cards, _ = sweep(grid(), lambda *_: 0.9, lambda *_: 0.9)
    lacking = baselines()
    del lacking["photographs"]["copying"]
    assert "6 of 6" in " ".join(find(candidates, cards, [lacking] * 6).notes)
