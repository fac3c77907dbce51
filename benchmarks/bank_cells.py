"""The bank's sweeps as arrays, images drawn from them, and what the judge says of their cells."""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.bank import Arrays, read_arrays
from evaluation.fidelity import harmonic

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """One sweep of the bank: C cells, P prompts, K images of each (see benchmarks.bank)."""

    name: str
    arrays: Arrays

    def __getitem__(self, name: str) -> Floats:
        return np.asarray(self.arrays[name], float)

    def until(self, step: int) -> "Cells":
        """The same sweep, had it ended at `step`."""
        early = self.arrays["steps"] <= step
        of_all = ("untuned_", "photographs_")
        return Cells(self.name, {n: v if n.startswith(of_all) else v[early] for n, v in self.arrays.items()})

    @property
    def subject(self) -> str:
        return self.name.split("-")[0]

    @property
    def recipe(self) -> str:
        return self.name.partition("-")[2]

    @property
    def shape(self) -> tuple[int, int]:
        """Prompts and images of each."""
        prompts, images = self.arrays["place"].shape[1:]
        return prompts, images


def read_bank(folder: Path) -> list[Cells]:
    return [Cells(file.stem, read_arrays(file)) for file in sorted(folder.glob("*.npz"))]


@dataclass(frozen=True)
class Drawn:
    """Some of the images: the same prompts and noises for all cells and for the untuned model."""

    prompts: Ints  # [p]
    images: Ints  # [p, k]

    def of(self, values: Floats) -> Floats:
        """[..., P, K] -> [..., p, k]"""
        taken: Floats = values[..., self.prompts[:, None], self.images]
        return taken

    def rest(self, images: int) -> "Drawn":
        """The other images of the same prompts."""
        others = [np.setdiff1d(np.arange(images), row) for row in self.images]
        return Drawn(self.prompts, np.array(others))


def everything(cells: Cells) -> Drawn:
    prompts, images = cells.shape
    return Drawn(np.arange(prompts), np.tile(np.arange(images), (prompts, 1)))


def draws(cells: Cells, count: int, repeats: int) -> list[Drawn]:
    """`count` images of each cell, over as many prompts as there are; all of them need drawing once only."""
    prompts, images = cells.shape
    if count >= prompts * images:
        return [everything(cells)]
    rng = np.random.default_rng([crc32(cells.name.encode()), count])
    asked = min(count, prompts)
    each = count // asked
    return [
        Drawn(
            np.sort(rng.permutation(prompts)[:asked]),
            np.array([np.sort(rng.permutation(images)[:each]) for _ in range(asked)]),
        )
        for _ in range(repeats)
    ]


# --- what the judge says --------------------------------------------------------------------------------------------


def true_subject(cells: Cells, drawn: Drawn) -> Floats:
    """The subject's attributes gained over the untuned model [C]: 0 as untuned, 1 all right."""
    before = drawn.of(cells["untuned_subject"]).mean()
    gained: Floats = (drawn.of(cells["subject"]).mean((1, 2)) - before) / (1 - before)
    return gained


def true_prompt(cells: Cells, drawn: Drawn) -> Floats:
    """The share of images [C] that show both the place and the style that were asked for."""
    share: Floats = drawn.of(cells["place"] * cells["style"]).mean((1, 2))
    return share


def truth(cells: Cells, drawn: Drawn) -> Floats:
    """How good each cell is [C]: the harmonic mean of the two, as in `benchmarks.sweetspot_validation` and as in the
    score itself, so that what differs is what was measured and not the formula."""
    good: Floats = harmonic(true_subject(cells, drawn), true_prompt(cells, drawn))
    return good


def truth_by_image(cells: Cells, drawn: Drawn) -> Floats:
    """Another truth, for comparison: an image counts with its share of the attributes where it obeys the prompt."""
    before = drawn.of(cells["untuned_subject"]).mean()
    gained = (drawn.of(cells["subject"]) - before) / (1 - before)
    good: Floats = (gained * drawn.of(cells["place"] * cells["style"])).mean((1, 2))
    return good
