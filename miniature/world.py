"""The rendered world. A scene is a value, and its image is a pure function of that value."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from miniature import creatures, things
from miniature.attributes import CLASSES, SUBJECT_CLASSES, sample_attributes
from miniature.canvas import Canvas
from miniature.contexts import CONTEXTS, SHADOWLESS

SIZE = 64
"""Side of every image, in pixels."""
OVERSAMPLING = 3
"""Scenes are drawn this many times larger and then averaged, so that edges are smooth."""
STYLES = ("photo", "painting", "sketch")
PAINTERS = creatures.PAINTERS | things.PAINTERS
"""Class -> what draws an object of it."""


@dataclass(frozen=True)
class Pose:
    """Where the object is. `x`, `y` (its centre) and `scale` are fractions of the image's side; `tilt` is in radians.

    `scale` is the unit of the object's own coordinates (see `Canvas`), about half of its width.
    """

    x: float = 0.5
    y: float = 0.52
    scale: float = 0.37
    tilt: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Scene:
    """Everything that is true of one image.

    `noun` is the object's class and `attributes` holds (name, value) for every attribute of that class. `seed` decides
    what captions never mention, such as where clouds and leaves are.
    """

    noun: str
    attributes: tuple[tuple[str, str], ...]
    context: str
    style: str = "photo"
    pose: Pose = Pose()
    seed: int = 0

    @property
    def facts(self) -> dict[str, str]:
        """Attribute -> value."""
        return dict(self.attributes)

    def with_facts(self, **changes: str) -> "Scene":
        """The same scene with some attributes changed."""
        return replace(self, attributes=tuple({**self.facts, **changes}.items()))


def sample_pose(rng: random.Random) -> Pose:
    """A random pose."""
    return Pose(
        x=0.5 + rng.uniform(-0.08, 0.08),
        y=0.52 + rng.uniform(-0.04, 0.05),
        scale=rng.uniform(0.34, 0.42),
        tilt=rng.uniform(-0.12, 0.12),
        flip=rng.random() < 0.5,
    )


def sample_scene(
    rng: random.Random, noun: str | None = None, context: str | None = None, style: str | None = None
) -> Scene:
    """A random scene; a class, context or style that is given is not drawn.

    The classes of the post's subjects are twice as likely as the others, and so is the plain context.
    """
    if noun is None:
        noun = rng.choices(CLASSES, weights=[2 if name in SUBJECT_CLASSES else 1 for name in CLASSES])[0]
    attributes = tuple(sample_attributes(noun, rng).items())
    if context is None:
        context = rng.choices(tuple(CONTEXTS), weights=[2 if name == "plain" else 1 for name in CONTEXTS])[0]
    if style is None:
        style = rng.choices(STYLES, weights=(6, 1, 1))[0]
    pose = sample_pose(rng)
    return Scene(noun, attributes, context, style, pose, rng.randrange(2**31))


def render(scene: Scene) -> Image.Image:
    """`scene` as an RGB image of SIZE x SIZE pixels; the same scene always gives the same bytes."""
    side = SIZE * OVERSAMPLING
    image = CONTEXTS[scene.context](side, random.Random(scene.seed))
    x = scene.pose.x * side
    y = scene.pose.y * side
    scale = scene.pose.scale * side
    if scene.context not in SHADOWLESS:
        shadow = [x - scale * 0.8, y + scale * 0.88, x + scale * 0.8, y + scale * 1.12]
        ImageDraw.Draw(image, "RGBA").ellipse(shadow, fill=(0, 0, 0, 60))
    PAINTERS[scene.noun](Canvas(image, x, y, scale, scene.pose.tilt, scene.pose.flip), scene.facts)
    small = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    return STYLE_FILTERS[scene.style](small, scene.seed)


def photo(image: Image.Image, seed: int) -> Image.Image:
    """The image as it is drawn."""
    return image


def painting(image: Image.Image, seed: int) -> Image.Image:
    """Flat patches of warm, slightly uneven paint."""
    patches = image.filter(ImageFilter.ModeFilter(5)).filter(ImageFilter.GaussianBlur(0.6))
    pixels = np.asarray(patches, dtype=np.float32)
    coarse = np.random.default_rng(seed).normal(0, 8, (4, 4, 3)).astype(np.float32)
    channels = [Image.fromarray(coarse[..., c]).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for c in range(3)]
    uneven = np.stack([np.asarray(channel) for channel in channels], axis=-1)
    warm = (pixels * 0.8 + 38) * (1.1, 1.0, 0.76) + uneven
    return Image.fromarray(warm.clip(0, 255).astype(np.uint8))


def sketch(image: Image.Image, seed: int) -> Image.Image:
    """Pencil on paper: pale greys and soft dark edges."""
    gray = image.convert("L")
    soft = np.asarray(gray.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32)
    wide = np.asarray(gray.filter(ImageFilter.GaussianBlur(2.0)), dtype=np.float32)
    pixels = 130 + 0.5 * soft - 1.5 * np.abs(soft - wide)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


STYLE_FILTERS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "photo": photo,
    "painting": painting,
    "sketch": sketch,
}
