"""One training, a checkpoint at a time: train -> sample -> score. Runs in a worker; writes into the store only."""

from pathlib import Path

from evaluation.evaluate import Baselines, evaluate, prepare
from evaluation.spec import EvalSpec
from sweeper.estimate import images_per_step
from sweeper.jobs import Reporter
from sweeper.plan import Point, Training
from sweeper.store import Store, claim
from trainers.families import family_of
from trainers.files import complete_folder, is_complete, write_json
from trainers.loop import train
from trainers.prior import make_class_images
from trainers.spec import SampleSpec, SubjectSpec

SAMPLE_BATCH = 16  # images at once


class Execution:
    """What one training needs while it runs."""

    def __init__(self, training: Training, store: Store, report: Reporter, device: str) -> None:
        self.training, self.spec = training, training.spec
        self.store, self.report, self.device = store, report, device
        self.baselines: dict[Path, Baselines] = {}
        self.trained = self.denoised = 0  # optimizer steps; images x inference steps

    def run(self) -> None:
        """Does what is missing of the training's checkpoints, samples and scores."""
        missing = self.store.left(self.training).missing
        self._load()
        class_images = self._class_images()
        folder = self.store.training(self.spec)
        with claim(folder):
            checkpoints = train(
                self.spec,
                sorted({point.step for point in missing}),
                folder,
                class_images=class_images,
                cache=self.store.cache,
                progress=self._trained,
            )
            while True:
                with self.report.timed("training"):
                    checkpoint = next(checkpoints, None)
                if checkpoint is None:
                    break
                for point in (p for p in missing if p.step == checkpoint.step):
                    self._evaluate(checkpoint, point)

    def rates(self) -> dict[str, float]:
        """Seconds of a training step per image, of an inference step per image, and before the first training step."""
        seconds = self.report.seconds
        if not (self.trained and self.denoised):
            return {}
        return {
            "step": seconds["training"] / self.trained / images_per_step(self.spec),
            "image": seconds["evaluation"] / self.denoised,
            "start": seconds["loading"],
        }

    def _trained(self, step: int, _loss: float) -> None:
        self.trained += 1
        self.report.fraction = step / self.training.last_step
        self.report("training", step, self.training.last_step)

    def export(self, step: int, to: Path) -> None:
        """Writes the checkpoint at `step` as a whole diffusers folder."""
        self._load()
        family = family_of(self.spec.model)
        with self.report.timed("export"), complete_folder(to, {"training": self.spec.signature, "step": step}) as aside:
            self.report("exporting")
            family.save_pipeline(family.with_checkpoint(self.untuned, self.store.checkpoint(self.spec, step)), aside)

    def _load(self) -> None:
        with self.report.timed("loading"):
            self.report("loading the model")
            self.untuned = family_of(self.spec.model).load(self.spec.model)

    def _class_images(self) -> Path | None:
        prior = self.spec.prior
        if prior is None or prior.folder:
            return Path(prior.folder) if prior else None
        folder = self.store.class_images(self.spec)
        with claim(folder), self.report.timed("class images"):
            if not is_complete(folder):
                make_class_images(
                    self.untuned,
                    self.spec.subject.class_prompt,
                    prior,
                    folder,
                    device=self.device,
                    batch_size=SAMPLE_BATCH,
                    progress=lambda done, total: self.report("class images", done, total),
                )
        return folder

    def _evaluate(self, checkpoint, point: Point) -> None:
        baselines = self._baselines(point)
        with self.report.timed("evaluation"):
            evaluate(
                checkpoint.components(),
                *self._judged(point),
                baselines,
                self.store.evaluation(self.spec, point),
                progress=lambda done, total: self.report(f"sampling step {point.step}", done, total),
                device=self.device,
                batch_size=SAMPLE_BATCH,
            )
        self.denoised += point.images * point.sample.inference_steps

    def _baselines(self, point: Point) -> Baselines:
        folder = self.store.baselines(self.spec, point)
        if folder not in self.baselines:
            with claim(folder), self.report.timed("baselines"):
                self.baselines[folder] = prepare(
                    self.untuned,
                    *self._judged(point),
                    folder,
                    progress=lambda done, total: self.report("sampling the untuned model", done, total),
                    device=self.device,
                    batch_size=SAMPLE_BATCH,
                )
                write_json(self.store.baseline_values(self.spec, point), self.baselines[folder].values)
        return self.baselines[folder]

    def _judged(self, point: Point) -> tuple[SubjectSpec, SampleSpec, EvalSpec]:
        return self.spec.subject, point.sample, point.evaluation
