"""The four subjects of the post in this world: their exact attributes, instance images and held-out renders."""

import random
from pathlib import Path

from miniature.contexts import CONTEXTS
from miniature.world import Pose, Scene, render, sample_pose

FOLDER = Path(__file__).parent / "subjects"

IDENTITIES = {
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
"""Subject's folder -> its class ("noun") and every attribute of it."""

SUBJECTS = tuple(IDENTITIES)
INSTANCE_CONTEXTS = ("indoors", "meadow", "plain", "city", "snow")
NEW_CONTEXTS = tuple(name for name in CONTEXTS if name not in INSTANCE_CONTEXTS)
"""Contexts that no instance image shows: what a prompt may ask for to see whether the model still listens."""

INSTANCE_POSES = (
    Pose(0.50, 0.53, 0.38, 0.00),
    Pose(0.44, 0.52, 0.42, 0.10, flip=True),
    Pose(0.55, 0.50, 0.35, -0.08),
    Pose(0.47, 0.55, 0.40, -0.11),
    Pose(0.54, 0.54, 0.36, 0.07, flip=True),
)


def subject_scene(subject, context, pose, seed=0):
    """The scene of a subject (a key of IDENTITIES) at a place, in a pose."""
    attributes = {name: value for name, value in IDENTITIES[subject].items() if name != "noun"}
    return Scene(IDENTITIES[subject]["noun"], tuple(attributes.items()), context, "photo", pose, seed)


def instance_scenes(subject):
    """The five scenes that a subject is learnt from."""
    first = 10 * SUBJECTS.index(subject)
    places = zip(INSTANCE_CONTEXTS, INSTANCE_POSES, strict=True)
    return [subject_scene(subject, context, pose, first + index) for index, (context, pose) in enumerate(places)]


def held_out_scenes(subject, count, seed=1, contexts=NEW_CONTEXTS):
    """`count` scenes of a subject that training never shows, going round `contexts`, in random poses."""
    rng = random.Random(f"{subject} {seed}")
    chosen = [contexts[index % len(contexts)] for index in range(count)]
    return [subject_scene(subject, context, sample_pose(rng), rng.randrange(2**31)) for context in chosen]


def write_instances(folder=FOLDER):
    """Write every subject's instance images as `folder`/subject/NN.png, 64 x 64."""
    for subject in SUBJECTS:
        target = Path(folder) / subject
        target.mkdir(parents=True, exist_ok=True)
        for index, scene in enumerate(instance_scenes(subject)):
            render(scene).save(target / f"{index:02d}.png")


if __name__ == "__main__":
    write_instances()
