"""The bias of the score where the truth is rendered: what s, t and score say of images whose faults are known.

    python -m benchmarks.score_on_renders

No model makes these images, the renderer does: eight images of each of the quick evaluation's prompts for every kind
and every subject, measured and judged as the bank's are (benchmarks/bank.py). A kind is a cell. What the untuned model
would give are other objects of the class. It shows how the score answers to what is wrong, not how often it is wrong.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.bank import Arrays, Size, Yardstick, asked_for, measured
from benchmarks.bank_cells import Cells, everything, true_prompt, true_subject, truth
from benchmarks.bank_scores import held_out, today
from benchmarks.tables import Mean, table
from miniature.pretrain.data import render_all
from miniature.subjects import IDENTITIES, INSTANCE_POSES, SUBJECTS, instance_scenes, subject_scene
from miniature.world import Scene, sample_pose, sample_scene

Kind = Callable[[str, str, str, random.Random], Scene]  # subject, place, style -> a scene


def with_share(share: float) -> Kind:
    """The place and style asked for, a new pose, and this share of the subject's attributes; the others are those of
    another object of the class."""

    def scene(subject: str, place: str, style: str, rng: random.Random) -> Scene:
        whole = replace(subject_scene(subject, place, sample_pose(rng), rng.randrange(2**31)), style=style)
        other = sample_scene(rng, IDENTITIES[subject]["noun"], place, style)
        facts = {name: value for name, value in other.facts.items() if name == "hat" or value != "none"}
        facts.pop("hair_style", None)  # may be bald, and the subject's hair has a colour
        names = rng.sample(sorted(facts), round((1 - share) * len(facts)))
        return whole.with_facts(**{name: facts[name] for name in names}) if share else other

    return scene


def in_a_photographs_pose(subject: str, place: str, style: str, rng: random.Random) -> Scene:
    return replace(with_share(1)(subject, place, style, rng), pose=rng.choice(INSTANCE_POSES))


def in_a_photographs_place(subject: str, place: str, style: str, rng: random.Random) -> Scene:
    """A new pose, in the place and the style of a photograph."""
    return replace(rng.choice(instance_scenes(subject)), pose=sample_pose(rng))


def a_photograph(subject: str, place: str, style: str, rng: random.Random) -> Scene:
    return rng.choice(instance_scenes(subject))


def mixed(share: float, one: Kind, other: Kind) -> Kind:
    """This share of the images is of `one`."""
    return lambda *given: one(*given) if given[-1].random() < share else other(*given)


KINDS: dict[str, Kind] = {
    "other objects of the class": with_share(0),
    "a quarter of the attributes right": with_share(0.25),
    "half right": with_share(0.5),
    "three quarters right": with_share(0.75),
    "all right": with_share(1),
    "all right, in a photograph's pose": in_a_photographs_pose,
    "three quarters right, in a quarter a photograph": mixed(0.25, a_photograph, with_share(0.75)),
    "three quarters right, in a quarter all right": mixed(0.25, with_share(1), with_share(0.75)),
    "all right, in a quarter a photograph's place": mixed(0.25, in_a_photographs_place, with_share(1)),
    "all right, in half a photograph's place": mixed(0.5, in_a_photographs_place, with_share(1)),
    "all right, in a quarter a photograph": mixed(0.25, a_photograph, with_share(1)),
    "photographs": a_photograph,
}


def rendered(subject: str, kinds: dict[str, Kind], size: Size) -> Cells:
    """A cell for each kind."""
    yardstick = Yardstick.of(subject, size.evaluation)

    def of(kind: Kind, seed: str) -> Arrays:
        rng = random.Random(f"{subject} {seed}")
        prompts = size.evaluation.prompts
        scenes = [kind(subject, *asked_for(prompt), rng) for prompt in prompts for _ in range(size.images)]
        plain: NDArray[np.uint8] = render_all([kind(subject, "plain", "photo", rng) for _ in range(2)])
        pixels = render_all(scenes)
        return measured(pixels.reshape(len(prompts), size.images, *pixels.shape[1:]), plain, yardstick)

    cells = [of(kind, name) for name, kind in kinds.items()]
    arrays: Arrays = {name: np.stack([cell[name] for cell in cells]) for name in cells[0]}
    untuned = {f"untuned_{name}": value for name, value in of(with_share(0), "untuned").items()}
    return Cells(subject, arrays | untuned | yardstick.photograph_values())


def report(subjects: dict[str, Cells], kinds: Sequence[str] = tuple(KINDS)) -> str:
    """A row for each kind, means over subjects with their intervals."""
    columns = {
        "judge: subject": lambda c: true_subject(c, everything(c)),
        "s": lambda c: today(c).s.mean((1, 2)),
        "s held out": lambda c: held_out(c).s.mean((1, 2)),
        "judge: prompt": lambda c: true_prompt(c, everything(c)),
        "t": lambda c: today(c).t.mean((1, 2)),
        "truth": lambda c: truth(c, everything(c)),
        "score": lambda c: today(c).score,
        "score less truth": lambda c: today(c).score - truth(c, everything(c)),
    }
    values = {title: [of(cells) for cells in subjects.values()] for title, of in columns.items()}
    rows = [
        [name, *(Mean.of(float(value[i]) for value in of) for of in values.values())] for i, name in enumerate(kinds)
    ]
    return table(["images", *columns], rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--images", type=int, default=Size().images, help="of each prompt")
    options = parser.parse_args(arguments)
    size = Size(images=options.images)
    print(report({subject: rendered(subject, KINDS, size) for subject in options.subjects}))


if __name__ == "__main__":
    main()
