"""Cells are compiled into the fewest trainings that serve them all. Pure; imports no torch.

Steps are checkpoints of one training and ways of sampling cost no training, so cells that differ in nothing else
share one. What must not be shared (another seed, a schedule that knows its horizon) differs in its `TrainSpec`.
"""

from collections.abc import Iterable, Iterator, Sequence

from sweeper.plan.inversions import inversion_steps, inversions
from sweeper.plan.types import Cell, Cost, Done, Plan, Point, Remaining, Training
from trainers.spec import TrainSpec


def cost(left: Sequence[Remaining], done: Done) -> Cost:
    trainings = [each.training for each in left]
    cells = Plan(tuple(trainings)).cells
    images = list(_images(left, done))
    first = inversions(left, done.cache).values()
    return Cost(
        cells=len(cells),
        trainings=len(trainings),
        training_steps=sum(training.last_step for training in trainings) + sum(each.steps for each in first),
        training_steps_unshared=sum(cell.step + inversion_steps(cell.train) for cell in cells),
        images=sum(count for count, _ in images),
        checkpoints=sum(len(training.steps) for training in trainings),
        done_trainings=sum(not each.missing for each in left),
        done_training_steps=sum(each.trained if each.missing else each.training.last_step for each in left)
        + sum(each.steps - each.left for each in first),
        done_images=sum(count for count, finished in images if finished),
    )


def _images(left: Iterable[Remaining], done: Done) -> Iterator[tuple[int, bool]]:
    """(number of images, whether they are there) of every shared piece of sampling."""
    baselines: dict[object, tuple[TrainSpec, Point]] = {}
    class_images: dict[str, TrainSpec] = {}
    for each in left:
        spec = each.training.spec
        for cell in each.training.cells:
            baselines.setdefault((spec.model, spec.subject, cell.sample, cell.evaluation), (spec, Point.of(cell)))
        missing = sum(point.planned_images for point in each.missing)
        yield missing, False
        yield sum(point.planned_images for point in each.training.points) - missing, True
        if spec.prior and not spec.prior.folder:
            class_images.setdefault(spec.class_images_signature, spec)
    for spec, point in baselines.values():
        yield point.planned_images, done.has_baselines(spec, point)
    for spec in class_images.values():
        if spec.prior:
            yield spec.prior.num_class_images, done.has_class_images(spec)


def distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Each cell once. Cells that differ only in `eval_every` are equal, and both stay."""
    return tuple({(cell, cell.eval_every): cell for cell in cells}.values())


def compile_plan(cells: Iterable[Cell]) -> Plan:
    """The plan of the cells, in the order given; equal cells are one."""
    by_training: dict[TrainSpec, list[Cell]] = {}
    for cell in distinct(cells):
        by_training.setdefault(cell.train, []).append(cell)
    return Plan(
        tuple(Training(spec, tuple(sorted(cells, key=lambda cell: cell.step))) for spec, cells in by_training.items())
    )
