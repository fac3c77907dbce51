"""The benchmark of selection: its worlds are what they say, its rules and its table are right."""

import json

import numpy as np
import pytest

from benchmarks import selection
from benchmarks.selection import argmax, isotonic, one_standard_error, ratio_interval
from benchmarks.worlds import WORLDS, Sweep, World, draw, read_worlds


def line(s, t, prompts=4):
    """One training; the prompts agree but for a little noise."""
    s, t = np.array(s, float), np.array(t, float)
    noise = 1e-3 * np.random.default_rng(0).normal(size=(2, len(s), prompts, 1))
    noise = noise - noise.mean(2, keepdims=True)
    count = len(s)
    return Sweep(
        np.full(count, 2e-6), 100.0 * np.arange(1, count + 1), np.zeros((count, 0), np.int64),
        np.zeros(count, np.int64), s, t, s[:, None, None] + noise[0], t[:, None, None] + noise[1],
    )  # fmt: skip


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_worlds_are_repeatable_and_noisy_as_stated(world):
    sweep, again = draw(world, 8, 1000, 0), draw(world, 8, 1000, 0)
    np.testing.assert_array_equal(sweep.values_s, again.values_s)
    np.testing.assert_array_equal(sweep.s, draw(world, 16, 1000, 0).s)
    assert not np.array_equal(sweep.s, draw(world, 8, 1000, 1).s)
    assert sweep.values_t.shape == (len(sweep.lr), 4, 2)
    within = sweep.values_s.std(2, ddof=1)
    assert 0.04 < np.sqrt((within**2).mean()) < 0.13


def test_rules():
    sweep = line([0.2, 0.6, 0.80, 0.8005], [0.9, 0.9, 0.90, 0.90])
    assert argmax(sweep) == 3
    assert one_standard_error(sweep) == 2
    fallen = line([0.5, 0.95, 0.55, 0.9], [0.9, 0.9, 0.9, 0.9])
    assert (argmax(fallen), isotonic(fallen)) == (1, 3)


def test_ratio_and_its_interval():
    rng = np.random.default_rng(0)
    base = rng.exponential(size=500)
    ratio, low, high = ratio_interval(0.5 * base, base)
    assert (ratio, low, high) == pytest.approx((0.5, 0.5, 0.5))
    assert np.isnan(ratio_interval(np.zeros(3), np.zeros(3))[0])


def test_targets_are_pinned():
    result = selection.Result(
        {"argmax": 1.0, "one standard error": 1, "isotonic": 1, "process": 0.65}, 1, 0.9, True, True
    )
    assert "reached" not in selection.row("w", 8, True, [result])  # the region holds 100 %, it states 90 %
    for ratio, alike, reached in ((0.65, True, True), (0.66, True, False), (1.1, False, True), (1.11, False, False)):
        regret = result.regret | {"process": ratio}
        assert (
            "ratio" not in selection.row("w", 8, alike, [selection.Result(regret, 1, 0.96, True, True)])[-20:]
        ) == reached


def test_command_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    out = tmp_path / "results.json"
    arguments = ["--only", "few cells", "--repeats", "3", "--images", "8", "--seed", "1000", "--out", str(out)]
    selection.main(arguments)
    first = capsys.readouterr().out
    monkeypatch.setattr(selection, "judge_sweep", lambda sweep: pytest.fail("judged twice"))
    selection.main(arguments)
    assert capsys.readouterr().out == first
    assert "| few cells | 8 |" in first
    assert "| together: neighbours alike | 8 |" in first


def test_worlds_from_a_file(tmp_path, capsys):
    sweep = draw(World("theirs", "smooth", 2, 3, ways=2), 8, 1000, 0)
    names = ("lr", "steps", "axes", "training", "s", "t", "values_s", "values_t")
    entry = {name: getattr(sweep, name).tolist() for name in names} | {"world": "theirs", "alike": True}
    file = tmp_path / "worlds.json"
    file.write_text(json.dumps([entry, entry]))
    name, alike, again = next(read_worlds(file))
    assert (name, alike) == ("theirs", True)
    np.testing.assert_array_equal(again.values_s, sweep.values_s)
    selection.main(["--worlds", str(file)])
    assert "| theirs | 8 |" in capsys.readouterr().out


def test_unknown_number_of_images_is_refused(capsys):
    with pytest.raises(SystemExit):
        selection.main(["--images", "9"])
    assert "known are [8, 16]" in capsys.readouterr().err
