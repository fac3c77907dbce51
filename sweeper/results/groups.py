"""Several subjects, models or evaluations in one sweep: an answer for each, and the setting that is best on average.

Scores of different subjects or encoders do not compare, so the highest of all says nothing.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.spec import show
from sweeper.plan.axes import describe
from sweeper.results.types import Row

EACH = "{}: {}"
AVERAGE = "Best on average over {} is {}, with a mean score of {:.2f}; the lowest is {:.2f}, of {}."
NO_AVERAGE = "No setting was measured and is allowed for each of {}."


@dataclass(frozen=True)
class Group:
    """Rows that compare, with their scores, and what is said of them."""

    rows: tuple[Row, ...]
    reason: str


def answers_of(groups: Sequence[Group], axes: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each group and one on their average; nothing where all rows compare."""
    if len(groups) < 2:
        return ()
    apart = [name for name in axes if sets_apart(name, groups)]
    names = [describe(group.rows[0].params, apart) for group in groups]
    each = [EACH.format(name, group.reason) for name, group in zip(names, groups, strict=True)]
    return *each, best_on_average(groups, names, [name for name in axes if name not in (*apart, "seed", "steps")])


def sets_apart(name: str, groups: Sequence[Group]) -> bool:
    """Whether an axis has one value in each group and several in all."""
    values = [{show(row.params.get(name)) for row in group.rows} for group in groups]
    return all(len(found) == 1 for found in values) and len(set[str]().union(*values)) > 1


def best_on_average(groups: Sequence[Group], names: Sequence[str], axes: Sequence[str]) -> str:
    """Of the settings that every group has measured and allows, the one with the highest mean score; of equal ones the
    one of the earliest step."""
    scores = [setting_scores(group.rows, axes) for group in groups]
    common = [setting for setting in scores[0] if all(setting in found for found in scores)]
    if not common:
        return NO_AVERAGE.format(" and ".join(names))
    best = max(
        common, key=lambda setting: (np.mean([found[setting][0] for found in scores]), -scores[0][setting][1].step)
    )
    of_it = [found[best][0] for found in scores]
    row = scores[0][best][1]
    words = describe(row.params, [*axes, "steps"])
    lowest = int(np.argmin(of_it))
    return AVERAGE.format(" and ".join(names), words, np.mean(of_it), of_it[lowest], names[lowest])


def setting_scores(rows: Sequence[Row], axes: Sequence[str]) -> dict[Hashable, tuple[float, Row]]:
    """The mean score over training seeds of each setting, and one of its rows; without those of which one is vetoed."""
    by_setting: dict[Hashable, list[Row]] = {}
    for row in rows:
        setting = (*(show(row.params.get(name)) for name in axes), row.step)
        by_setting.setdefault(setting, []).append(row)
    return {
        setting: (float(np.mean([row.metrics["score"] for row in found])), found[0])
        for setting, found in by_setting.items()
        if all("score" in row.metrics and not row.vetoes for row in found)
    }
