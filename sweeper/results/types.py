"""The outcome of a sweep as plain values: what the table, the page, the sheet, MLflow and results.json show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.sweetspot import SweetSpot
from sweeper.engine.jobs import COMPLETE, FAIL, PRUNED, RUNNING, WAITING

__all__ = ["COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING", "Results", "Row", "TrainingResult"]


@dataclass(frozen=True)
class Row:
    """One evaluated checkpoint under one way of sampling it."""

    params: dict[str, Any]  # every axis, under the name typed; "steps" is this checkpoint's step
    training: str  # signature of the training it belongs to
    state: str
    asked: bool = True  # a cell of the grid; False: evaluated on the way (eval_every)
    reason: str = ""  # why FAIL or PRUNED
    metrics: dict[str, float] = field(
        default_factory=dict
    )  # means, see evaluation/metrics.py, and SCORES in ordering.py
    missing: dict[str, str] = field(default_factory=dict)  # metric -> why it is not among `metrics`
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95 % bootstrap, by metric
    vetoes: tuple[str, ...] = ()  # in words
    checkpoint: Path | None = None
    samples: Path | None = None  # folder of PNGs, named {prompt:02d}-{image:02d}.png
    log: Path | None = None
    curve: str = ""  # what `SweetSpot.onset` calls it: everything but step and seed
    untuned: Path | None = None  # folder of the untuned model's samples, made the same way
    began: float | None = None  # sampling; seconds since the epoch
    ended: float | None = None  # scoring

    @property
    def step(self) -> int:
        return int(self.params["steps"])


@dataclass(frozen=True)
class TrainingResult:
    """One training: its loss curve and cost."""

    signature: str
    params: dict[str, Any]  # every axis but steps and those of sampling
    state: str
    loss: tuple[tuple[int, float], ...] = ()  # (step, loss)
    reason: str = ""
    log: Path | None = None
    began: float | None = None  # seconds since the epoch
    ended: float | None = None  # with its last score


@dataclass(frozen=True)
class Results:
    name: str  # of the sweep
    folder: Path  # where everything below is written
    command: str
    axes: dict[str, tuple[Any, ...]]  # those that vary, in the order typed, with their values in order
    rows: tuple[Row, ...]
    trainings: tuple[TrainingResult, ...]
    sweet_spot: SweetSpot
    best: int | None  # index in `rows` of the sweet spot
    export: Path | None  # diffusers folder of the sweet spot
    instance_images: tuple[Path, ...]  # the real photographs
    prompts: tuple[str, ...]  # as sampled, with the identifier
    baselines: dict[str, float]  # S0, T0, SR, Tc
    backbones: dict[str, str]  # metric -> name of its encoder
    model: str
    subject: str
    plan: dict[str, Any]
    timings: dict[str, float]  # seconds by kind of work, over all runs of the command that computed something
    candidates: tuple[int, ...] = ()  # position in `rows` of each candidate of `sweet_spot`; empty: the rows themselves
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know, a sentence each
    trials: Mapping[str, str] = field(default_factory=dict)  # of a search: training -> "trial 3", or "trial 3, 9"
    running: bool = False  # the sweep goes on: the answer is that of now
    rerun: bool = False  # everything was there already, and nothing was computed
    began: float | None = None  # the sweep; seconds since the epoch
    ended: float | None = None

    def positions(self, indices: Iterable[int]) -> list[int]:
        """Positions in `rows` of candidates of `sweet_spot`."""
        return [self.candidates[i] if self.candidates else i for i in indices]
