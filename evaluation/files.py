"""The layout of an evaluation's folder. Imports nothing heavy.

00-00.png, 00-01.png, ...   {prompt:02d}-{image:02d}.png
class/                      images of the plain class prompt, named alike
request.json                what the images were made with; manifest.json says that all of them are there
scores.json                 the scorecard, written last
values.json                 in the folder of the untuned model: what checkpoints are compared with
"""

from pathlib import Path

from evaluation.spec import EvalSpec
from trainers.files import is_complete

SCORES = "scores.json"
BASELINES = "values.json"


def image_path(folder: Path, prompt: int, image: int) -> Path:
    return folder / f"{prompt:02d}-{image:02d}.png"


def class_folder(folder: Path) -> Path:
    return folder / "class"


def sample_sets(folder: Path, evaluation: EvalSpec) -> tuple[tuple[Path, int, int], ...]:
    """(folder, prompts, images of each) of the held-out prompts and of the class prompt."""
    prompts = (folder, len(evaluation.prompts), evaluation.images_per_prompt)
    of_class = (class_folder(folder), 1, evaluation.class_images)
    return (prompts, of_class) if evaluation.class_images else (prompts,)


def has_samples(folder: Path, evaluation: EvalSpec) -> bool:
    """Whether every image of the evaluation is there."""
    return all(
        is_complete(place) and all(image_path(place, p, k).exists() for p in range(prompts) for k in range(images))
        for place, prompts, images in sample_sets(folder, evaluation)
    )
