"""Several slices of one checkpoint's samples as one: more images of the same prompts, or other prompts.

Image for image the joined values are those of one evaluation with all images. Diversity is the exception: the images of
a prompt were compared with each other within their slice only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluation.metrics import METRICS
from evaluation.scorecard import Baselines, Scorecard, Values
from evaluation.spec import EvalSpec

Slice = tuple[EvalSpec, Mapping[str, Values]]
OF_CLASS = ("pres",)  # measured on the images of the class prompt


def join_scorecards(slices: Sequence[tuple[EvalSpec, Scorecard]]) -> Scorecard:
    """One scorecard of slices of one checkpoint. It has the metrics that all of them have. Raises ValueError if the
    slices overlap, or some prompts have more images than others."""
    values = join_values([(evaluation, card.values) for evaluation, card in slices])
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


def join_baselines(slices: Sequence[tuple[EvalSpec, Baselines]]) -> Baselines:
    """The baselines of joined slices. Of the photographs only CLIP-T depends on the prompts."""
    each = [baselines for _, baselines in slices]
    photographs = dict(each[0].photographs)
    if "clip_t" in photographs:
        by_prompts = {_prompts(spec): baselines.photographs["clip_t"] for spec, baselines in slices}
        photographs["clip_t"] = [row for prompts in sorted(by_prompts) for row in by_prompts[prompts]]
    return replace(
        each[0],
        untuned=join_values([(evaluation, baselines.untuned) for evaluation, baselines in slices]),
        photographs=photographs,
        provenance=tuple(dict.fromkeys(maker for baselines in each for maker in baselines.provenance)),
    )


def join_values(slices: Sequence[Slice]) -> dict[str, Values]:
    """Values [prompt][image] of all slices, prompts and images in the order of their noise."""
    names = [name for name in slices[0][1] if name in METRICS]
    joined: dict[str, Values] = {}
    for name in names:
        if METRICS[name].needs_weights:  # of the weights, not of the images
            joined[name] = slices[0][1][name]
        elif name in OF_CLASS:
            joined[name] = _joined_class(slices, name)
        elif all(name in values for _, values in slices):
            joined[name] = _joined_prompts(slices, name)
    return joined


def _prompts(spec: EvalSpec) -> tuple[int, tuple[str, ...]]:
    return spec.first_prompt, spec.prompts


def _joined_prompts(slices: Sequence[Slice], name: str) -> Values:
    by_prompts: dict[tuple[int, tuple[str, ...]], list[Slice]] = {}
    for spec, values in sorted(slices, key=lambda s: s[0].first_image):
        by_prompts.setdefault(_prompts(spec), []).append((spec, values))
    rows: Values = []
    for prompts in sorted(by_prompts):
        parts = by_prompts[prompts]
        _check_apart([(spec.first_image, spec.images_per_prompt) for spec, _ in parts])
        rows += [sum((values[name][p] for _, values in parts), []) for p in range(len(prompts[1]))]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("slices give some prompts more images than others")
    return rows


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
