"""The one entry of a sweep: a checkpoint's components in, its scorecard out."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.baselines import photograph_values, read_photographs
from evaluation.features import clip_encoder, dino_encoder, encode
from evaluation.metrics import METRICS, Reference, Samples, score
from evaluation.sample import Progress, no_progress, read_images, sample_images
from evaluation.spec import EvalSpec, class_words, fill, subject_words
from evaluation.validation import denoising_losses
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
    clip, dino = encoders(evaluation, device)
    photographs = encode(read_photographs(subject.images, components.model.resolution), clip, dino)
    texts = clip.text([fill(prompt, class_words(subject.class_noun)) for prompt in evaluation.prompts])
    reference = Reference(photographs, texts)
    words = class_words(subject.class_noun)
    card = scorecard(components, subject, words, sample, evaluation, reference, folder, device, batch_size, progress)
    values = {"untuned": card["values"], "photographs": plain(photograph_values(reference))}
    return Baselines(reference, values, folder)


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
    words = subject_words(subject.identifier, subject.class_noun)
    return scorecard(
        components, subject, words, sample, evaluation, baselines.reference, folder, device, batch_size, progress
    )


def scorecard(
    components, subject, words, sample, evaluation, reference, folder, device, batch_size, progress
) -> dict[str, Any]:
    made_for = signature(components.model, subject, words, sample, evaluation)
    if (folder / SCORES).exists() and (card := read_json(folder / SCORES))["made_for"] == made_for:
        return card
    start = time.perf_counter()
    placed = components.to(device, sample.precision)
    pixels = sample_all(placed, subject, words, sample, evaluation, folder, device, batch_size, progress)
    sampled = time.perf_counter()
    if sample.precision != "no":
        placed = components.to(device)  # losses are compared in fp32
    losses = denoising_losses(placed, reference.photographs.pixels, instance_prompt(subject), device)
    values = score(Samples(*(encode(p, *encoders(evaluation, device)) for p in pixels), losses), reference)
    card = {
        "made_for": made_for,
        "metrics": {name: mean(v) for name, v in values.items()},
        "values": plain(values),
        "backbones": {name: backbone(METRICS[name].backbone, evaluation) for name in values},
        "images": {name: int(np.isfinite(v).sum()) for name, v in values.items()},
        "seconds": {"sample": sampled - start, "score": time.perf_counter() - sampled},
    }
    write_json(folder / SCORES, card)
    return card


def sample_all(
    components, subject, words, sample, evaluation, folder, device, batch_size, progress
) -> list[np.ndarray]:
    """Images of the prompts [P, K, H, W, 3] and of the class prompt [1, images, H, W, 3], as their PNGs hold them."""
    sets = [
        (folder, evaluation.prompts, evaluation.images_per_prompt),
        (folder / "class", (class_prompt(subject),), evaluation.class_images),
    ]
    total, before, pixels = sum(len(prompts) * images for _, prompts, images in sets), 0, []
    for place, prompts, images in sets:
        sample_images(
            components, sample, words, prompts, images, evaluation.seed, place, device=device, batch_size=batch_size,
            progress=lambda done, _, before=before: progress(before + done, total),
        )  # fmt: skip
        pixels.append(read_images(place, len(prompts), images))
        before += len(prompts) * images
    return pixels


def encoders(evaluation: EvalSpec, device):
    return (
        clip_encoder(evaluation.clip_repo, evaluation.clip, str(device)),
        dino_encoder(evaluation.dino_repo, evaluation.dino, str(device)),
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
