"""Which checkpoint to use, why, and when overfitting began. Pure functions over arrays; see docs for the definition."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Candidate:
    """One evaluated checkpoint under one way of sampling it. Candidates that differ in `seed` only are replicates."""

    key: str  # the caller's name for it
    curve: str  # everything but step and seed, as one string: the candidates of a curve differ in these two only
    step: int
    lr: float
    seed: int = 0
    words: str = ""  # for sentences: "lr=2e-6 at step 400"


@dataclass(frozen=True)
class SweetSpot:
    """The answer. Indices are positions in the list of candidates; tuples have an entry each, NaN where missing."""

    found: bool  # a checkpoint is recommended: `best` is not None
    verdict: str  # region | edge | flat | single | none | refused
    reason: str  # one sentence for the user
    best: int | None = None
    region: tuple[int, ...] = ()  # within one standard error of the best score
    pareto: tuple[int, ...] = ()  # not dominated in (s, t)
    knee: int | None = None  # of the Pareto set
    onset: dict[str, int | None] = field(default_factory=dict)  # curve -> step at which overfitting begins
    s: tuple[float, ...] = ()  # normalised subject fidelity
    t: tuple[float, ...] = ()  # normalised prompt fidelity
    score: tuple[float, ...] = ()  # harmonic mean of s and t, each within 0..1
    intervals: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)  # 95 %, of s, t and score
    vetoes: tuple[tuple[str, ...], ...] = ()  # per candidate, in words
    reported: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # of the best: mean, low, high,
    # measured on the prompts that had no part in choosing it
    conditional_on: str = ""  # what the intervals do not cover, in words
    suggestion: str = ""  # what to try next
