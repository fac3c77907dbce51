"""Samples and scores the checkpoints of one training, in a worker; writes into the store only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from accelerate import PartialState

from evaluation.evaluate import complete, draw_share, evaluate, prepare
from evaluation.files import has_samples
from evaluation.metrics import Reference
from evaluation.spec import EvalSpec
from evaluation.weights import Weights
from sweeper.engine.jobs import Reporter
from sweeper.plan.precision import kept_precision
from sweeper.plan.types import Point, Training
from sweeper.store import Store, claim
from trainers.checkpoint import Checkpoint
from trainers.families.base import Components
from trainers.processes import wait_for_all
from trainers.prompts import class_words, subject_words
from trainers.spec import SampleSpec, SubjectSpec

SAMPLE_BATCH = 16  # images at once


@contextmanager
def claimed(folder: Path, process: PartialState) -> Iterator[None]:
    """Held by the first of the processes for all of them."""
    with claim(folder) if process.is_main_process else nullcontext():
        wait_for_all()
        yield


class Scorer:
    """What the points of a training are compared with is made, or read, once."""

    def __init__(self, training: Training, store: Store, report: Reporter, process: PartialState) -> None:
        self.training = training
        self.spec = training.spec
        self.process = process
        self.untuned: Components  # set once loaded
        self.store = store
        self.report = report
        self.device = str(process.device)
        self.references: dict[Path, Reference] = {}  # by folder of the baselines; of the first process alone
        self.compared: set[Path] = set()  # folders of baselines that are there
        self.denoised = 0  # images x inference steps

    def checkpoint(self, step: int) -> Checkpoint:
        return Checkpoint(self.store.training(self.spec), step, self.spec.model, self.untuned)

    def components(self, checkpoint: Checkpoint, use_ema: bool, precision: str) -> Components:
        """A checkpoint's weights, or their moving average where the training keeps one, rounded to `precision`."""
        return checkpoint.components(use_ema and bool(self.spec.trainer.ema_decay), precision)

    def score(self, checkpoint: Checkpoint, points: Sequence[Point]) -> None:
        """Samples and scores a checkpoint at its `points`. Those that use the same weights share them.

        Called by all processes with the same points: all of them sample, the first scores.
        """
        self.make_baselines(points)  # before the checkpoint lies on the device: there is memory for one of the two
        subject = self.spec.subject
        words = subject_words(subject.identifier, subject.class_noun)
        alike: dict[tuple[bool, str], list[Point]] = {}
        for point in points:
            alike.setdefault((point.use_ema, kept_precision(self.spec, point.sample.precision)), []).append(point)
        for way, group in alike.items():
            with self.report.timed("sampling"):
                weights = Weights(self.components(checkpoint, *way))
            for point in group:
                with self.report.timed("sampling"):
                    self._draw_share(weights, words, point, self.store.evaluation(self.spec, point))
                if self.process.is_main_process:
                    self._score(weights, point)

    def make_baselines(self, points: Sequence[Point]) -> None:
        """What points are compared with, where it is missing. Called as `score` is."""
        words = class_words(self.spec.subject.class_noun)
        for point in points:
            folder = self.store.baselines(self.spec, point)
            if folder in self.compared:
                continue
            with claimed(folder, self.process), self.report.timed("baselines"):
                self._draw_share(Weights(self.untuned), words, point, folder)
                if self.process.is_main_process:
                    self._prepare(point)
            self.compared.add(folder)

    def _draw_share(self, weights: Weights, words: str, point: Point, folder: Path) -> None:
        """What this one of several processes samples; a lone one does so when it scores."""
        share = self.process.process_index, self.process.num_processes
        if share[1] == 1:
            return
        asked = self._asked(point)
        if not has_samples(folder, point.evaluation):
            draw_share(weights, words, *asked, folder, share, device=self.device, batch_size=SAMPLE_BATCH)
        wait_for_all()

    def _score(self, weights: Weights, point: Point) -> None:
        reference = self.references[self.store.baselines(self.spec, point)]
        card = evaluate(
            weights,
            *self._asked(point),
            reference,
            self.store.evaluation(self.spec, point),
            progress=lambda done, total: self.report(f"sampling step {point.step}", done, total),
            device=self.device,
            batch_size=SAMPLE_BATCH,
        )
        self.report.add("sampling", card.seconds["sample"])
        self.report.add("scoring", card.seconds["score"])
        self.denoised += point.images * point.sample.inference_steps

    def complete_scorecards(self) -> None:
        """Measures, on stored samples, what the scorecards lack of today's metrics."""
        for point in self.store.incomplete(self.training):
            self._complete(point)

    def _complete(self, point: Point) -> None:
        self.report(f"measuring step {point.step} again")
        checkpoint = self.checkpoint(point.step)
        precision = kept_precision(self.spec, point.sample.precision)
        load = partial(self.components, checkpoint, point.use_ema, precision)
        with claim(self.store.baselines(self.spec, point)), self.report.timed("baselines"):
            reference = self._prepare(point)
        with self.report.timed("scoring"):
            complete(
                self.spec.model,
                load if checkpoint.serves(precision) else None,
                *self._asked(point),
                reference,
                self.store.evaluation(self.spec, point),
                device=self.device,
            )

    def _prepare(self, point: Point) -> Reference:
        """What a point is compared with, whose folder is claimed; made, with samples of the untuned model, where it is
        missing."""
        folder = self.store.baselines(self.spec, point)
        if folder not in self.references:
            self.references[folder], _ = prepare(
                self.untuned,
                *self._asked(point),
                folder,
                progress=lambda done, total: self.report("sampling the untuned model", done, total),
                device=self.device,
                batch_size=SAMPLE_BATCH,
            )
        return self.references[folder]

    def _asked(self, point: Point) -> tuple[SubjectSpec, SampleSpec, EvalSpec]:
        return self.spec.subject, point.sample, point.evaluation
