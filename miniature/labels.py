"""Labels: the ground truth of a scene as class indices, and the classifier heads that learn to predict them.

There is one head for the class, the context, the style and the colour each, and one for every other attribute of every
class. A label is the index of the true value among a head's values.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from miniature.attributes import ATTRIBUTES, CLASSES, values
from miniature.canvas import COLOR_NAMES
from miniature.contexts import CONTEXTS
from miniature.world import STYLES, Scene

HEADS: dict[str, tuple[str, ...]] = {
    "class": CLASSES,
    "context": tuple(CONTEXTS),
    "style": STYLES,
    "color": COLOR_NAMES,
}
HEADS |= {
    f"{noun}/{name}": values(noun, name)
    for noun, attributes in ATTRIBUTES.items()
    for name in attributes
    if name != "color"
}
"""Head -> its values. The head of an attribute other than the colour is named "class/attribute"."""

NAMES = tuple(HEADS)
WIDEST = max(len(choices) for choices in HEADS.values()) + 1
"""Logits for each head; those beyond a head's values are masked."""
UNKNOWN = -1
"""The label of a head that has no visible true value in a scene."""


def has_colors(choices: Sequence[str]) -> bool:
    """Whether an attribute's values are colours, which a sketch does not show."""
    return sum(value in COLOR_NAMES for value in choices) > 1


def truth(scene: Scene) -> dict[str, str]:
    """Head -> true value, for all that can be seen in an image of `scene`."""
    facts = scene.facts
    known = {"class": scene.noun, "context": scene.context, "style": scene.style}
    attributes = {f"{scene.noun}/{name}": value for name, value in facts.items() if name != "color"}
    if "color" in facts:
        attributes["color"] = facts["color"]
    if scene.style == "sketch":
        attributes = {name: value for name, value in attributes.items() if not has_colors(HEADS[name])}
    # A bald face has no hair colour and a plain ball no second colour: "none" is not among those heads' values.
    return known | {name: value for name, value in attributes.items() if value in HEADS[name]}


def encode_labels(scenes: Sequence[Scene]) -> npt.NDArray[np.int64]:
    """Labels of `scenes` as int64 [N, len(HEADS)]."""
    encoded = np.full((len(scenes), len(HEADS)), UNKNOWN, dtype=np.int64)
    for row, scene in enumerate(scenes):
        for name, value in truth(scene).items():
            encoded[row, NAMES.index(name)] = HEADS[name].index(value)
    return encoded


class Heads(torch.nn.Module):
    """A linear classifier for every head: features [B, width] -> logits [B, len(HEADS), WIDEST]."""

    absent: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(width, len(HEADS) * WIDEST)
        sizes = torch.tensor([len(choices) for choices in HEADS.values()])
        self.register_buffer("absent", torch.arange(WIDEST)[None] >= sizes[:, None], persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features).float().unflatten(1, (len(HEADS), WIDEST))
        return logits.masked_fill(self.absent, -1e4)


def heads_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the logits of `Heads` against labels [B, len(HEADS)], averaged over the known ones."""
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN)
