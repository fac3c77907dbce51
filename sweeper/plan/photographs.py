"""Looks at the photographs before a training begins: what a person would want to know of them, and never a refusal.

Everything is judged on the photograph as it is trained: the shorter side at the model's resolution.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sweeper.plan.types import Plan
from trainers.images import instance_images, load_image, resize

ALIKE = 8.0  # grey levels of 256, root mean square over 16 x 16 pixels, up to which two are nearly the same
SOFT = 0.5  # of the photographs' median sharpness, below which one is blurred
CUT = 0.2  # of a photograph outside of a crop, from which on it is said
SIDE = 16  # pixels of the picture that duplicates are compared by


@dataclass(frozen=True)
class Photograph:
    name: str
    size: tuple[int, int]  # as it lies upright
    sharpness: float  # the steepest edges, by the picture's contrast
    small: np.ndarray  # [SIDE, SIDE], grey

    @property
    def cut(self) -> float:
        """The share that is outside of a square crop."""
        return 1 - min(self.size) / max(self.size)


def look(path: Path, resolution: int) -> Photograph:
    image, size = _load(path, resolution)
    grey = np.asarray(resize(image, resolution).convert("L"), dtype=np.float64)
    rows, columns = np.gradient(grey)
    contrast = float(grey.std()) or 1.0
    sharpness = float(np.quantile(np.hypot(rows, columns), 0.99)) / contrast
    small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    return Photograph(path.name, size, sharpness, small)


def _load(path: Path, resolution: int) -> tuple[Image.Image, tuple[int, int]]:
    """A photograph upright, and its size. A JPEG is decoded no larger than is needed."""
    with Image.open(path) as file:
        if file.format not in ("JPEG", "MPO"):
            image = load_image(path)
            return image, image.size
        whole = file.size
        file.draft("RGB", (2 * resolution, 2 * resolution))
        image = ImageOps.exif_transpose(file).convert("RGB")
    turned = (image.width > image.height) != (whole[0] > whole[1])
    return image, whole[::-1] if turned else whole


def remarks(photographs: Sequence[Photograph], resolution: int, center_crop: bool) -> Iterator[str]:
    """A sentence for each thing worth knowing."""
    for each in photographs:
        if min(each.size) < resolution:
            pixels = f"{each.size[0]} x {each.size[1]} pixels"
            yield f"{each.name} has {pixels} and is enlarged to {resolution}: give a larger one"
        if each.cut > CUT:
            where = "its middle" if center_crop else "a square at a random place"
            yield f"{each.name} loses {each.cut:.0%} to the crop, {where}: keep the subject whole in any square of it"
    typical = float(np.median([each.sharpness for each in photographs]))
    for each in photographs:
        if each.sharpness < SOFT * typical:
            yield f"{each.name} looks blurred beside the others: the model learns that too"
    for one, other in combinations(photographs, 2):
        if is_alike(one.small, other.small):
            yield f"{one.name} and {other.name} are nearly the same picture: different ones teach more"


def is_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures are the same but for light, or mirrored."""

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt((((a - a.mean()) - (b - b.mean())) ** 2).mean()))

    return min(apart(one, other), apart(one, other[:, ::-1])) <= ALIKE


def remarks_of(plan: Plan) -> list[str]:
    """Of all photographs of a plan."""
    specs = [training.spec for training in plan.trainings]
    ways = dict.fromkeys((spec.subject.images, spec.model.resolution, spec.trainer.center_crop) for spec in specs)
    said: list[str] = []
    for folder, resolution, center_crop in ways:
        said += remarks([look(path, resolution) for path in instance_images(folder)], resolution, center_crop)
    return list(dict.fromkeys(said))
