"""A cell, the training that serves it, and the plan of them all, as values."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from evaluation.scheme import planned_images
from evaluation.spec import EvalSpec
from trainers.spec import SampleSpec, TrainSpec, not_identity, signature

HALVING = "halving"  # of eval_every
HALVINGS = 4  # of the last step: 25, 50, 100 and 200 of 400


@dataclass(frozen=True)
class Cell:
    """One checkpoint, sampled and evaluated in one way: one row of the results."""

    train: TrainSpec
    step: int
    sample: SampleSpec
    evaluation: EvalSpec
    eval_every: int | str = not_identity(default=0)  # see `steps_on_the_way`
    params: tuple[tuple[str, Any], ...] = not_identity(default=())  # as typed and shown
    use_ema: bool = True  # the average of the weights, where the training keeps one
    elsewhere: tuple[tuple[str, str], ...] = not_identity(default=())  # see sweeper/plan/precision.py

    @cached_property
    def signature(self) -> str:
        """The identity of the cell: of all that changes what is trained, evaluated or shown for it."""
        parts = (self.train, self.step, self.sample, self.evaluation, self.eval_every)
        return signature(*parts, *_average(self.use_ema))


def steps_on_the_way(eval_every: int | str, last_step: int) -> tuple[int, ...]:
    """The steps before the last that are evaluated too: every so many, or the last one halved again and again. Early in
    a training a few steps change as much as many do later."""
    if eval_every == HALVING:
        return tuple(step for step in (last_step >> n for n in range(HALVINGS, 0, -1)) if step)
    return tuple(range(int(eval_every), last_step, int(eval_every)))


def _average(use_ema: bool) -> tuple[str, ...]:
    """What `use_ema` adds to an identity: nothing where it has its default, which is older than the setting."""
    return () if use_ema else ("no average",)


@dataclass(frozen=True)
class Point:
    """One checkpoint to sample and score in one way."""

    step: int
    sample: SampleSpec
    evaluation: EvalSpec
    use_ema: bool = True

    @classmethod
    def of(cls, cell: Cell, step: int | None = None) -> "Point":
        """What the cell asks for, or the same at another step."""
        return cls(cell.step if step is None else step, cell.sample, cell.evaluation, cell.use_ema)

    @cached_property
    def signature(self) -> str:
        return signature(self.sample, self.evaluation, *_average(self.use_ema))

    @property
    def images(self) -> int:
        return len(self.evaluation.prompts) * self.evaluation.images_per_prompt + self.evaluation.class_images

    @property
    def planned_images(self) -> int:
        """Those of later rounds too: on the average of all cells, at most."""
        return planned_images(self.evaluation)


@dataclass(frozen=True)
class Training:
    """One fine-tuning and the cells it serves, by step."""

    spec: TrainSpec
    cells: tuple[Cell, ...]  # equal ones differ in what is evaluated on the way

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All that is evaluated, by step: the asked cells, and what `eval_every` adds on the way."""
        points = dict.fromkeys(Point.of(cell) for cell in self.cells)
        ways = {(Point.of(cell, 0), cell.eval_every): cell for cell in self.cells if cell.eval_every}
        for (_, every), cell in ways.items():
            points |= dict.fromkeys(Point.of(cell, step) for step in steps_on_the_way(every, self.last_step))
        return tuple(sorted(points, key=lambda point: point.step))

    @cached_property
    def last_step(self) -> int:
        return max(cell.step for cell in self.cells)

    @cached_property
    def steps(self) -> tuple[int, ...]:
        return tuple(sorted({point.step for point in self.points}))

    def cell_at(self, point: Point) -> Cell | None:
        """The cell that asked for this point, if one did."""
        return next((cell for cell in self.cells if Point.of(cell) == point), None)

    def nearest_cell(self, point: Point) -> Cell:
        """The cell that asked for this point, or else for the same at another step."""
        return self.cell_at(point) or next(cell for cell in self.cells if Point.of(cell, point.step) == point)


@dataclass(frozen=True)
class Remaining:
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
    def left(self, training: Training) -> Remaining: ...
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
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for training in self.trainings for cell in dict.fromkeys(training.cells))


def has_rounds(plan: Plan) -> bool:
    """Whether some checkpoints are sampled again after all trainings."""
    return any(cell.evaluation.adaptive for training in plan.trainings for cell in training.cells)
