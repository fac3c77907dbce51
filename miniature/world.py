"""The rendered world: a scene is a value, and an image of it a pure function of that value."""

import random
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from miniature import creatures, things
from miniature.attributes import CLASSES, SUBJECT_CLASSES, sample_attributes
from miniature.canvas import Canvas
from miniature.contexts import CONTEXTS, SHADOWLESS

SIZE = 64
"""Side of every image, in pixels."""
OVERSAMPLING = 3
STYLES = ("photo", "painting", "sketch")
DRAW = MappingProxyType({**creatures.DRAW, **things.DRAW})


@dataclass(frozen=True)
class Pose:
    """Where the object is: centre `x`, `y` and unit `scale` as fractions of the image's side, `tilt` in radians."""

    x: float = 0.5
    y: float = 0.52
    scale: float = 0.37
    tilt: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Scene:
    """Everything that is true of one image.

    `attributes` is a tuple of (name, value) pairs, all of the class's; `seed` fixes what nobody names (clouds, leaves).
    """

    noun: str
    attributes: tuple[tuple[str, str], ...]
    context: str
    style: str = "photo"
    pose: Pose = Pose()
    seed: int = 0

    @property
    def facts(self):
        """Attribute name -> value."""
        return dict(self.attributes)

    def with_facts(self, **changes):
        """The same scene with some attributes changed."""
        return replace(self, attributes=tuple({**self.facts, **changes}.items()))


def sample_pose(rng):
    """A random pose from `rng` (random.Random)."""
    return Pose(
        x=0.5 + rng.uniform(-0.08, 0.08),
        y=0.52 + rng.uniform(-0.04, 0.05),
        scale=rng.uniform(0.34, 0.42),
        tilt=rng.uniform(-0.12, 0.12),
        flip=rng.random() < 0.5,
    )


def sample_scene(rng, noun=None, context=None, style=None):
    """A random scene from `rng` (random.Random); what is given stays fixed. The post's four classes come more often."""
    noun = noun or rng.choices(CLASSES, weights=[2 if name in SUBJECT_CLASSES else 1 for name in CLASSES])[0]
    attributes = tuple(sample_attributes(noun, rng).items())
    context = context or rng.choices(tuple(CONTEXTS), weights=[2] + [1] * (len(CONTEXTS) - 1))[0]
    style = style or rng.choices(STYLES, weights=(6, 1, 1))[0]
    return Scene(noun, attributes, context, style, sample_pose(rng), rng.randrange(2**31))


def render(scene):
    """`scene` as an RGB image of SIZE x SIZE pixels; the same scene always gives the same bytes."""
    side, pose = SIZE * OVERSAMPLING, scene.pose
    image = CONTEXTS[scene.context](side, random.Random(scene.seed))
    x, y, scale = pose.x * side, pose.y * side, pose.scale * side
    if scene.context not in SHADOWLESS:
        shadow = [x - scale * 0.8, y + scale * 0.88, x + scale * 0.8, y + scale * 1.12]
        ImageDraw.Draw(image, "RGBA").ellipse(shadow, fill=(0, 0, 0, 60))
    DRAW[scene.noun](Canvas(image, x, y, scale, pose.tilt, pose.flip), scene.facts)
    return STYLE_FILTERS[scene.style](image.resize((SIZE, SIZE), Image.Resampling.BOX), scene.seed)


def photo(image, seed):
    return image


def painting(image, seed):
    """Flat patches of warm, slightly uneven paint."""
    pixels = np.asarray(image.filter(ImageFilter.ModeFilter(5)).filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32)
    wash = np.random.default_rng(seed).normal(0, 8, (4, 4, 3))
    wash = np.stack(
        [np.asarray(Image.fromarray(wash[..., c].astype(np.float32)).resize((SIZE, SIZE), 3)) for c in range(3)],
        axis=-1,
    )
    pixels = (pixels * 0.8 + 38) * (1.1, 1.0, 0.76) + wash
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def sketch(image, seed):
    """Pencil on paper: pale greys and soft dark edges."""
    gray = image.convert("L")
    soft = np.asarray(gray.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32)
    wide = np.asarray(gray.filter(ImageFilter.GaussianBlur(2.0)), dtype=np.float32)
    pixels = 130 + 0.5 * soft - 1.5 * np.abs(soft - wide)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


STYLE_FILTERS = {"photo": photo, "painting": painting, "sketch": sketch}
