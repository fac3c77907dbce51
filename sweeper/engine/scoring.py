"""Samples and scores the checkpoints of one training, in a worker; writes into the store only."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from accelerate import PartialState

from evaluation.evaluate import complete, draw_share, evaluate, prepare
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
from trainers.spec import SampleSpec, SubjectSpec

SAMPLE_BATCH = 16  # images at once


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
        self.references: dict[Path, Reference] = {}  # by folder of the baselines
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
        alike: dict[tuple[bool, str], list[Point]] = {}
        for point in points:
            alike.setdefault((point.use_ema, kept_precision(self.spec, point.sample.precision)), []).append(point)
        for way, group in alike.items():
            with self.report.timed("sampling"):
                weights = Weights(self.components(checkpoint, *way))
            for point in group:
                if self.process.num_processes > 1:
                    self._draw_share(weights, point)
                if self.process.is_main_process:
                    self._score(weights, point)

    def _draw_share(self, weights: Weights, point: Point) -> None:
        share = self.process.process_index, self.process.num_processes
        folder = self.store.evaluation(self.spec, point)
        with self.report.timed("sampling"):
            draw_share(weights, *self._asked(point), folder, share, device=self.device, batch_size=SAMPLE_BATCH)
            wait_for_all()

    def _score(self, weights: Weights, point: Point) -> None:
        reference = self.baseline(point)
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
        reference = self.baseline(point)
        with self.report.timed("scoring"):
            complete(
                self.spec.model,
                load if checkpoint.serves(precision) else None,
                *self._asked(point),
                reference,
                self.store.evaluation(self.spec, point),
                device=self.device,
            )

    def baseline(self, point: Point) -> Reference:
        """What a point is compared with; made, with samples of the untuned model, where it is missing."""
        folder = self.store.baselines(self.spec, point)
        if folder not in self.references:
            with claim(folder), self.report.timed("baselines"):
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
