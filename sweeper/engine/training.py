"""One training, a checkpoint at a time: train -> sample -> score. Runs in a worker; writes into the store only."""

import functools
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from accelerate import PartialState
from accelerate.utils.memory import clear_device_cache

from sweeper.engine import cards
from sweeper.engine.halving import can_halve, halve, remembered
from sweeper.engine.jobs import Export, Reporter
from sweeper.engine.room import check_device
from sweeper.engine.rungs import scored_steps
from sweeper.engine.scoring import SAMPLE_BATCH, Scorer, claimed
from sweeper.engine.states import make_room
from sweeper.plan.precision import stored_precision
from sweeper.plan.types import Point, Training
from sweeper.store import Store
from trainers.checkpoint import Checkpoint
from trainers.device import is_out_of_memory
from trainers.families import family_of
from trainers.families.base import Components
from trainers.files import complete_folder, is_complete, remove_folder
from trainers.loop import inverted, train
from trainers.memory import capacity
from trainers.prior import make_class_images
from trainers.processes import agreed, wait_for_all
from trainers.provenance import provenance
from trainers.spec import TrainSpec

GoesOn = Callable[[], bool]  # see `trainers.loop.train`


class Stopped(Exception):
    """The rest of the training is not worth its time; says why."""


class Execution:
    """What one training needs while it runs. Of several processes all train and sample; the first does the rest."""

    def __init__(
        self,
        training: Training,
        store: Store,
        report: Reporter,
        process: PartialState,
        stop: Callable[[int], str] = lambda step: "",
        discarded: Callable[[], list[int]] = list,
        rivals: Callable[[], list[Training]] = list,
    ) -> None:
        self.training = training
        self.spec = training.spec
        self.stop = stop
        self.discarded = discarded
        self.store = store
        self.report = report
        self.process = process
        self.rivals = rivals
        self.ended = False  # by `stop`
        self.scorer = Scorer(training, store, report, process)
        self.stored = stored_precision(training)  # of the checkpoints
        self.trained = 0  # optimizer steps
        self.untuned: Components  # see `load`

    def run(self) -> None:
        """Does what is missing of the training's checkpoints, samples and scores, and what `score` does.

        After each checkpoint `discarded()` gives the steps to delete, and `stop(step)` says why to raise Stopped.
        """
        self._check_memory()
        self.load()
        class_images = self.class_images() if self.store.unscored(self.training) else None
        with claimed(self.store.training(self.spec), self.process):
            if self.process.is_main_process:
                self.store.clear(self.spec)
                self.store.begin(self.spec)
                self.store.forget(self.spec, self.store.untrained(self.training, self.store.unscored(self.training)))
                self.scorer.complete_scorecards()
            wait_for_all()
            missing = self.store.unscored(self.training)
            if not missing:
                return
            steps = sorted({point.step for point in missing})
            self._ask(max(scored_steps(self.training, self.store), default=0), steps)
            with closing(self._checkpoints(steps, class_images, self._goes_on)) as checkpoints:
                for checkpoint in checkpoints:
                    self.scorer.score(checkpoint, [point for point in missing if point.step == checkpoint.step])
                    if self.process.is_main_process:
                        for step in self.discarded():
                            remove_folder(self.store.checkpoint(self.spec, step))
                    wait_for_all()
                    self._ask(checkpoint.step, steps)

    def _goes_on(self) -> bool:
        """Whether the training may go on from here: interrupted, or as the answer may come to ask for more steps."""
        if self.ended or self.store.unscored(self.training):
            return not self.ended
        return make_room(self.training, self.rivals(), self.store)

    def _check_memory(self) -> None:
        """Refuses what cannot fit the device, before anything expensive."""
        if self.store.untrained(self.training, self.store.unscored(self.training)):
            device = self.process.device
            processes = self.process.num_processes
            warning = check_device(self.training, device, processes, cards.card.part or capacity(device))
            if warning:
                logging.getLogger(__name__).warning(warning)

    def _ask(self, step: int, steps: list[int]) -> None:
        """Raises Stopped where there is something left to stop and a reason to."""
        if not step or not steps or step >= steps[-1]:
            return
        reason = agreed(self.stop(step) if self.process.is_main_process else "")
        if reason:
            self.ended = True
            raise Stopped(reason)

    def _checkpoints(self, steps: list[int], class_images: Path | None, goes_on: GoesOn) -> Generator[Checkpoint]:
        """Trains; once out of memory, goes on with half the batch and twice the accumulation."""
        done = 0
        spec = remembered(self.spec, self.store)
        try:
            with closing(self._timed(self._train(spec, steps, class_images, goes_on))) as checkpoints:
                for checkpoint in checkpoints:
                    done += 1
                    yield checkpoint
            return
        except RuntimeError as error:
            if not self._can_halve(spec, error):
                raise
            spec = halve(self.spec, self.store, self.process.num_processes)
        clear_device_cache(garbage_collection=True)  # only here nothing refers to the frames of the error any more
        yield from self._timed(self._train(spec, steps[done:], class_images, goes_on))

    def _can_halve(self, runs: TrainSpec, error: RuntimeError) -> bool:
        return is_out_of_memory(error) and can_halve(self.spec, runs, self.process.num_processes)

    def _train(self, spec: TrainSpec, steps: list[int], images: Path | None, goes_on: GoesOn) -> Generator[Checkpoint]:
        return train(
            spec,
            steps,
            self.store.training(self.spec),
            class_images=images,
            cache=self.store.cache,
            components=self.untuned,
            original=self.spec,
            precision=self.stored,
            progress=self._trained,
            goes_on=goes_on,
        )

    def _timed(self, checkpoints: Generator[Checkpoint]) -> Generator[Checkpoint]:
        with closing(checkpoints):
            while True:
                with self.report.timed("training"):
                    checkpoint = next(checkpoints, None)
                if checkpoint is None:
                    return
                yield checkpoint

    def rates(self) -> dict[str, float]:
        """Seconds of a training step per image, of an inference step per image, and before the first training step."""
        seconds = self.report.seconds
        if not (self.trained and self.scorer.denoised):
            return {}
        return {
            "step": seconds["training"] / self.trained / self.spec.images_per_step,
            "image": (seconds["sampling"] + seconds["scoring"]) / self.scorer.denoised,
            "start": seconds["loading"],
        }

    def _trained(self, step: int, _loss: float) -> None:
        self.trained += 1
        self.report.fraction = max(0.0, step / self.training.last_step)
        self.report("training", step, self.training.last_step)

    def sample(self, points: Sequence[Point]) -> None:
        """Samples and scores checkpoints at `points`, which may be others than those of the training.

        Deleted checkpoints are trained once more, and scored at all points of the training: on a GPU they are others.
        """
        self.load()
        with claimed(self.store.training(self.spec), self.process):
            gone = self.store.untrained(self.training, points)
            wait_for_all()
            if gone:
                if self.process.is_main_process:
                    self.store.forget(self.spec, gone)
                list(self._checkpoints(gone, self.class_images(), lambda: False))
            again = (point for point in self.training.points if point.step in gone)
            wanted = dict.fromkeys((*points, *again))
            for step in sorted({point.step for point in wanted}):
                self.scorer.score(self.scorer.checkpoint(step), [point for point in wanted if point.step == step])

    def export(self, asked: Export) -> None:
        """Writes a checkpoint as a whole diffusers folder. Raises FileNotFoundError where it was deleted."""
        self.load()
        with claimed(self.store.training(self.spec), self.process):
            if not is_complete(self.store.checkpoint(self.spec, asked.step)):
                raise FileNotFoundError(f"the checkpoint at step {asked.step} was deleted meanwhile")
            if self.process.is_main_process:
                self._save_pipeline(asked)

    def _save_pipeline(self, asked: Export) -> None:
        about = {"training": self.spec.signature, "step": asked.step, "scheduler": asked.scheduler}
        made_by = provenance(str(self.process.device)).to_json()
        with complete_folder(asked.to, {**about, "provenance": made_by}) as aside:
            self.report("exporting")
            components = self.scorer.components(self.scorer.checkpoint(asked.step), asked.use_ema, asked.precision)
            family_of(self.spec.model).save_pipeline(components, aside, asked.scheduler)

    def load(self) -> None:
        with self.report.timed("loading"):
            self.report("loading the model")
            self.untuned = self.scorer.untuned = family_of(self.spec.model).load(self.spec.model)

    def inversion(self) -> None:
        """Learns the word that the training starts from; once out of memory, with half the batch."""
        self.load()
        with self.report.timed("training"):
            spec = remembered(self.spec, self.store)
            try:
                inverted([self.spec, spec], self.untuned, self.store.cache, self._trained)
                return
            except RuntimeError as error:
                if not self._can_halve(spec, error):
                    raise
                spec = halve(self.spec, self.store, self.process.num_processes)
            clear_device_cache(garbage_collection=True)
            inverted([self.spec, spec], self.untuned, self.store.cache, self._trained)

    def class_images(self) -> Path | None:
        """The folder of the class images, made where they are missing; None where the training needs none."""
        prior = self.spec.prior
        if prior is None or prior.folder:
            return Path(prior.folder) if prior else None
        folder = self.store.class_images(self.spec)
        with claimed(folder, self.process), self.report.timed("class images"):
            make = functools.partial(
                make_class_images,
                self.untuned,
                self.spec.subject.class_prompt,
                prior,
                folder,
                device=str(self.process.device),
                batch_size=SAMPLE_BATCH,
            )
            if self.process.num_processes > 1:
                make(share=(self.process.process_index, self.process.num_processes))
                wait_for_all()
            if self.process.is_main_process:
                make(progress=lambda done, total: self.report("class images", done, total))
            wait_for_all()
        return folder

    def score(self) -> None:
        """Measures, on stored samples, what the scorecards lack of today's metrics."""
        self.load()
        with claimed(self.store.training(self.spec), self.process):
            if self.process.is_main_process:
                self.scorer.complete_scorecards()
