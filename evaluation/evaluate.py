"""The one entry of a sweep: a checkpoint's components in, its scorecard out."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.baselines import photograph_values, read_photographs
from evaluation.denoising import denoising_losses
from evaluation.features import ClipEncoder, DinoEncoder, clip_encoder, dino_encoder, encode
from evaluation.metrics import METRICS, Reference, Samples, score
from evaluation.sample import Progress, no_progress, read_images, sample_images
from evaluation.spec import EvalSpec, class_words, fill, subject_words
from trainers.files import read_json, write_json
from trainers.spec import SampleSpec, SubjectSpec, signature

SCORES = "scores.json"  # written last; a folder that has it is scored


@dataclass(frozen=True)
class Baselines:
    """What checkpoints are compared with. `values` is plain JSON, for `sweetspot.find`."""

    reference: Reference
    values: dict[str, dict[str, Any]]  # "untuned" and "photographs": metric -> nested lists
    folder: Path  # the untuned model's samples, named as a checkpoint's


def prepare(
    components,
    subject: SubjectSpec,
    sample: SampleSpec,
    evaluation: EvalSpec,
    folder: Path,
    *,
    device: str = "cpu",
    batch_size: int = 16,
    progress: Progress = no_progress,
) -> Baselines:
    """Samples and scores the untuned model on the class's words. What is already in `folder` is not made again."""
    words = class_words(subject.class_noun)
    clip, dino = encoders(evaluation, str(device))
    photographs = encode(read_photographs(subject.images, components.model.resolution), clip, dino)
    reference = Reference(photographs, clip.text([fill(prompt, words) for prompt in evaluation.prompts]))
    scoring = Scoring(components, subject, sample, evaluation, folder, str(device), batch_size, progress)
    untuned = scoring.scorecard(words, reference)["values"]
    return Baselines(reference, {"untuned": untuned, "photographs": plain(photograph_values(reference))}, folder)


def evaluate(
    components,
    subject: SubjectSpec,
    sample: SampleSpec,
    evaluation: EvalSpec,
    baselines: Baselines,
    folder: Path,
    *,
    device: str = "cpu",
    batch_size: int = 16,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """The scorecard of a checkpoint, also written as scores.json; read back if it is there already.

    metrics: name -> mean over images. values: name -> [prompt][image]. backbones: name -> encoder. images: name ->
    how many were averaged. seconds: sample, score. Samples lie in `folder`, those of the class prompt in its `class/`.
    """
    scoring = Scoring(components, subject, sample, evaluation, folder, str(device), batch_size, progress)
    return scoring.scorecard(subject_words(subject.identifier, subject.class_noun), baselines.reference)


@dataclass(frozen=True)
class Scoring:
    """One model to be sampled and scored."""

    components: Any
    subject: SubjectSpec
    sample: SampleSpec
    evaluation: EvalSpec
    folder: Path
    device: str
    batch_size: int
    progress: Progress

    def scorecard(self, words: str, reference: Reference) -> dict[str, Any]:
        made_for = signature(self.components.model, self.subject, words, self.sample, self.evaluation)
        file = self.folder / SCORES
        if file.exists() and (card := read_json(file))["made_for"] == made_for:
            return card
        start = time.perf_counter()
        placed = self.components.to(self.device, self.sample.precision)
        pixels = self.sampled(placed, words)
        middle = time.perf_counter()
        if self.sample.precision != "no":
            placed = self.components.to(self.device)  # losses are compared in fp32
        photographs, prompt = reference.photographs.pixels, instance_prompt(self.subject)
        losses = denoising_losses(placed, photographs, prompt, self.device)
        prompts, of_class = (encode(p, *encoders(self.evaluation, self.device)) for p in pixels)
        values = score(Samples(prompts, of_class, losses), reference)
        card = {
            "made_for": made_for,
            "metrics": {name: mean(v) for name, v in values.items()},
            "values": plain(values),
            "backbones": {name: backbone(METRICS[name].backbone, self.evaluation) for name in values},
            "images": {name: int(np.isfinite(v).sum()) for name, v in values.items()},
            "seconds": {"sample": middle - start, "score": time.perf_counter() - middle},
        }
        write_json(file, card)
        return card

    def sampled(self, placed, words: str) -> list[np.ndarray]:
        """Images of the prompts [P, K, H, W, 3] and of the class prompt [1, images, ...], as their PNGs hold them."""
        evaluation, pixels, before = self.evaluation, [], 0
        sets = [
            (self.folder, evaluation.prompts, evaluation.images_per_prompt),
            (self.folder / "class", (class_prompt(self.subject),), evaluation.class_images),
        ]
        total = sum(len(prompts) * images for _, prompts, images in sets)
        for place, prompts, images in sets:
            sample_images(
                placed, self.sample, words, prompts, images, evaluation.seed, place, device=self.device,
                batch_size=self.batch_size,
                progress=lambda done, _, before=before: self.progress(before + done, total),
            )  # fmt: skip
            pixels.append(read_images(place, len(prompts), images))
            before += len(prompts) * images
        return pixels


def encoders(evaluation: EvalSpec, device: str) -> tuple[ClipEncoder, DinoEncoder]:
    return (
        clip_encoder(evaluation.clip_repo, evaluation.clip, device),
        dino_encoder(evaluation.dino_repo, evaluation.dino, device),
    )


def class_prompt(subject: SubjectSpec) -> str:
    return subject.class_prompt or f"a photo of {class_words(subject.class_noun)}"


def instance_prompt(subject: SubjectSpec) -> str:
    return subject.instance_prompt or f"a photo of {subject_words(subject.identifier, subject.class_noun)}"


def backbone(kind: str, evaluation: EvalSpec) -> str:
    names = {"clip": evaluation.clip_name or evaluation.clip_repo, "dino": evaluation.dino_name or evaluation.dino_repo}
    return names.get(kind, kind)


def mean(values: np.ndarray) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def plain(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """Nested lists; None where a value is not defined, as JSON knows no NaN."""
    return {k: np.where(np.isfinite(v), v.astype(object), None).tolist() for k, v in values.items()}
