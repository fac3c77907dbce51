"""What the slices of an adaptive evaluation are made of; evaluation/allocation.py says who gets them.

    1          a quarter of the prompts, an image each; every cell has it
    2, 3       the next quarter, and the other half
    4, 5, ...  all prompts with other noise, twice as many images each time
    fresh      other prompts, half as many; the first one has images of the class prompt too

A cell's `EvalSpec` is that of its first slice; its `adaptive` tells the others. Imports nothing heavy.
"""

from dataclasses import dataclass, replace

from evaluation.spec import EvalSpec

FRESH_NOISE = 1000  # the first image of fresh noise, where there are no fresh prompts


@dataclass(frozen=True)
class Part:
    """The composition of a slice: prompts and images by their place among all."""

    first_prompt: int
    prompts: int
    first_image: int
    images: int  # of each prompt
    class_images: int = 0

    @property
    def cost(self) -> int:
        """Images of a cell, or of a baseline."""
        return self.prompts * self.images + self.class_images


@dataclass(frozen=True)
class Scheme:
    """What slices are made of, and what a cell takes where all are treated alike."""

    prompts: int
    fresh_prompts: int  # 0: none, the noise alone is fresh
    images_per_prompt: int = 1
    class_images: int = 4

    @property
    def per_cell(self) -> int:
        """Images."""
        return self.prompts * self.images_per_prompt + self.class_images

    @property
    def cuts(self) -> list[int]:
        """Where the slices that show every prompt once begin, and where the last of them ends."""
        return sorted({0, -(-self.prompts // 4), -(-self.prompts // 2), self.prompts})

    @property
    def whole(self) -> int:
        """Slices that show every prompt once."""
        return len(self.cuts) - 1

    def ranked(self, number: int) -> Part:
        """The slice `number`, from 0, of those that cells are ranked by."""
        if number < self.whole:
            first, end = self.cuts[number : number + 2]
            return Part(first, end - first, 0, 1)
        first = 2 ** (number - self.whole)
        return Part(0, self.prompts, first, first)

    def fresh(self, number: int) -> Part:
        """The fresh slice `number`, from 0."""
        prompts = self.fresh_prompts or self.prompts
        size = min(prompts, -(-self.prompts // 2))
        image, place = divmod(number, -(-prompts // size))
        first = place * size
        return Part(
            first_prompt=first + (self.prompts if self.fresh_prompts else 0),
            prompts=min(size, prompts - first),
            first_image=image + (0 if self.fresh_prompts else FRESH_NOISE),
            images=1,
            class_images=0 if number else self.class_images,
        )


def scheme_of(evaluation: EvalSpec) -> Scheme:
    """Raises ValueError of an evaluation that treats all cells alike."""
    adaptive = evaluation.adaptive
    if adaptive is None:
        raise ValueError(f"evaluation={evaluation.name} is not adaptive")
    return Scheme(len(adaptive.prompts), len(adaptive.fresh_prompts), adaptive.images_per_prompt, adaptive.class_images)


def slice_of(evaluation: EvalSpec, part: Part) -> EvalSpec:
    """The evaluation of one slice. It does not depend on what else is asked for, so sweeps share it."""
    adaptive = evaluation.adaptive
    if adaptive is None:
        raise ValueError(f"evaluation={evaluation.name} is not adaptive")
    prompts = (*adaptive.prompts, *adaptive.fresh_prompts)[part.first_prompt :][: part.prompts]
    return replace(
        evaluation,
        prompts=prompts,
        images_per_prompt=part.images,
        class_images=part.class_images,
        first_prompt=part.first_prompt,
        first_image=part.first_image,
        adaptive=None,
    )


def first_slice(evaluation: EvalSpec) -> EvalSpec:
    """What every cell is sampled by; knows the others."""
    return replace(slice_of(evaluation, scheme_of(evaluation).ranked(0)), adaptive=evaluation.adaptive)


def planned_images(evaluation: EvalSpec) -> int:
    """Images of a checkpoint; of an adaptive evaluation on the average, at most."""
    if evaluation.adaptive:
        return scheme_of(evaluation).per_cell
    return len(evaluation.prompts) * evaluation.images_per_prompt + evaluation.class_images
