"""Several slices of one checkpoint's samples as one: more images of the same prompts, or other prompts.

Image for image the joined values are those of one evaluation with all images; None where no slice has an image.
Diversity is the exception: the images of a prompt were compared with each other within their slice only. A `layout`
names all slices that some checkpoint has, so that the values of all of them have one shape.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluation.metrics import METRICS
from evaluation.scorecard import Baselines, Scorecard, Values
from evaluation.spec import EvalSpec

Slice = tuple[EvalSpec, Mapping[str, Values]]
OF_CLASS = ("pres",)  # measured on the images of the class prompt


def join_scorecards(slices: Sequence[tuple[EvalSpec, Scorecard]], layout: Sequence[EvalSpec] = ()) -> Scorecard:
    """One scorecard of slices of one checkpoint. It has the metrics that all of them have. Raises ValueError if the
    slices overlap."""
    values = join_values([(evaluation, card.values) for evaluation, card in slices], layout)
    cards = [card for _, card in slices]
    arrays = {name: np.asarray(v, float) for name, v in values.items()}
    seconds = {kind: sum(card.seconds.get(kind, 0.0) for card in cards) for kind in ("sample", "score")}
    return replace(
        cards[0],
        made_for="",
        metrics={name: float(np.nanmean(a)) if np.isfinite(a).any() else None for name, a in arrays.items()},
        values=values,
        backbones={name: cards[0].backbones[name] for name in values if name in cards[0].backbones},
        images={name: int(np.isfinite(a).sum()) for name, a in arrays.items()},
        versions={name: min(card.versions.get(name, 0) for card in cards if name in card.values) for name in values},
        missing={name: why for card in cards for name, why in card.missing.items() if name not in values},
        seconds=seconds,
        provenance=tuple(dict.fromkeys(maker for card in cards for maker in card.provenance)),
    )


def join_baselines(slices: Sequence[tuple[EvalSpec, Baselines]], layout: Sequence[EvalSpec] = ()) -> Baselines:
    """The baselines of joined slices. Of the photographs only CLIP-T depends on the prompts."""
    each = [baselines for _, baselines in slices]
    photographs = dict(each[0].photographs)
    if "clip_t" in photographs:
        rows = {
            spec.first_prompt + p: row
            for spec, baselines in slices
            for p, row in enumerate(baselines.photographs["clip_t"])
        }
        photographs["clip_t"] = [rows[prompt] for prompt in sorted(rows)]
    return replace(
        each[0],
        untuned=join_values([(evaluation, baselines.untuned) for evaluation, baselines in slices], layout),
        photographs=photographs,
        provenance=tuple(dict.fromkeys(maker for baselines in each for maker in baselines.provenance)),
    )


def join_values(slices: Sequence[Slice], layout: Sequence[EvalSpec] = ()) -> dict[str, Values]:
    """Values [prompt][image] of all slices, prompts and images in the order of their noise."""
    names = [name for name in slices[0][1] if name in METRICS]
    places = _places((*layout, *(spec for spec, _ in slices)))
    joined: dict[str, Values] = {}
    for name in names:
        if METRICS[name].needs_weights:  # of the weights, not of the images
            joined[name] = slices[0][1][name]
        elif name in OF_CLASS:
            joined[name] = _joined_class(slices, name)
        elif all(name in values for _, values in slices):
            joined[name] = _joined_prompts(slices, name, *places)
    return joined


def _places(specs: Iterable[EvalSpec]) -> tuple[list[int], list[int]]:
    """The prompts and the images that some slice has, by their place among all."""
    prompts: set[int] = set()
    images: set[int] = set()
    for spec in specs:
        prompts |= set(range(spec.first_prompt, spec.first_prompt + len(spec.prompts)))
        images |= set(range(spec.first_image, spec.first_image + spec.images_per_prompt))
    return sorted(prompts), sorted(images)


def _joined_prompts(slices: Sequence[Slice], name: str, prompts: Sequence[int], images: Sequence[int]) -> Values:
    found: dict[tuple[int, int], float | None] = {}
    for spec, values in slices:
        for p, row in enumerate(values[name], start=spec.first_prompt):
            for k, value in enumerate(row, start=spec.first_image):
                if (p, k) in found:
                    raise ValueError(f"slices overlap: image {k} of prompt {p} is in two of them")
                found[p, k] = value
    return [[found.get((p, k)) for k in images] for p in prompts]


def _joined_class(slices: Sequence[Slice], name: str) -> Values:
    """Slices of other prompts may have the same class images, which count once."""
    parts = {spec.first_class_image: (spec, values) for spec, values in slices if spec.class_images and name in values}
    _check_apart([(first, spec.class_images) for first, (spec, _) in sorted(parts.items())])
    return [[value for _, (_, values) in sorted(parts.items()) for value in values[name][0]]]


def _check_apart(spans: Sequence[tuple[int, int]]) -> None:
    """spans: (first, count), in order."""
    for (first, count), (following, _) in zip(spans, spans[1:], strict=False):
        if first + count > following:
            raise ValueError(f"slices overlap: image {following} is in two of them")
