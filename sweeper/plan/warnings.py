"""What a user must know of a plan before it begins, a sentence each: never a refusal."""

from pathlib import Path

from sweeper.plan.gpus import lacks_gpu
from sweeper.plan.models import PROJECT, find_path
from sweeper.plan.types import Plan
from trainers.spec import TrainSpec

# What the miniature was trained on, and all that it has words for (miniature/captions.py; a test holds them equal).
MINIATURE_NOUNS = ("cat toy", "pig head", "potato head", "face", "dog", "ball", "house", "tree", "car", "mug")
MINIATURE = PROJECT / "miniature"


def warnings(plan: Plan) -> list[str]:
    said = [_beyond_the_miniature(training.spec) for training in plan.trainings]
    said += [_without_gpu(training.spec) for training in plan.trainings]
    return list(dict.fromkeys(filter(None, said)))


def _without_gpu(spec: TrainSpec) -> str:
    if not lacks_gpu(spec.model):
        return ""
    name = spec.model.name
    return f"no GPU is visible here, and on a processor {name} takes hours to days; the miniature takes minutes."


def _beyond_the_miniature(spec: TrainSpec) -> str:
    """Why the miniature cannot learn this subject well; "" where it can, or another model trains."""
    if find_path(spec.model.repo).resolve() != MINIATURE / "weights" / "pipeline":
        return ""
    subject = spec.subject
    nouns = ", ".join(MINIATURE_NOUNS)
    real = not Path(subject.images).is_relative_to(MINIATURE / "subjects")
    unknown = subject.class_noun not in MINIATURE_NOUNS
    if not (real or unknown):
        return ""
    limits = f"the miniature draws {spec.model.resolution} pixels, and of the world it knows ten nouns: {nouns}."
    if unknown:
        limits += f" {subject.class_noun!r} means nothing to it, so neither do class images and prompts with that word."
    if real:
        limits += " Of photographs it learns colours and rough shapes at best: it was trained on drawn scenes alone."
    return f"{limits} It shows how a sweep works; for your own subject take model=sd15, on a machine with a GPU."
