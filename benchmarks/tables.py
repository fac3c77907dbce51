"""Means over sweeps with their intervals, and tables in Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Mean:
    """Of a quantity with a value for each sweep: half the width of its interval is NaN for under three sweeps."""

    level: float
    half: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Mean":
        array = np.array([value for value in values if np.isfinite(value)])
        count = len(array)
        half = student.ppf(0.975, count - 1) * array.std(ddof=1) / np.sqrt(count) if count > 2 else np.nan
        return cls(float(array.mean()) if count else np.nan, float(half))

    def __str__(self) -> str:
        return f"{self.level:.3f}" + (f" ± {self.half:.3f}" if np.isfinite(self.half) else "")


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
