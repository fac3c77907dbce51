"""The one entry of a sweep: a checkpoint's components in, its scorecard out."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.baselines import photograph_values, read_photographs
from evaluation.features import ClipEncoder, DinoEncoder, clip_encoder, dino_encoder, encode
from evaluation.files import BASELINES, SCORES, class_folder, has_samples, sample_sets
from evaluation.metrics import METRICS, Images, Reference, Samples, score
from evaluation.sample import Progress, no_progress, read_images, sample_images
from evaluation.scorecard import Baselines, Scorecard, Values, unmeasurable
from evaluation.spec import EvalSpec, fill
from evaluation.weights import Weights
from trainers.batches import ALONE, Share
from trainers.device import phase
from trainers.families.base import Components
from trainers.prompts import class_prompt, class_words, instance_prompt, subject_words
from trainers.provenance import provenance
from trainers.spec import ModelSpec, SampleSpec, SubjectSpec, signature


@phase()
def prepare(
    components: Components,
    subject: SubjectSpec,
    sample: SampleSpec,
    evaluation: EvalSpec,
    folder: Path,
    *,
    device: str = "cpu",
    batch_size: int = 16,
    progress: Progress = no_progress,
) -> tuple[Reference, Baselines]:
    """Samples and scores the untuned model on the class's words; also written to `folder`, where what is there already
    is not made again."""
    words = class_words(subject.class_noun)
    clip, dino = encoders(evaluation, device)
    photographs = encode(read_photographs(subject.images, components.model.resolution), clip, dino)
    reference = Reference(photographs, clip.text([fill(prompt, words) for prompt in evaluation.prompts]))
    weights = Weights(components)
    scoring = Scoring(
        components.model, lambda: weights, subject, sample, evaluation, folder, device, batch_size, progress
    )
    untuned = scoring.scorecard(words, reference)
    baselines = Baselines(untuned.values, plain(photograph_values(reference)), untuned.versions, untuned.provenance)
    if (folder / BASELINES).exists():
        stored = Baselines.read(folder / BASELINES)
        baselines = replace(baselines, photographs={**baselines.photographs, **stored.current().photographs})
        if baselines == stored:
            return reference, stored
    baselines.write(folder / BASELINES)
    return reference, baselines


@phase()
def evaluate(
    components: Components | Weights,
    subject: SubjectSpec,
    sample: SampleSpec,
    evaluation: EvalSpec,
    reference: Reference,
    folder: Path,
    *,
    device: str = "cpu",
    batch_size: int = 16,
    progress: Progress = no_progress,
) -> Scorecard:
    """The scorecard of a checkpoint, also written as scores.json; read back if it is there already.

    components: of the checkpoint; `Weights` where it is scored several times in a row.
    Samples lie in `folder`, those of the class prompt in its `class/`.
    """
    weights = components if isinstance(components, Weights) else Weights(components)
    model = weights.components.model
    scoring = Scoring(model, lambda: weights, subject, sample, evaluation, folder, device, batch_size, progress)
    return scoring.scorecard(subject_words(subject.identifier, subject.class_noun), reference)


@phase()
def draw_share(
    weights: Weights,
    words: str,
    subject: SubjectSpec,
    sample: SampleSpec,
    evaluation: EvalSpec,
    folder: Path,
    share: Share,
    *,
    device: str = "cpu",
    batch_size: int = 16,
) -> None:
    """What one of several processes samples for `evaluate`, or with the class's words for `prepare`."""
    scoring = Scoring(
        weights.components.model, lambda: weights, subject, sample, evaluation, folder, device, batch_size
    )
    scoring.draw(weights.on(device, sample.precision), words, share)


@phase()
def complete(
    model: ModelSpec,
    components: Callable[[], Components] | None,
    subject: SubjectSpec,
    sample: SampleSpec,
    evaluation: EvalSpec,
    reference: Reference,
    folder: Path,
    *,
    device: str = "cpu",
) -> Scorecard:
    """Measures on the stored samples in `folder` what its scorecard lacks of today's metrics; nothing is sampled.

    components: loads the checkpoint, which only some metrics need; None where its weights are gone.
    """
    weights = (lambda: Weights(components())) if components else None
    scoring = Scoring(model, weights, subject, sample, evaluation, folder, device)
    return scoring.completed(Scorecard.read(folder / SCORES), reference)


