"""Every path the program writes, what is already there, and who may write it.

store/format.json                 the version of this layout
store/trainings/SIGNATURE/        checkpoints/000400/, state/000400/, evaluations/000400-SIGNATURE/, loss.json,
                                  begun.json
store/class_images/SIGNATURE/     of one model, class prompt, sampler, seed and count
store/baselines/SIGNATURE/        the untuned model and the real photographs, for one way of sampling and scoring
store/cache/                      latents of the photographs, and inversions, the learned words of ti_dreambooth
store/rates.json                  how fast this machine is, for the next forecast
NAME/                             one sweep: the results a person looks at, and jobs/

Another slice of a checkpoint's samples (more images, other prompts) is another `EvalSpec`, so it has a folder of its
own in evaluations/ and in baselines/; evaluation/slices.py joins them. A replicate is a training with another seed.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

from evaluation.files import BASELINES, SCORES, has_samples
from evaluation.scorecard import NOT_YET, Baselines, Scorecard, unmeasurable
from sweeper.plan.precision import stored_precision
from sweeper.plan.types import Point, Remaining, Training
from trainers.errors import SpecError
from trainers.files import (
    MANIFEST,
    checkpoint_folder,
    is_complete,
    loss_file,
    read_json,
    remove_folder,
    remove_unfinished,
    saved_step,
    serves,
    understood,
    write_json,
)
from trainers.provenance import Provenance
from trainers.spec import TrainSpec, model_as_before, signature

# Format 1 (revision 6044e38): no format.json, scorecards without versions and provenance. Read as it is.
FORMAT = 2
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

    def begin(self, spec: TrainSpec) -> None:
        """Notes when a training began, once."""
        if not self._begun(spec).exists():
            write_json(self._begun(spec), time.time())

    def begun(self, spec: TrainSpec) -> float | None:
        """When it began, in seconds since the epoch; None where it is older than this note."""
        path = self._begun(spec)
        return float(read_json(path)) if path.exists() else None

    def _begun(self, spec: TrainSpec) -> Path:
        return self.training(spec) / "begun.json"

    def scored(self, spec: TrainSpec, point: Point) -> float | None:
        """When a point was scored, in seconds since the epoch."""
        version = _version(self.evaluation(spec, point) / SCORES)
        return version[1] / 1e9 if version else None

    def halved(self, spec: TrainSpec) -> Path:
        """A file that is there once the training was out of memory, and so runs with half its batch."""
        return self.training(spec) / "halved.json"

    def training(self, spec: TrainSpec) -> Path:
        return self.root / f"trainings/{spec.signature}"

    def checkpoint(self, spec: TrainSpec, step: int) -> Path:
        return checkpoint_folder(self.training(spec), step)

    def evaluation(self, spec: TrainSpec, point: Point) -> Path:
        return self.training(spec) / "evaluations" / f"{point.step:06d}-{point.signature}"

    def class_images(self, spec: TrainSpec) -> Path:
        return self.root / "class_images" / spec.class_images_signature

    def baselines(self, spec: TrainSpec, point: Point) -> Path:
        made_for = (spec.subject, point.sample, point.evaluation)
        # Up to revision 6044e38 the name depended on `lr_scale`, on which the baselines do not.
        before = self.root / "baselines" / signature(model_as_before(spec), *made_for)
        return before if before.is_dir() else self.root / "baselines" / signature(spec.model, *made_for)

    def check_format(self) -> None:
        """Raises SpecError where a later version of the program has written the store, or something else has."""
        found = self._found_format()
        if type(found) is not int or not 1 <= found <= FORMAT:
            raise SpecError(
                f"{self.root} has format {found}, and this program knows 1 to {FORMAT}: "
                "use the version that wrote it, or another output_dir="
            )

    def mark_format(self) -> None:
        """Notes today's format, before anything is written. Raises SpecError as `check_format`."""
        self.check_format()
        if not self._format.exists() or self._found_format() != FORMAT:
            write_json(self._format, {"format": FORMAT})

    def _found_format(self) -> object:
        """What the store says of itself; 1 where it says nothing."""
        if not self._format.exists():
            return 1
        try:
            said = read_json(self._format)
        except ValueError:
            return "that cannot be read"
        return said.get("format") if isinstance(said, dict) else said

    @property
    def _format(self) -> Path:
        return self.root / "format.json"

    def losses(self, spec: TrainSpec) -> list[float]:
        """The loss of every step that was trained."""
        path = loss_file(self.training(spec))
        with understood(path):
            return list(read_json(path)["loss"]) if path.exists() else []

    def checkpoint_provenance(self, spec: TrainSpec, step: int) -> Provenance | None:
        """Who trained a checkpoint; None where it is deleted, or older than format 2."""
        return _provenance(*version) if (version := _version(self.checkpoint(spec, step) / MANIFEST)) else None

    def scorecard(self, spec: TrainSpec, point: Point) -> Scorecard | None:
        """Today's metrics of a point, and why others are missing; None where it is not scored."""
        card = self._stored_scorecard(spec, point)
        if card is None or not card.stale():
            return card
        return card.without(dict.fromkeys(card.stale(), NOT_YET) | self._unmeasurable(card, spec, point))

    def baseline_values(self, spec: TrainSpec, point: Point) -> Baselines | None:
        """Today's metrics of the untuned model and the photographs; None where they are not measured."""
        found = self._stored_baselines(spec, point)
        return found.current() if found else None

    def left(self, training: Training) -> Remaining:
        """What of the training is not there yet. What is only to be measured on stored samples takes next to nothing,
        and is not part of it."""
        if not self.training(training.spec).exists():
            return Remaining(training, training.points, 0)
        missing = self.unscored(training)
        return Remaining(training, missing, self._trained(training, missing))

    def _trained(self, training: Training, missing: Sequence[Point]) -> int:
        """How many of the steps up to the last that is missing need not be trained. trainers/loop.py goes on from the
        latest state, unless a checkpoint before that lacks."""
        last = max((point.step for point in missing), default=0)
        lacking = self.untrained(training, missing)
        if not lacking:
            return last
        saved = saved_step(self.training(training.spec))
        return last - max(lacking) + (saved if 0 <= saved <= min(lacking) else 0)

    def unscored(self, training: Training) -> tuple[Point, ...]:
        """What of the training is still to be sampled and scored."""
        return tuple(p for p in training.points if not (self.evaluation(training.spec, p) / SCORES).exists())

    def incomplete(self, training: Training) -> tuple[Point, ...]:
        """What is scored, but lacks a metric of today that can be measured without sampling the checkpoint again."""
        return tuple(point for point in training.points if self._is_incomplete(training.spec, point))

    def missing(self, training: Training) -> tuple[Point, ...]:
        """What still asks for a job: `unscored` and `incomplete`, in the order of the points."""
        wanted = {*self.unscored(training), *self.incomplete(training)}
        return tuple(point for point in training.points if point in wanted)

    def _is_incomplete(self, spec: TrainSpec, point: Point) -> bool:
        card = self._stored_scorecard(spec, point)
        if card is None:
            return False
        if set(card.stale()) - set(self._unmeasurable(card, spec, point)):
            return True
        baselines = self._stored_baselines(spec, point)
        if baselines is None:
            return True
        return bool(baselines.stale()) and has_samples(self.baselines(spec, point), point.evaluation)

    def _unmeasurable(self, card: Scorecard, spec: TrainSpec, point: Point) -> dict[str, str]:
        stale = card.stale()
        if not stale:
            return {}
        weights = is_complete(self.checkpoint(spec, point.step))
        return unmeasurable(stale, weights, has_samples(self.evaluation(spec, point), point.evaluation))

    def _stored_scorecard(self, spec: TrainSpec, point: Point) -> Scorecard | None:
        version = _version(self.evaluation(spec, point) / SCORES)
        return _scorecard(*version) if version else None

    def _stored_baselines(self, spec: TrainSpec, point: Point) -> Baselines | None:
        version = _version(self.baselines(spec, point) / BASELINES)
        return _baselines(*version) if version else None

    def clear(self, spec: TrainSpec) -> None:
        """Deletes what killed processes left half written in a training's folder, which must be claimed."""
        remove_unfinished(self.training(spec))

    def untrained(self, training: Training, points: Iterable[Point]) -> list[int]:
        """The steps, in order, of points that have no checkpoint, or none any more, or one that is kept in fewer bits
        than are needed."""
        precision = stored_precision(training)
        steps = sorted({point.step for point in points})
        return [step for step in steps if not serves(self.checkpoint(training.spec, step), precision)]

    def forget(self, spec: TrainSpec, steps: Iterable[int]) -> None:
        """Deletes the scores and samples of checkpoints that are to be trained once more: on a GPU they will be others.
        The training must be claimed."""
        for step in steps:
            for folder in self.training(spec).glob(f"evaluations/{step:06d}-*"):
                (folder / SCORES).unlink(missing_ok=True)
                remove_folder(folder)

    def has_baselines(self, spec: TrainSpec, point: Point) -> bool:
        return (self.baselines(spec, point) / BASELINES).exists()

    def has_class_images(self, spec: TrainSpec) -> bool:
        return is_complete(self.class_images(spec))


def _version(path: Path) -> tuple[Path, int, int] | None:
    """What a cache of a file's content goes by: every write makes a new file. None where there is no file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return path, stat.st_mtime_ns, stat.st_ino


@lru_cache(maxsize=10_000)
def _scorecard(path: Path, _time: int, _inode: int) -> Scorecard:
    with understood(path):
        return Scorecard.read(path)


@lru_cache(maxsize=1_000)
def _baselines(path: Path, _time: int, _inode: int) -> Baselines:
    with understood(path):
        return Baselines.read(path)


@lru_cache(maxsize=10_000)
def _provenance(path: Path, _time: int, _inode: int) -> Provenance | None:
    with understood(path):
        return Provenance.from_json(read_json(path).get("provenance"))


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


def is_claimed(folder: Path) -> bool:
    with claim(folder, wait=False) as free:
        return not free
