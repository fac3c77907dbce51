"""What the two image encoders share: initial position embeddings, and batches with hard negatives."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from miniature.world import Scene

ATTENTION = "eager"
"""On a CPU these small encoders train 1.4 to 1.8 times as fast with plain attention as with SDPA."""

Indices = npt.NDArray[np.int64]


def sincos_positions(side: int, width: int, rms: float = 0.17) -> Tensor:
    """Two-dimensional sine-cosine embeddings [1 + side * side, width] with root mean square `rms`.

    The first is the class token's and is zero.
    """
    frequencies = 1 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = line[:, None].expand(-1, side, -1)
    columns = line[None].expand(side, -1, -1)
    grid = torch.cat([rows, columns], dim=-1).flatten(0, 1)
    return torch.cat([torch.zeros(1, width), grid * rms / grid.square().mean().sqrt()])


class HardNegatives:
    """Draws groups of scenes that are hard to tell apart: one context and one style, and mostly one colour."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.keys = [(scene.context, scene.style, scene.facts.get("color")) for scene in scenes]
        self.same_color: dict[tuple[str, str, str | None], list[int]] = defaultdict(list)
        self.same_place: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, (context, style, color) in enumerate(self.keys):
            self.same_color[context, style, color].append(index)
            self.same_place[context, style].append(index)

    def draw(self, rng: np.random.Generator, count: int) -> Indices:
        """Indices of `count` scenes; three quarters have one colour if there are as many."""
        context, style, color = self.keys[rng.integers(len(self.keys))]
        candidates = self.same_color[context, style, color]
        alike = rng.choice(candidates, min(len(candidates), count * 3 // 4), replace=False)
        others = rng.choice(self.same_place[context, style], count - len(alike))
        return np.concatenate([alike, others])
