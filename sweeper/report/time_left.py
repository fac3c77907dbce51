"""How long a sweep still takes, from the rates that it measures while it runs.

Work is counted in two amounts, each with a rate: images that optimizer steps see, and images times inference steps.
What was expected of a rate counts like `TRUST` seconds of measuring; then the sweep's own speed decides. Loading, class
images and baselines, which only some trainings need, do not change the estimate.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeper.engine.jobs import COMPLETE, Job, Status
from sweeper.forecast import MINIATURE
from sweeper.plan.types import Remaining

TRUST = 20.0  # seconds of measuring that an expected rate counts for
SAMPLING = re.compile(r"sampling step (\d+)")  # as sweeper/engine/scoring.py reports it


@dataclass
class Work:
    """What one training takes: images seen by optimizer steps, and images times inference steps."""

    remaining: Remaining  # when it was added
    trained: float = 0.0  # done of it
    sampled: float = 0.0
    seconds: float = 0.0  # that this took
    to_train: float = field(init=False)
    to_sample: float = field(init=False)

    def __post_init__(self) -> None:
        self.to_train = self.remaining.untrained * self.remaining.training.spec.images_per_step
        self.to_sample = self._sampled(lambda step: True)

    def _sampled(self, among: Callable[[int], bool]) -> float:
        points = (point for point in self.remaining.missing if among(point.step))
        return sum(point.images * point.sample.inference_steps for point in points)

    def end(self, complete: bool) -> None:
        """Where it was ended before its last step, what was left is no work any more."""
        if complete:
            self.trained = self.to_train
            self.sampled = self.to_sample
        else:
            self.to_train = self.trained
            self.to_sample = self.sampled

    def cost(self, rate: Mapping[str, float]) -> tuple[float, float]:
        """Seconds at a rate: done, and whole."""
        done = self.trained * rate["step"] + self.sampled * rate["image"]
        return done, self.to_train * rate["step"] + self.to_sample * rate["image"]

    def follow(self, status: Status, passed: float) -> None:
        """What is done of it by its status, and the seconds that passed since the last one."""
        sampling = SAMPLING.fullmatch(status.phase)
        if not sampling and (status.phase != "training" or not status.fraction):
            return
        self.seconds += passed
        training = self.remaining.training
        step = int(sampling[1]) if sampling else round(status.fraction * training.last_step)
        begin = max((point.step for point in self.remaining.missing), default=0) - self.remaining.untrained
        trained = min(max(0, step - begin), self.remaining.untrained) * training.spec.images_per_step
        now = self._sampled(lambda other: other == step) if sampling else 0.0
        sampled = self._sampled(lambda other: other < step) + now * status.done / max(1, status.total)
        self.trained = max(self.trained, trained)
        self.sampled = max(self.sampled, sampled)


@dataclass
class TimeLeft:
    """Of a sweep. rate: seconds by kind of work as expected (see sweeper/forecast.py); None where that is not known."""

    at_once: int  # trainings
    rate: Mapping[str, float] | None = None
    now: Callable[[], float] = time.monotonic
    works: dict[Path, Work] = field(default_factory=dict)  # by the path of the job
    measured: dict[Path, Mapping[str, float]] = field(default_factory=dict)  # rates of the trainings that have ended
    seen: float | None = None  # when it looked last
    began: float | None = None

    def expect(self, job: Job, remaining: Remaining) -> None:
        self.works[job.path] = Work(remaining)

    def look(self, jobs: Iterable[Job]) -> None:
        now = self.now()
        passed = now - (now if self.seen is None else self.seen)
        self.began = now if self.began is None else self.began
        self.seen = now
        for job in jobs:
            work = self.works.get(job.path)
            if work is None or job.path in self.measured:
                continue
            outcome = job.outcome
            status = None if outcome else job.status
            if outcome:
                self.measured[job.path] = outcome.rates
                work.end(outcome.state == COMPLETE)
            elif status:
                work.follow(status, passed)

    def seconds(self, count: int) -> float | None:
        """Until `count` trainings have ended; None where nothing is known of it yet."""
        rate = self._rate()
        works = self.works.values()
        spent = sum(work.seconds for work in works)
        trust = TRUST if self.rate or any(self.measured.values()) else 0.0
        if not works or spent + trust < TRUST:
            return None
        expected = sum(work.cost(rate)[0] for work in works if work.seconds)
        pace = (spent + trust) / max(expected + trust, 1e-9)
        costs = [work.cost(rate) for work in works]
        left = [whole - done for done, whole in costs]
        left += [sum(whole for _, whole in costs) / len(costs)] * (
            count - len(costs)
        )  # those that nobody asked for yet
        return max(max(left), sum(left) / max(1, self.at_once)) * pace + self._start(spent)

    def _rate(self) -> Mapping[str, float]:
        """The mean of what was measured, else what was expected; else only the ratio counts."""
        found = [rate for rate in self.measured.values() if rate]
        if not found:
            return self.rate or MINIATURE
        return {kind: sum(rate[kind] for rate in found) / len(found) for kind in ("step", "image")}

    def _start(self, spent: float) -> float:
        """Until the first training begins."""
        if spent or not self.rate or self.began is None or self.seen is None:
            return 0.0
        return max(0.0, self.rate["start"] - (self.seen - self.began))

    def share(self, count: int) -> float:
        """Of the work that is done, 0 to 1."""
        costs = [work.cost(self.rate or MINIATURE) for work in self.works.values()]
        whole = sum(whole for _, whole in costs) * max(1.0, count / max(1, len(costs)))
        return sum(done for done, _ in costs) / whole if whole else float(bool(costs))


def roughly(seconds: float) -> str:
    """As exact as an estimate is: "40 s", "12 min", "2 h 5 min"."""
    if seconds < 100:
        return f"{max(10, 10 * round(seconds / 10))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
