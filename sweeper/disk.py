"""How much a plan writes, how much of that is there at once, and whether it has room. Imports no torch."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from sweeper.plan.precision import stored_precision
from sweeper.plan.types import Remaining
from trainers.errors import SpecError
from trainers.files import existing
from trainers.hub import cache_folder, free_bytes
from trainers.sizes import LARGE_STATE, SAVE_EVERY, checkpoint_bytes, pipeline_bytes, state_bytes
from trainers.spec import TrainSpec

SPARE = 3  # checkpoints that are kept before the end besides those asked for, as they may still be chosen
PIXEL = 1.6  # bytes of a PNG: 12 photographs at 512 pixels took 0.96 to 1.66, images of the miniature 1.5 to 1.6


@dataclass(frozen=True)
class Disk:
    """Bytes at most: what is there at once, by kind, and all that is written."""

    checkpoints: int = 0
    states: int = 0
    images: int = 0
    export: int = 0
    written: int = 0

    @property
    def peak(self) -> int:
        return self.checkpoints + self.states + self.images + self.export

    def __str__(self) -> str:
        kinds = ("checkpoints", "states", "images", "export")
        parts = ", ".join(f"{kind} {decimal(getattr(self, kind))}" for kind in kinds if getattr(self, kind))
        return f"{decimal(self.peak)} at the peak ({parts}), {decimal(self.written)} written"


def checkpoints_kept(keep: str, final: bool) -> int:
    """How many checkpoints of a sweep stay with keep=best or a number: at its end, or before it."""
    return (1 if keep == "best" else int(keep)) + SPARE * (not final)


@dataclass(frozen=True)
class Work:
    """What one training writes, in bytes."""

    checkpoint: int
    checkpoints: int
    state: int
    saves: tuple[int, ...]  # checkpoints that are still to be written when a state is saved on the way

    @property
    def written(self) -> int:
        return self.checkpoint * self.checkpoints + self.state * (len(self.saves) + 1)

    def under_way(self, deletes: bool) -> int:
        """The most that its states take before it ends, less what its checkpoints do not take yet. A state is written
        before the one that it replaces is deleted. deletes: of the checkpoints only some stay, so those to come leave
        no room."""
        lacking = [0 if deletes else left * self.checkpoint for left in self.saves]
        saving = [self.state * min(2, i) - left for i, left in enumerate(lacking, start=1)]
        return max([*saving, self.state if saving else 0])


def disk(left: Sequence[Remaining], keep: str, at_once: int, step_seconds: Callable[[TrainSpec], float]) -> Disk:
    """What the work takes with so many trainings at once, each step of which takes `step_seconds`.

    Of trainings that have ended the best one may keep a large state (sweeper/engine/states.py); a training that ends
    deletes that before it writes its own. Where losing checkpoints are deleted, there are those that are kept, and of
    each training at work the last two: one is trained while the one before is scored.
    """
    busy = [each for each in left if each.missing]
    works = [_work(each, step_seconds(each.training.spec)) for each in busy]
    if not works:
        return Disk()
    deletes = keep != "all" and not any(point.evaluation.adaptive for each in busy for point in each.missing)
    at_work = min(at_once, len(works))
    checkpoints = sum(work.checkpoint * work.checkpoints for work in works)
    if deletes:
        largest = max(work.checkpoint for work in works)
        checkpoints = min(checkpoints, (2 * at_work + checkpoints_kept(keep, False)) * largest)
    large = [work.state for work in works if work.state >= LARGE_STATE]
    kept = max(large, default=0) if len(works) > at_work else 0
    ending = _most((max(work.state, work.under_way(deletes)) for work in works), at_work)
    training = kept + _most((work.under_way(deletes) for work in works), at_work)
    small = sum(work.state for work in works if work.state < LARGE_STATE)
    images = int(sum(_images(busy)) * PIXEL)
    export = max(pipeline_bytes(each.training.spec.model) for each in busy)
    written = sum(work.written for work in works) + images + export
    return Disk(checkpoints, small + max(ending, training, 0), images, export, written)


def _most(values: Iterable[int], count: int) -> int:
    return sum(sorted(values, reverse=True)[:count])


def _work(left: Remaining, step_seconds: float) -> Work:
    training = left.training
    steps = sorted({point.step for point in left.missing})
    begin = steps[-1] - left.untrained
    per_state = max(1.0, SAVE_EVERY / step_seconds)
    times = range(1, math.floor(left.untrained / per_state) + 1)
    saves = tuple(sum(step > begin + i * per_state for step in steps) for i in times)
    size = checkpoint_bytes(training.spec, stored_precision(training))
    return Work(size, len(steps), state_bytes(training.spec), saves)


def _images(left: Iterable[Remaining]) -> Iterable[int]:
    """The pixels of every set of images: of checkpoints, of the untuned model, and class images."""
    shared: dict[object, int] = {}
    for each in left:
        spec = each.training.spec
        area = spec.model.resolution**2
        for point in each.missing:
            yield point.planned_images * area
            shared[spec.model, spec.subject, point.sample, point.evaluation] = point.planned_images * area
        if spec.prior and not spec.prior.folder:
            shared[spec.class_images_signature] = spec.prior.num_class_images * area
    yield from shared.values()


def check_room(needed: Disk, with_best: Disk, keep: str, folder: Path, download: int) -> None:
    """Raises SpecError where the work, and the download if it goes there too, is larger than what is free.

    with_best: what it takes with keep=best.
    """
    together = download if _same_file_system(folder, cache_folder() if download else folder) else 0
    free = free_bytes(folder)
    if needed.peak + together <= free:
        return
    about = f"the sweep takes up to {decimal(needed.peak)} of disk"
    if together:
        about += f" and its download {decimal(together)}"
    about += f", and output_dir={folder} has {decimal(free)} free"
    if keep != "best" and with_best.peak + together <= free:
        raise SpecError(f"{about}; it fits with keep=best, which takes up to {decimal(with_best.peak)}.")
    smaller = "" if keep == "best" else f"; even with keep=best it takes {decimal(with_best.peak)}"
    raise SpecError(f"{about}{smaller}: free some, give an output_dir= on another disk, or take fewer cells.")


def _same_file_system(one: Path, other: Path) -> bool:
    return os.stat(existing(one)).st_dev == os.stat(existing(other)).st_dev