@dataclass(frozen=True)
class Scoring:
    """One model to be sampled and scored."""

    model: ModelSpec
    weights: Callable[[], Weights] | None  # None where they are gone
    subject: SubjectSpec
    sample: SampleSpec
    evaluation: EvalSpec
    folder: Path
    device: str
    batch_size: int = 16
    progress: Progress = no_progress

    def scorecard(self, words: str, reference: Reference) -> Scorecard:
        """Read back where it is there, completed where a metric of today is missing; otherwise sampled and scored."""
        made_for = signature(self.model, self.subject, words, self.sample, self.evaluation)
        if (self.folder / SCORES).exists():
            card = Scorecard.read(self.folder / SCORES)
            if card.made_for == made_for:
                return self.completed(card, reference)
        if self.weights is None:
            raise ValueError(f"{self.folder} has no samples of this evaluation, and the weights are gone")
        start = time.perf_counter()
        weights = self.weights()
        self.draw(weights.on(self.device, self.sample.precision), words)
        middle = time.perf_counter()
        losses = self.losses(weights, reference)
        values = score(self.samples(losses), reference)
        seconds = {"sample": middle - start, "score": time.perf_counter() - middle}
        card = self.card(made_for, values, seconds)
        card.write(self.folder / SCORES)
        return card

    def completed(self, card: Scorecard, reference: Reference) -> Scorecard:
        """`card` with what it lacks of today's metrics, as far as it can be measured."""
        stale = card.stale()
        if not stale:
            return card
        start = time.perf_counter()
        reasons = unmeasurable(stale, self.weights is not None, has_samples(self.folder, self.evaluation))
        full = replace(card, missing={**card.missing, **reasons})
        wanted = [name for name in stale if name not in reasons]
        if wanted:
            of_weights = any(METRICS[name].needs_weights for name in wanted)
            losses = self.losses(self.weights(), reference) if of_weights and self.weights else None
            values = score(self.samples(losses), reference, wanted)
            full = full.completed(self.card(card.made_for, values, {"score": time.perf_counter() - start}))
        if full != card:
            full.write(self.folder / SCORES)
        return full.without(reasons)

    def draw(self, placed: Components, words: str, share: Share = ALONE) -> None:
        """Samples the images of the prompts and of the class prompt, where they are not there yet. Of several
        processes, those that have no prompts to sample begin with the class prompt."""
        number, processes = share
        before = 0
        seed = self.evaluation.seed
        sets = list(self._sets())
        total = sum(len(texts) * images for _, texts, images, _ in sets)

        def report(done: int, _: int) -> None:
            self.progress(before + done, total)

        for i, (place, texts, images, first) in enumerate(sets):
            sample_images(
                placed, self.sample, words, texts, images, seed, place, device=self.device,
                batch_size=self.batch_size, progress=report, first=first, share=((number + i) % processes, processes),
            )  # fmt: skip
            before += len(texts) * images

    def _sets(self) -> Iterator[tuple[Path, Sequence[str], int, tuple[int, int]]]:
        """(folder, prompts, images of each, place of the first among all slices) of each set of samples."""
        evaluation = self.evaluation
        asked = (
            (evaluation.prompts, (evaluation.first_prompt, evaluation.first_image)),
            ((class_prompt(self.subject),), (0, evaluation.first_class_image)),
        )
        for (place, _, images), (texts, first) in zip(sample_sets(self.folder, evaluation), asked, strict=False):
            yield place, texts, images, first  # there may be no class images

    def samples(self, losses: np.ndarray | None) -> Samples:
        """The stored samples, as their PNGs hold them, with their features."""
        clip, dino = encoders(self.evaluation, self.device)
        found: dict[Path, Images] = {
            place: encode(read_images(place, prompts, images), clip, dino)
            for place, prompts, images in sample_sets(self.folder, self.evaluation)
        }
        return Samples(found[self.folder], found.get(class_folder(self.folder)), losses)

    def losses(self, weights: Weights, reference: Reference) -> np.ndarray:
        return weights.losses(reference.photographs.pixels, instance_prompt(self.subject), self.device)

    def card(self, made_for: str, values: dict[str, np.ndarray], seconds: dict[str, float]) -> Scorecard:
        return Scorecard(
            made_for=made_for,
            metrics={name: mean(v) for name, v in values.items()},
            values=plain(values),
            backbones={name: backbone(METRICS[name].backbone, self.evaluation) for name in values},
            images={name: int(np.isfinite(v).sum()) for name, v in values.items()},
            versions={name: METRICS[name].version for name in values},
            seconds=seconds,
            provenance=(provenance(self.device),),
        )


def encoders(evaluation: EvalSpec, device: str) -> tuple[ClipEncoder, DinoEncoder]:
    return (
        clip_encoder(evaluation.clip_repo, evaluation.clip, device),
        dino_encoder(evaluation.dino_repo, evaluation.dino, device),
    )


def backbone(kind: str, evaluation: EvalSpec) -> str:
    names = {"clip": evaluation.clip_name or evaluation.clip_repo, "dino": evaluation.dino_name or evaluation.dino_repo}
    return names.get(kind, kind)


def mean(values: np.ndarray) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def plain(values: dict[str, np.ndarray]) -> dict[str, Values]:
    """Nested lists; None where a value is not defined, as JSON knows no NaN."""
    finite = {name: np.isfinite(v) for name, v in values.items()}
    return {name: np.where(finite[name], v.astype(object), np.array(None)).tolist() for name, v in values.items()}
