"""The attributes that objects of each class have, and how to draw a random object.

A value that is listed more than once is drawn more often: most objects wear no hat.
"""

import random
from collections.abc import Sequence

from miniature.canvas import COLOR_NAMES

HAT = ("none",) * 50 + COLOR_NAMES
SHADE = ("pale", "plain", "deep")
ANIMAL_EYES = ("green", "yellow", "blue", "black", "red")

ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "cat toy": {
        "color": COLOR_NAMES,
        "shade": SHADE,
        "ears": COLOR_NAMES,
        "ear_shape": ("pointed", "round"),
        "stripes": ("none",) * 10 + COLOR_NAMES,
        "eyes": ANIMAL_EYES,
        "eye_size": ("small", "large"),
        "nose": ("pink", "black", "red"),
        "belly": ("plain", "pale"),
        "hat": HAT,
    },
    "pig head": {
        "color": ("pink",) * 5 + COLOR_NAMES,
        "shade": SHADE,
        "snout": COLOR_NAMES,
        "ear_shape": ("up", "floppy"),
        "spots": ("none",) * 10 + COLOR_NAMES,
        "eyes": ANIMAL_EYES,
        "eye_size": ("small", "large"),
        "mouth": ("smile", "flat"),
        "hat": HAT,
    },
    "potato head": {
        "color": ("brown",) * 5 + COLOR_NAMES,
        "shade": SHADE,
        "ears": COLOR_NAMES,
        "nose": COLOR_NAMES,
        "nose_shape": ("ball", "cone"),
        "eye_size": ("small", "large"),
        "lips": ("red", "pink", "white", "purple"),
        "moustache": ("none", "none", "black"),
        "shoes": COLOR_NAMES,
        "hat": ("none",) * 10 + COLOR_NAMES,
    },
    "face": {
        "skin": ("fair", "light", "tan", "brown", "dark"),
        "hair": ("black", "brown", "yellow", "red", "white", "blue", "pink", "green"),
        "hair_style": ("short", "long", "curly", "spiky", "bald"),
        "eyes": ("brown", "blue", "green", "black"),
        "eye_size": ("small", "large"),
        "brow": ("thin", "thick"),
        "nose": ("small", "big"),
        "mouth": ("smile", "open", "flat"),
        "cheeks": ("plain", "rosy"),
        "beard": ("none", "none", "none", "full"),
        "glasses": ("none",) * 6 + ("black", "red", "blue"),
        "width": ("narrow", "wide"),
        "shirt": COLOR_NAMES,
        "hat": HAT,
    },
    "dog": {
        "color": COLOR_NAMES,
        "shade": SHADE,
        "ears": COLOR_NAMES,
        "patch": ("none", "dark"),
        "collar": ("none",) * 6 + COLOR_NAMES,
        "hat": HAT,
    },
    "ball": {
        "color": COLOR_NAMES,
        "shade": SHADE,
        "pattern": ("plain", "stripe", "star", "half"),
        "second": COLOR_NAMES,
    },
    "house": {
        "color": COLOR_NAMES,
        "shade": SHADE,
        "roof": COLOR_NAMES,
        "door": COLOR_NAMES,
        "windows": ("one", "two"),
        "chimney": ("none", "brick"),
    },
    "tree": {
        "color": ("green",) * 10 + ("green", "orange", "red", "yellow", "pink", "purple", "white", "blue"),
        "shade": SHADE,
        "shape": ("round", "pine", "cloud"),
        "fruit": ("none",) * 10 + COLOR_NAMES,
    },
    "car": {
        "color": COLOR_NAMES,
        "shade": SHADE,
        "body": ("round", "box"),
        "stripe": ("none",) * 10 + COLOR_NAMES,
        "hubs": ("white", "yellow", "black"),
    },
    "mug": {
        "color": COLOR_NAMES,
        "shade": SHADE,
        "band": ("none",) * 10 + COLOR_NAMES,
        "steam": ("none", "rising"),
    },
}
"""Class -> attribute -> its values."""

CLASSES = tuple(ATTRIBUTES)
SUBJECT_CLASSES = ("cat toy", "pig head", "potato head", "face")
CONTRASTING = {
    "ears",
    "stripes",
    "snout",
    "spots",
    "nose",
    "shoes",
    "hat",
    "second",
    "roof",
    "door",
    "fruit",
    "stripe",
    "band",
    "collar",
}
"""Parts that are drawn on or beside the body: in its colour they would not be seen."""


def values(noun: str, attribute: str) -> tuple[str, ...]:
    """The distinct values of an attribute of class `noun`, in order."""
    return tuple(dict.fromkeys(ATTRIBUTES[noun][attribute]))


def sample_value(noun: str, attribute: str, rng: random.Random, color: str | None = None) -> str:
    """A random value of one attribute; a part in CONTRASTING never gets the body's `color`."""
    choices: Sequence[str] = ATTRIBUTES[noun][attribute]
    if attribute in CONTRASTING and color is not None:
        choices = [value for value in choices if value != color]
    return rng.choice(choices)


def sample_attributes(noun: str, rng: random.Random) -> dict[str, str]:
    """A random object of class `noun`: a value for each of its attributes."""
    attributes: dict[str, str] = {}
    for attribute in ATTRIBUTES[noun]:
        attributes[attribute] = sample_value(noun, attribute, rng, attributes.get("color"))
    if attributes.get("pattern") == "plain":
        attributes["second"] = "none"
    if attributes.get("hair_style") == "bald":
        attributes["hair"] = "none"
    return attributes
