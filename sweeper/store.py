"""Every path the program writes, what is already there, and who may write it.

store/trainings/SIGNATURE/        spec.json, checkpoints/000400/, state/000400/, evaluations/000400-SIGNATURE/
store/class_images/SIGNATURE/     of one model, class prompt, sampler, seed and count
store/baselines/SIGNATURE/        the untuned model and the real photographs, for one way of sampling and judging
store/cache/                      latents and text embeddings
NAME/                             one sweep: the results a person looks at, jobs/, logs/
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sweeper.plan.compile import class_images_of
from sweeper.plan.types import Point, Remaining, Training
from trainers.files import is_complete, read_json, saved_step
from trainers.spec import TrainSpec, model_as_before, signature

NO_SPACE = "no space left on device: free some, then the same command goes on from here; keep=best takes less"


@dataclass(frozen=True)
class Store:
    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def rates(self) -> Path:
        """Seconds that steps and images took here, to estimate the next plan with."""
        return self.root / "rates.json"

    def note(self, spec: TrainSpec) -> Path:
        """What a reader must know of how the training ran."""
        return self.training(spec) / "note.json"

    def training(self, spec: TrainSpec) -> Path:
        return self.root / f"trainings/{spec.signature}"

    def checkpoint(self, spec: TrainSpec, step: int) -> Path:
        return self.training(spec) / "checkpoints" / f"{step:06d}"

    def evaluation(self, spec: TrainSpec, point: Point) -> Path:
        return self.training(spec) / "evaluations" / f"{point.step:06d}-{point.signature}"

    def class_images(self, spec: TrainSpec) -> Path:
        return self.root / "class_images" / signature(class_images_of(spec))

    def baselines(self, spec: TrainSpec, point: Point) -> Path:
        made_for = (spec.subject, point.sample, point.evaluation)
        # Up to revision 6044e38 the name depended on `lr_scale`, on which the baselines do not.
        before = self.root / "baselines" / signature(model_as_before(spec), *made_for)
        return before if before.is_dir() else self.root / "baselines" / signature(spec.model, *made_for)

    def baseline_values(self, spec: TrainSpec, point: Point) -> Path:
        return self.baselines(spec, point) / "values.json"

    def trained_steps(self, spec: TrainSpec) -> int:
        """The last step with a complete checkpoint or training state; 0 where there is none."""
        folders = [f for f in (self.training(spec) / "checkpoints").glob("[0-9]*") if is_complete(f)]
        return max(0, saved_step(self.training(spec)), *(int(folder.name) for folder in folders))

    def scores(self, spec: TrainSpec, point: Point) -> dict[str, Any] | None:
        path = self.evaluation(spec, point) / "scores.json"
        return read_json(path) if path.exists() else None

    def left(self, training: Training) -> Remaining:
        """What of the training is not there yet."""
        if not self.training(training.spec).exists():
            return Remaining(training, training.points, 0)
        trained = min(self.trained_steps(training.spec), training.last_step)
        return Remaining(training, self.missing(training), trained)

    def missing(self, training: Training) -> tuple[Point, ...]:
        """What of the training is still to be scored."""
        scores = (self.evaluation(training.spec, point) / "scores.json" for point in training.points)
        return tuple(point for point, path in zip(training.points, scores, strict=True) if not path.exists())

    def clear(self, spec: TrainSpec) -> None:
        """Deletes what killed processes left half written in a training's folder, which must be claimed."""
        folder = self.training(spec)
        for path in (*folder.glob("state/.*"), *folder.glob("checkpoints/.*")):
            shutil.rmtree(path, ignore_errors=True)

    def has_baselines(self, spec: TrainSpec, point: Point) -> bool:
        return self.baseline_values(spec, point).exists()

    def has_class_images(self, spec: TrainSpec) -> bool:
        return is_complete(self.class_images(spec))


@contextmanager
def claim(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Holds `folder` for this process; the lock dies with it. Without `wait`, yields False where another holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_full(error: BaseException | None) -> bool:
    """Whether a disk without room is behind an error, as the system, safetensors and SQLite say it."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left" in str(error) or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_claimed(folder: Path) -> bool:
    with claim(folder, wait=False) as free:
        return not free
