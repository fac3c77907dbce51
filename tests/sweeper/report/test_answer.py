"""The answer in three lines: it says what the results hold, and its command does what its suggestion says."""

import shlex
from dataclasses import replace

import numpy as np
import pytest

from evaluation import words
from evaluation.vetoes import VETOES
from sweeper.report.answer import SUGGESTED, answer_of, as_good, next_command, onset_of
from tests.sweeper.report.synthetic import make_results

GRID = {"lr": (1e-6, 2e-6, 5e-6), "steps": (400, 800, 1200)}


@pytest.fixture
def results(tmp_path):
    return make_results(tmp_path, GRID, images=False)


def changed(results, **fields):
    return replace(results, sweet_spot=replace(results.sweet_spot, **fields))


def test_it_says_the_numbers_of_the_recommended_row(results):
    answer = answer_of(results)
    best = results.rows[results.best]
    assert answer.use == f"lr={'5e-6' if best.params['lr'] == 5e-6 else '2e-6'} at step {best.step}"
    assert (answer.s.value, answer.s.low, answer.s.high) == (best.metrics["s"], *best.intervals["s"])
    assert (answer.t.value, answer.t.low, answer.t.high) == (best.metrics["t"], *best.intervals["t"])


def test_without_a_sweet_spot_it_says_why(results):
    spot = replace(
        results.sweet_spot, best=None, found=False, verdict="none", reason="Nothing.", suggestion="Try lr=1."
    )
    answer = answer_of(replace(results, best=None, sweet_spot=spot, notes=("A note.", "Another.")))
    assert (answer.use, answer.found, answer.s, answer.warning) == ("Nothing.", False, None, "A note.")
    assert answer.notes == ("Another.",)


def test_one_warning_at_most_the_verdict_before_the_notes(results):
    noted = replace(changed(results, verdict="edge"), notes=("A note.",))
    assert "edge of the grid" in answer_of(noted).warning
    assert answer_of(noted).notes == ("A note.",)
    assert answer_of(changed(results, verdict="region")).warning == ""
    reason = words.reason("region", "lr=1", 0.9, 0.9, [], 0.9, [], drifted=True)
    assert "prior_preservation=true" in answer_of(changed(results, reason=reason)).warning


def test_what_is_as_good_is_told_by_what_varies(results):
    assert as_good(changed(results, region=(1,))) == ""
    assert as_good(changed(results, region=(0, 1))) == "lr 1e-6, steps 400 or 800"
    assert as_good(changed(results, region=(0, 1, 2, 4))) == "lr 1e-6 or 2e-6, steps 400 to 1200"


@pytest.mark.parametrize(("region", "shown"), [((0,), 800), ((0, 1), None), ((0, 2), None), ((3,), 800)])
def test_overfitting_never_begins_inside_of_what_is_as_good(results, region, shown):
    curve = results.rows[0].curve  # of the rows 0 to 2
    assert onset_of(changed(results, region=region, onset={curve: 800}), 0) == shown


def command(results, typed, tries):
    return next_command(replace(results, command=typed), tries)


@pytest.mark.parametrize(
    ("typed", "tries", "expected"),
    [
        (
            "python sweep.py -m lr=1e-6,2e-6,5e-6 steps=400,800,1200 name=a",
            [("steps", "2400")],
            "python sweep.py -m lr=1e-6,2e-6,5e-6 name=a steps=400,800,1200,2400",
        ),
        (
            "python sweep.py -m steps=400,800,1200",
            [("lr", "5e-7"), ("steps", "200")],
            "python sweep.py -m lr=5e-7,1e-6,2e-6,5e-6 steps=200,400,800,1200",
        ),
        ("python sweep.py lr=1e-6", [("seed", "1")], "python sweep.py -m lr=1e-6 seed=1"),
        ("python sweep.py -m lr=1", [("evaluation", "paper")], "python sweep.py -m lr=1 evaluation=paper"),
        (
            "python sweep.py -m 'lr=tag(log, interval(1e-7, 1e-5))'",
            [("lr", "2e-5")],
            "python sweep.py -m 'lr=tag(log, interval(1e-7,2e-5))'",
        ),
        (
            "python sweep.py -m 'lr=interval(1e-7,1e-5)'",
            [("lr", "5e-8")],
            "python sweep.py -m 'lr=interval(5e-8,1e-5)'",
        ),
        ("sweep.py -m 'lr=interval(1,2)' name=a", [("lr", "4")], "sweep.py -m 'lr=interval(1,4)'"),
        ("sweep.py -m 'lr=interval(start=1e-7,end=1e-5)'", [("lr", "5e-8")], ""),
        ("sweep.py -m 'lr=interval(1e-7", [("lr", "5e-8")], ""),
        ("sweep.py -m 'steps=range(400,1201,400)'", [("steps", "9")], "sweep.py -m steps=9,400,800,1200"),
        ("python sweep.py -m 'unbalanced", [("lr", "1")], ""),
        ("python sweep.py -m lr=1", [], ""),
    ],
)
def test_the_next_command_adds_values_to_the_last_one(results, typed, tries, expected):
    assert command(results, typed, tries) == expected


def test_what_a_user_typed_stays_quoted(results):
    typed = shlex.join(["python", "sweep.py", "-m", "subject.images=my photos; rm -rf /", "lr=1e-6"])
    found = shlex.split(command(results, typed, [("steps", "5")]))
    assert "subject.images=my photos; rm -rf /" in found


@pytest.mark.parametrize(
    ("sentence", "tries"),
    [
        (words.extend(["more steps", "higher lr"], np.array([100, 400]), np.array([1e-6, 2e-6])), ["steps", "lr"]),
        (words.more(np.array([100]), np.array([1e-6])), ["lr", "steps"]),
        (words.less(np.array([100]), np.array([1e-6])), ["lr", "steps"]),
        (words.FLAT, []),
        (words.SINGLE, []),
        (words.REFUSED, []),
        (f"Try {VETOES['pres'].advice}.", ["prior_preservation"]),
    ],
)
def test_every_setting_of_a_suggestion_is_understood(sentence, tries):
    found = SUGGESTED.findall(sentence)
    assert [name for name, _ in found] == tries
    assert all(f"{name}={value}" in sentence and not value.endswith(".") for name, value in found)
