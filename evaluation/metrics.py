"""What is measured on the samples of a checkpoint, one function a metric, per image; the caller averages.

Every function takes (samples, reference) and gives an array [prompt, image]; NaN where it is not defined. Values
of different backbones do not compare. Similarities are cosines, at most 1 and 1 for identical images.
Imports nothing heavy.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Images:
    """Images and their features. The leading shape ... is [prompt, image] of samples, [photograph] of photographs."""

    pixels: np.ndarray  # uint8 [..., H, W, 3]
    clip: np.ndarray  # float32 [..., D], unit length
    dino: np.ndarray  # float32 [..., D], unit length: the class token of the last hidden state
    patches: np.ndarray  # float32 [..., T, D], unit length: DINO's patch tokens, by place


@dataclass(frozen=True)
class Samples:
    """What one checkpoint made: P prompts x K images, and images of the plain class prompt."""

    prompts: Images  # [P, K, ...]
    of_class: Images | None  # [1, images, ...]; None where the evaluation asks for none
    losses: np.ndarray | None  # [photograph, timestep], see evaluation/denoising.py; None where the weights are gone


@dataclass(frozen=True)
class Reference:
    """What samples are compared with."""

    photographs: Images  # [N, ...] the instance images, as the training sees them
    texts: np.ndarray  # [P, D] CLIP features of the prompts without the identifier


def dino(samples: Samples, reference: Reference) -> np.ndarray:
    """Subject fidelity: mean cosine to the photographs in DINO features (Ruiz et al., CVPR 2023)."""
    return samples.prompts.dino @ reference.photographs.dino.mean(0)


def clip_i(samples: Samples, reference: Reference) -> np.ndarray:
    """Subject fidelity: mean cosine to the photographs in CLIP image features (Gal et al., ICLR 2023)."""
    return samples.prompts.clip @ reference.photographs.clip.mean(0)


def clip_t(samples: Samples, reference: Reference) -> np.ndarray:
    """Prompt fidelity: cosine of CLIP image and text features, the identifier taken out of the text.

    torchmetrics' CLIPScore is 100 times this, cut at 0.
    """
    return np.einsum("pkd,pd->pk", samples.prompts.clip, reference.texts)


def pres(samples: Samples, reference: Reference) -> np.ndarray:
    """Drift of the class: DINO similarity of images of the plain class prompt to the photographs; lower is better.
    [1, image]."""
    if samples.of_class is None:
        return np.full((1, 0), np.nan)
    return samples.of_class.dino @ reference.photographs.dino.mean(0)


def div(samples: Samples, reference: Reference) -> np.ndarray:
    """Diversity: mean distance of an image to the others of its prompt; 0 is collapse.

    The paper's DIV is LPIPS. Here the distance is 1 - cosine of DINO's patch tokens, mean over places: like LPIPS it
    compares features place by place, and it needs no further weights.
    """
    patches = samples.prompts.patches
    others = patches.shape[1] - 1
    if others == 0:
        return np.full(patches.shape[:2], np.nan)
    cosines = np.einsum("pktd,pltd->pkl", patches, patches) / patches.shape[2]
    return 1 - (cosines.sum(-1) - np.einsum("pkk->pk", cosines)) / others


def copying(samples: Samples, reference: Reference) -> np.ndarray:
    """Cosine to the nearest photograph in CLIP image features, which hold the whole scene, background included."""
    return (samples.prompts.clip @ reference.photographs.clip.T).max(-1)


def noise(samples: Samples, reference: Reference) -> np.ndarray:
    """Standard deviation of the pixel noise, in grey levels of 255 (see `noise_level`)."""
    return noise_level(samples.prompts.pixels)


def noise_level(pixels: np.ndarray) -> np.ndarray:
    """Noise of uint8 images [..., H, W, 3] -> [...], grey levels (Immerkaer, CVIU 1996).

    Mean absolute response to a mask that is blind to planes and straight edges. NaN for images under 3 pixels.
    """
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    if min(grey.shape[-2:]) < 3:
        return np.full(grey.shape[:-2], np.nan)
    rows = grey[..., :-2, :] - 2 * grey[..., 1:-1, :] + grey[..., 2:, :]
    response = rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]
    return np.abs(response).mean((-2, -1)) * np.sqrt(np.pi / 2) / 6


def validation_loss(samples: Samples, reference: Reference) -> np.ndarray:
    """Denoising loss on the photographs with frozen noise and timesteps: [photograph, timestep]. To look at; it seldom
    turns up where people see overfitting, so nothing is chosen by it. Raises ValueError where the weights are gone."""
    if samples.losses is None:
        raise ValueError("the denoising loss needs the weights")
    return samples.losses


@dataclass(frozen=True)
class Metric:
    """A measure, with the words for a person. `version` goes up with every change of what `measure` returns: scores of
    an older version are measured again from the stored samples."""

    measure: Callable[[Samples, Reference], np.ndarray]
    backbone: str  # clip | dino | pixels | unet
    higher_is_better: bool
    title: str
    description: str  # one sentence
    unit: str
    version: int = 1

    @property
    def needs_weights(self) -> bool:
        """Whether the samples are not enough to measure it."""
        return self.backbone == "unet"


METRICS = {
    "dino": Metric(
        dino, "dino", True, "subject likeness (DINO)",
        "How much the images resemble the photographs of the subject, in DINO features.", "cosine",
    ),
    "clip_i": Metric(
        clip_i, "clip", True, "subject likeness (CLIP)",
        "How much the images resemble the photographs of the subject, in CLIP image features.", "cosine",
    ),
    "clip_t": Metric(
        clip_t, "clip", True, "prompt likeness (CLIP)",
        "How well the images show what the prompt says, in CLIP features.", "cosine",
    ),
    "pres": Metric(
        pres, "dino", False, "class drift",
        "How much images of the plain class, without the identifier, resemble the subject's photographs.", "cosine",
    ),
    "div": Metric(
        div, "dino", True, "diversity",
        "How much the images of one prompt differ from each other; 0 means that all are the same.", "1 - cosine",
    ),
    "copying": Metric(
        copying, "clip", False, "copying",
        "How much the images resemble the nearest photograph, background included.", "cosine",
    ),
    "noise": Metric(
        noise, "pixels", False, "noise",
        "The standard deviation of the pixel noise in the images.", "grey levels of 255",
    ),
    "validation_loss": Metric(
        validation_loss, "unet", False, "denoising loss",
        "The error of denoising the photographs, with the same noise and timesteps each time.", "mean square",
    ),
}  # fmt: skip


def score(samples: Samples, reference: Reference, names: Iterable[str] = tuple(METRICS)) -> dict[str, np.ndarray]:
    """Metrics by name, per image."""
    return {name: METRICS[name].measure(samples, reference) for name in names}
