"""Cells are compiled into the fewest trainings that serve them all. Pure; imports no torch.

Steps are checkpoints of one training and ways of sampling cost no training, so cells that differ in nothing else
share one. What must not be shared (another seed, a schedule that knows its horizon) differs in its `TrainSpec`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from sweeper.plan.inversions import inversion_steps, inversions
from sweeper.plan.types import Cell, Cost, Done, Plan, Point, Remaining, Training
from trainers.spec import ModelSpec, PriorSpec, TrainSpec


def cost(left: Sequence[Remaining], done: Done) -> Cost:
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


def _images(left: Iterable[Remaining], done: Done) -> Iterator[tuple[int, bool]]:
    """(number of images, whether they are there) of every shared piece of sampling."""
    baselines, class_images = {}, {}
    for each in left:
        spec = each.training.spec
        for run in each.training.cells:
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
    """What determines the class images of a training: the weight of their loss does not."""
    assert spec.prior
    return spec.model, spec.subject.class_prompt, replace(spec.prior, weight=1.0)


def distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Each cell once, and once more for another way of evaluating before it."""
    return tuple({(cell, cell.eval_every): cell for cell in cells}.values())


def compile_plan(cells: Iterable[Cell]) -> Plan:
    """The plan of the cells, in the order given; equal cells are one."""
    by_training: dict[TrainSpec, list[Cell]] = {}
    for cell in distinct(cells):
        by_training.setdefault(cell.train, []).append(cell)
    return Plan(
        tuple(Training(spec, tuple(sorted(cells, key=lambda r: r.step))) for spec, cells in by_training.items())
    )
