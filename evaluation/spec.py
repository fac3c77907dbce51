"""What determines samples and their scores, as values. Imports nothing heavy."""

import re
from dataclasses import dataclass, replace
from typing import Any

from trainers.spec import added, not_identity

ONSET_UNITS = 16  # from which on an onset of overfitting is claimed


@dataclass(frozen=True)
class Adaptive:
    """An evaluation that spends images where they matter: see evaluation/scheme.py."""

    prompts: tuple[str, ...]  # to choose by
    fresh_prompts: tuple[str, ...]  # on which nothing is chosen; none: the same with other noise
    images_per_prompt: int  # on the average, at most, as if all checkpoints had as many
    class_images: int


@dataclass(frozen=True)
class EvalSpec:
    """The held-out prompts, the noise and the backbones.

    A prompt is a template: `fill` puts the subject's words into it for a checkpoint ("sks cat toy"), the class's words
    for the untuned model and for CLIP-T ("a cat toy").

    More images of a checkpoint are a slice, an evaluation of its own (see `next_slice` and evaluation/slices.py). The
    noise of an image depends on the seed and on its place among the prompts and images of all slices.
    """

    prompts: tuple[str, ...]
    images_per_prompt: int = 2
    class_images: int = 4  # of the plain class prompt, for PRES and DIV
    seed: int = 0
    clip: str = ""  # identity of the CLIP backbone: content hash, or repo@revision
    dino: str = ""
    clip_repo: str = not_identity(default="")  # where to load it from
    dino_repo: str = not_identity(default="")
    clip_name: str = not_identity(default="")  # shown beside the numbers
    dino_name: str = not_identity(default="")
    name: str = not_identity(default="quick")
    first_prompt: int = added(default=0)  # place of the first prompt among those of all slices
    first_image: int = added(default=0)  # of each prompt
    first_class_image: int = added(default=0)
    adaptive: Adaptive | None = not_identity(default=None)  # of a first slice: what may follow

    @property
    def units(self) -> int:
        """How many there are to resample: prompts, or the images where there is one prompt."""
        return len(self.prompts) if len(self.prompts) > 1 else self.images_per_prompt

    def next_slice(self, images_per_prompt: int, class_images: int = 0) -> "EvalSpec":
        """More images of the same prompts, with the noise that follows."""
        return replace(
            self,
            images_per_prompt=images_per_prompt,
            class_images=class_images,
            first_image=self.first_image + self.images_per_prompt,
            first_class_image=self.first_class_image + self.class_images,
        )


def show(value: Any) -> str:
    """A parameter's value as one types it: `true`, `2e-6`, `null`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        text = f"{value:.6g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.5e}"
        mantissa, e, exponent = text.partition("e")
        return f"{float(mantissa):g}e{int(exponent)}" if e else mantissa
    return str(value)


# A determiner whose noun phrase runs up to the end: "a red ", but not "a photo of ".
OWN_ARTICLE = re.compile(r"\b(an?|the)( (?!(of|in|on|at|by|with|and|from|for|to)\b)[\w-]+)* $", re.IGNORECASE)


def fill(prompt: str, words: str) -> str:
    """`words` in place of `{}`, without their article where the prompt brings its own: "a red {}", "a photo of {}"."""
    before, placeholder, after = prompt.partition("{}")
    if placeholder and OWN_ARTICLE.search(before):
        words = re.sub(r"^an? ", "", words)
        if before.endswith("a ") and words[:1].lower() in "aeiou":
            before = before[:-1] + "n "
    return before + (words if placeholder else "") + after
