"""Cells are compiled into the fewest trainings that serve them all. Pure; imports no torch.

Steps are checkpoints of one training and ways of sampling cost no training, so cells that differ in nothing else
share one. What must not be shared (another seed, a schedule that knows its horizon) differs in its `TrainSpec`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from evaluation.spec import EvalSpec
from sweeper.plan.config import RunSpec
from sweeper.plan.inversions import inversion_steps, inversions
from trainers.spec import ModelSpec, PriorSpec, SampleSpec, TrainSpec, signature


@dataclass(frozen=True)
class Point:
    """One checkpoint to sample and score in one way."""

    step: int
    sample: SampleSpec
    evaluation: EvalSpec
    use_ema: bool = True

    @classmethod
    def of(cls, run: RunSpec, step: int | None = None) -> "Point":
        """What the cell asks for, or the same at another step."""
        return cls(run.step if step is None else step, run.sample, run.evaluation, run.use_ema)

    @cached_property
    def signature(self) -> str:
        return signature(self.sample, self.evaluation, *(() if self.use_ema else ("no average",)))

    @property
    def images(self) -> int:
        return len(self.evaluation.prompts) * self.evaluation.images_per_prompt + self.evaluation.class_images


@dataclass(frozen=True)
class Training:
    """One fine-tuning and the cells it serves, by step."""

    spec: TrainSpec
    runs: tuple[RunSpec, ...]  # equal ones differ in what is evaluated on the way

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All that is evaluated, by step: the asked cells, and every `eval_every` steps on the way."""
        points = {Point.of(run): None for run in self.runs}
        ways = {(Point.of(run, 0), run.eval_every): run for run in self.runs if run.eval_every}
        for (_, every), run in ways.items():
            points |= dict.fromkeys(Point.of(run, step) for step in range(every, self.last_step, every))
        return tuple(sorted(points, key=lambda point: point.step))

    @cached_property
    def last_step(self) -> int:
        return max(run.step for run in self.runs)

    @cached_property
    def steps(self) -> tuple[int, ...]:
        return tuple(sorted({point.step for point in self.points}))

    def run_at(self, point: Point) -> RunSpec | None:
        """The cell that asked for this point, if one did."""
        return next((run for run in self.runs if Point.of(run) == point), None)


@dataclass(frozen=True)
class Left:
    """What a training still takes."""

    training: Training
    missing: tuple[Point, ...]  # to sample and score
    trained: int  # steps

    @property
    def untrained(self) -> int:
        """Steps until the last checkpoint that is missing."""
        last = max((point.step for point in self.missing), default=0)
        return last - min(self.trained, last)


class Done(Protocol):
    """What a store knows of finished work."""

    @property
    def cache(self) -> Path: ...
    def left(self, training: Training) -> Left: ...
    def has_baselines(self, spec: TrainSpec, point: Point) -> bool: ...
    def has_class_images(self, spec: TrainSpec) -> bool: ...


@dataclass(frozen=True)
class Cost:
    """What a plan takes before it is spent. Steps are optimizer steps, those of textual inversions included; images
    include class images and baselines."""

    cells: int
    trainings: int
    training_steps: int
    training_steps_unshared: int  # one training per cell
    images: int
    checkpoints: int
    done_trainings: int
    done_training_steps: int
    done_images: int


@dataclass(frozen=True)
class Plan:
    trainings: tuple[Training, ...]

    @property
    def cells(self) -> tuple[RunSpec, ...]:
        return tuple(run for training in self.trainings for run in dict.fromkeys(training.runs))


def cost(left: Sequence[Left], done: Done) -> Cost:
    trainings = [each.training for each in left]
    cells = Plan(tuple(trainings)).cells
    images = list(_images(left, done))
    first = inversions(left, done.cache).values()
    return Cost(
        cells=len(cells),
        trainings=len(trainings),
        training_steps=sum(training.last_step for training in trainings) + sum(each.steps for each in first),
        training_steps_unshared=sum(run.step + inversion_steps(run.train) for run in cells),
        images=sum(count for count, _ in images),
        checkpoints=sum(len(training.steps) for training in trainings),
        done_trainings=sum(not each.missing for each in left),
        done_training_steps=sum(each.trained if each.missing else each.training.last_step for each in left)
        + sum(each.steps - each.left for each in first),
        done_images=sum(count for count, finished in images if finished),
    )


def _images(left: Iterable[Left], done: Done) -> Iterator[tuple[int, bool]]:
    """(number of images, whether they are there) of every shared piece of sampling."""
    baselines, class_images = {}, {}
    for each in left:
        spec = each.training.spec
        for run in each.training.runs:
            baselines.setdefault((spec.model, spec.subject, run.sample, run.evaluation), (spec, Point.of(run)))
        missing = sum(point.images for point in each.missing)
        yield missing, False
        yield sum(point.images for point in each.training.points) - missing, True
        if spec.prior and not spec.prior.folder:
            class_images.setdefault(class_images_of(spec), spec)
    for spec, point in baselines.values():
        yield point.images, done.has_baselines(spec, point)
    for spec in class_images.values():
        yield spec.prior.num_class_images, done.has_class_images(spec)


def class_images_of(spec: TrainSpec) -> tuple[ModelSpec, str, PriorSpec]:
    """What determines the class images of a training: not the weight of their loss, nor the scale of learning rates."""
    assert spec.prior
    return replace(spec.model, lr_scale=1.0), spec.subject.class_prompt, replace(spec.prior, weight=1.0)


def distinct(cells: Iterable[RunSpec]) -> tuple[RunSpec, ...]:
    """Each cell once, and once more for another way of evaluating before it."""
    return tuple({(cell, cell.eval_every): cell for cell in cells}.values())


def compile_plan(cells: Iterable[RunSpec]) -> Plan:
    """The plan of the cells, in the order given; equal cells are one."""
    by_training: dict[TrainSpec, list[RunSpec]] = {}
    for cell in distinct(cells):
        by_training.setdefault(cell.train, []).append(cell)
    return Plan(tuple(Training(spec, tuple(sorted(runs, key=lambda r: r.step))) for spec, runs in by_training.items()))
