"""Ground truth as class indices: what classifiers learn to read from an image, and what the judge compares with."""

import numpy as np
import torch

from miniature.attributes import ATTRIBUTES, CLASSES, values
from miniature.canvas import COLOR_NAMES
from miniature.contexts import CONTEXTS
from miniature.world import STYLES

HEADS = {"class": CLASSES, "context": tuple(CONTEXTS), "style": STYLES, "color": COLOR_NAMES}
HEADS |= {
    f"{noun}/{name}": values(noun, name) for noun, space in ATTRIBUTES.items() for name in space if name != "color"
}
"""What is read -> its possible values. The attributes of a class are "class/attribute"."""

NAMES = tuple(HEADS)
WIDEST = max(len(choices) for choices in HEADS.values()) + 1
UNKNOWN = -1


def colored(choices):
    """Whether an attribute's values are colours, which a sketch does not show."""
    return sum(value in COLOR_NAMES for value in choices) > 1


def truth(scene):
    """What is visibly true of `scene`: head -> value."""
    facts = scene.facts
    known = {"class": scene.noun, "context": scene.context, "style": scene.style}
    named = {f"{scene.noun}/{name}": value for name, value in facts.items() if name != "color"}
    if "color" in facts:
        named["color"] = facts["color"]
    if scene.style == "sketch":
        named = {name: value for name, value in named.items() if not colored(HEADS[name])}
    return known | {name: value for name, value in named.items() if value in HEADS[name]}


def encode_labels(scenes):
    """Indices into each head's values as int64 [N, len(HEADS)]; UNKNOWN where a scene does not say."""
    encoded = np.full((len(scenes), len(HEADS)), UNKNOWN, dtype=np.int64)
    for row, scene in enumerate(scenes):
        for name, value in truth(scene).items():
            encoded[row, NAMES.index(name)] = HEADS[name].index(value)
    return encoded


class Heads(torch.nn.Module):
    """A linear classifier for every head: features [B, width] -> logits [B, len(HEADS), WIDEST]."""

    def __init__(self, width):
        super().__init__()
        self.head = torch.nn.Linear(width, len(HEADS) * WIDEST)
        sizes = torch.tensor([len(choices) for choices in HEADS.values()])
        self.register_buffer("absent", torch.arange(WIDEST)[None] >= sizes[:, None], persistent=False)

    def forward(self, features):
        logits = self.head(features).float().unflatten(1, (len(HEADS), WIDEST))
        return logits.masked_fill(self.absent, -1e4)


def heads_loss(logits, indices):
    """Cross-entropy of `Heads`' logits against `encode_labels`'s indices, averaged over what is known."""
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), indices.flatten(), ignore_index=UNKNOWN)
