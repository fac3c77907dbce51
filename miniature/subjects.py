"""The four subjects of the post as objects of this world: their attributes, instance images and held-out scenes.

`python -m miniature.subjects` draws the instance images again.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from miniature.contexts import CONTEXTS
from miniature.world import Pose, Scene, render, sample_pose

FOLDER = Path(__file__).parent / "subjects"

IDENTITIES: dict[str, dict[str, str]] = {
    "cat_toy": {
        "noun": "cat toy",
        "color": "green",
        "shade": "pale",
        "ears": "purple",
        "ear_shape": "round",
        "stripes": "orange",
        "eyes": "yellow",
        "eye_size": "large",
        "nose": "red",
        "belly": "pale",
        "hat": "none",
    },
    "pig_head": {
        "noun": "pig head",
        "color": "yellow",
        "shade": "plain",
        "snout": "blue",
        "ear_shape": "up",
        "spots": "red",
        "eyes": "green",
        "eye_size": "large",
        "mouth": "smile",
        "hat": "none",
    },
    "potato_head": {
        "noun": "potato head",
        "color": "brown",
        "shade": "pale",
        "ears": "pink",
        "nose": "green",
        "nose_shape": "cone",
        "eye_size": "large",
        "lips": "red",
        "moustache": "black",
        "shoes": "blue",
        "hat": "purple",
    },
    "face": {
        "noun": "face",
        "skin": "tan",
        "hair": "pink",
        "hair_style": "spiky",
        "eyes": "green",
        "eye_size": "large",
        "brow": "thick",
        "nose": "big",
        "mouth": "open",
        "cheeks": "rosy",
        "beard": "none",
        "glasses": "red",
        "width": "wide",
        "shirt": "yellow",
        "hat": "none",
    },
}
"""Name of a subject and of its folder -> its class (under "noun") and all of its attributes."""

SUBJECTS = tuple(IDENTITIES)
INSTANCE_CONTEXTS = ("indoors", "meadow", "plain", "city", "snow")
NEW_CONTEXTS = tuple(name for name in CONTEXTS if name not in INSTANCE_CONTEXTS)
"""Contexts that no instance image shows. Prompts with them test whether a fine-tuned model still follows the prompt."""

INSTANCE_POSES = (
    Pose(0.50, 0.53, 0.38, 0.00),
    Pose(0.44, 0.52, 0.42, 0.10, flip=True),
    Pose(0.55, 0.50, 0.35, -0.08),
    Pose(0.47, 0.55, 0.40, -0.11),
    Pose(0.54, 0.54, 0.36, 0.07, flip=True),
)


def subject_scene(subject: str, context: str, pose: Pose, seed: int = 0) -> Scene:
    """A photo of a subject (a key of IDENTITIES) in a context and a pose."""
    attributes = {name: value for name, value in IDENTITIES[subject].items() if name != "noun"}
    return Scene(IDENTITIES[subject]["noun"], tuple(attributes.items()), context, "photo", pose, seed)


def instance_scenes(subject: str) -> list[Scene]:
    """The scenes of a subject's five instance images."""
    first_seed = 10 * SUBJECTS.index(subject)
    places = zip(INSTANCE_CONTEXTS, INSTANCE_POSES, strict=True)
    return [subject_scene(subject, context, pose, first_seed + index) for index, (context, pose) in enumerate(places)]


def held_out_scenes(subject: str, count: int, seed: int = 1, contexts: Sequence[str] = NEW_CONTEXTS) -> list[Scene]:
    """`count` scenes of a subject that are no instance images: each of `contexts` in turn, in random poses."""
    rng = random.Random(f"{subject} {seed}")
    chosen = [contexts[index % len(contexts)] for index in range(count)]
    return [subject_scene(subject, context, sample_pose(rng), rng.randrange(2**31)) for context in chosen]


def write_instances(folder: Path = FOLDER) -> None:
    """Write every subject's instance images as `folder`/subject/NN.png, 64 x 64."""
    for subject in SUBJECTS:
        target = folder / subject
        target.mkdir(parents=True, exist_ok=True)
        for index, scene in enumerate(instance_scenes(subject)):
            render(scene).save(target / f"{index:02d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m miniature.subjects", description="Draw the instance images again.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="a folder for each subject goes into it")
    write_instances(parser.parse_args().folder)


if __name__ == "__main__":
    main()
