"""What determines samples and their scores, as values. Imports nothing heavy."""

from dataclasses import dataclass

from trainers.spec import label


@dataclass(frozen=True)
class EvalSpec:
    """The held-out prompts, the noise and the backbones.

    A prompt is a template with one `{}`: the subject's words for a checkpoint ("sks cat toy"), the class's words
    for the untuned model and for CLIP-T ("a cat toy").
    """

    prompts: tuple[str, ...]
    images_per_prompt: int = 2
    class_images: int = 4  # of the plain class prompt, for PRES and DIV
    seed: int = 0
    clip: str = ""  # identity of the CLIP backbone: content hash, or repo@revision
    dino: str = ""
    clip_repo: str = label(default="")  # where to load it from
    dino_repo: str = label(default="")
    clip_name: str = label(default="")  # shown beside the numbers
    dino_name: str = label(default="")
    name: str = label(default="quick")


def subject_words(identifier: str, class_noun: str) -> str:
    return f"{identifier} {class_noun}".strip()


def class_words(class_noun: str) -> str:
    """The class with its article: "a dog", "an owl"."""
    return f"{'an' if class_noun[:1].lower() in 'aeiou' else 'a'} {class_noun}"
