"""When a sweep ran and what its time went into, over all runs of its command.

A run that finds everything there already computes nothing: the times stay those of the runs that did the work.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweeper.results.types import Results
from trainers.files import read_json


@dataclass(frozen=True)
class Earlier:
    """What former runs left in results.json; of one that was ended in the middle not its times."""

    timings: dict[str, float] = field(default_factory=dict)  # seconds by kind of work
    began: float | None = None  # seconds since the epoch
    ended: float | None = None

    @classmethod
    def of(cls, folder: Path) -> "Earlier":
        """Nothing where there is no results.json, or one that is broken: it is written anew at the end."""
        try:
            content: dict[str, Any] = read_json(folder / "results.json")
            if content.get("running"):
                return cls(began=content.get("began"))
            timings = {str(kind): float(seconds) for kind, seconds in content["timings"].items()}
            return cls(timings, content.get("began"), content.get("ended"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return cls()


def with_times(results: Results, own: dict[str, float], earlier: Earlier, worked: bool) -> Results:
    """The finished results with their times. own: seconds by kind of work of this run, `wall` of the whole run;
    worked: whether it computed anything."""
    now = time.time()
    if not worked and earlier.timings:
        ended = earlier.ended or now
        return replace(results, timings=earlier.timings, began=earlier.began, ended=ended, rerun=True)
    kinds = dict.fromkeys([*own, *earlier.timings])
    timings = {kind: own.get(kind, 0.0) + earlier.timings.get(kind, 0.0) for kind in kinds}
    return replace(results, timings=timings, began=earlier.began or now - own["wall"], ended=now)


def own_times(results: Results, earlier: Earlier, wall: float) -> dict[str, float]:
    """Of the timings of finished results those of this run, whose whole took `wall` seconds."""
    if results.rerun:
        return {"wall": wall}
    own = {kind: seconds - earlier.timings.get(kind, 0.0) for kind, seconds in results.timings.items()}
    return {**own, "wall": wall}
