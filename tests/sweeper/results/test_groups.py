from pathlib import Path

from sweeper.results.groups import Group, answers_of
from sweeper.results.types import COMPLETE, Row

AXES = ("subject", "lr", "seed", "steps")


def row(subject, lr, steps, score, seed=0, vetoes=()):
    params = {"subject": subject, "lr": lr, "seed": seed, "steps": steps}
    metrics = {} if score is None else {"score": score}
    return Row(params, f"{subject}-{lr}-{seed}", COMPLETE, metrics=metrics, vetoes=vetoes, samples=Path("."))


def groups(*rows):
    subjects = dict.fromkeys(each.params["subject"] for each in rows)
    return [Group(tuple(r for r in rows if r.params["subject"] == s), f"the answer for {s}.") for s in subjects]


def test_each_has_its_answer_and_the_average_is_of_what_all_have():
    """The setting with the highest score of all is not the best on average, and one is not measured for both."""
    found = answers_of(
        groups(
            row("cat", 1e-6, 100, 0.95), row("cat", 2e-6, 100, 0.7), row("cat", 5e-6, 100, 0.99),
            row("face", 1e-6, 100, 0.3), row("face", 2e-6, 100, 0.6), row("face", 5e-6, 100, None),
        ),
        AXES,
    )  # fmt: skip
    assert found == (
        "subject=cat: the answer for cat.",
        "subject=face: the answer for face.",
        "Best on average over subject=cat and subject=face is lr=2e-6 steps=100, with a mean score of 0.65; "
        "the lowest is 0.60, of subject=face.",
    )


def test_what_is_vetoed_for_one_is_not_best_for_all():
    copied = row("face", 2e-6, 100, 0.9, vetoes=("copies",))
    every = groups(row("cat", 1e-6, 100, 0.5), row("cat", 2e-6, 100, 0.9), row("face", 1e-6, 100, 0.5), copied)
    assert "lr=1e-6 steps=100" in answers_of(every, AXES)[-1]
    nothing = answers_of(groups(row("cat", 2e-6, 100, 0.9), copied), AXES)[-1]
    assert nothing == "No setting was measured and is allowed for each of subject=cat and subject=face."


def test_training_seeds_are_averaged():
    rows = [row(s, lr, 100, score, seed) for s in ("cat", "face") for lr, seed, score in (
        (1e-6, 0, 0.9), (1e-6, 1, 0.1), (2e-6, 0, 0.6), (2e-6, 1, 0.6),
    )]  # fmt: skip
    assert "lr=2e-6 steps=100, with a mean score of 0.60" in answers_of(groups(*rows), AXES)[-1]


def test_of_equals_the_earliest_whatever_the_order():
    rows = [row(s, 1e-6, step, 0.7) for s in ("cat", "face") for step in (200, 100)]
    for each in (rows, rows[::-1]):
        assert "steps=100" in answers_of(groups(*each), AXES)[-1]


def test_where_all_compare_nothing_is_said():
    assert answers_of(groups(row("cat", 1e-6, 100, 0.9)), AXES) == ()
