"""What a plan needs of the hub, what of that is to be downloaded, and downloading it."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from evaluation.backbones import CLIP, DINO, DOWNLOADS
from sweeper.plan.types import Plan
from trainers.errors import SpecError
from trainers.families.defaults import DEFAULTS
from trainers.hub import Reads, Repository, Unreachable, cached, fetch, gigabytes, listed
from trainers.spec import ModelSpec

PATIENCE = 1.5  # seconds that a plan waits for the hub


@dataclass(frozen=True)
class Download:
    """A repository that is not whole in the local cache."""

    name: str
    bytes: int
    asked: bool = True  # the hub was; else the bytes are those of the usual model
    problem: str = ""  # why it cannot be had


@dataclass(frozen=True)
class Downloads:
    parts: tuple[Download, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def problems(self) -> list[str]:
        return [part.problem for part in self.parts if part.problem]

    def __str__(self) -> str:
        names = ", ".join(f"{part.name} {gigabytes(part.bytes)}" for part in self.parts)
        guessed = "" if all(part.asked for part in self.parts) else "; the hub did not say, usual models take so much"
        return f"{'about ' if guessed else ''}{gigabytes(self.bytes)} from the hub ({names}{guessed})"


def repositories(plan: Plan) -> dict[Repository, int]:
    """All that a plan reads of the hub, with the bytes that a usual model takes."""
    found: dict[tuple[str, str, Reads], int] = {}
    for training in plan.trainings:
        model = training.spec.model
        defaults = DEFAULTS[model.family]
        found[model.repo, model.revision, defaults.reads] = defaults.download
        for cell in training.cells:
            evaluation = cell.evaluation
            found[evaluation.clip_repo, evaluation.clip, CLIP] = DOWNLOADS[CLIP]
            found[evaluation.dino_repo, evaluation.dino, DINO] = DOWNLOADS[DINO]
    return {
        Repository(repo, identity.partition("@")[2] or "main", reads): size
        for (repo, identity, reads), size in found.items()
        if not Path(repo).is_dir()
    }


def is_here(model: ModelSpec) -> bool:
    """Whether nothing of the model is to be downloaded. Asks nobody."""
    if Path(model.repo).is_dir():
        return True
    revision = model.revision.partition("@")[2] or "main"
    return cached(Repository(model.repo, revision, DEFAULTS[model.family].reads)) is not None


def left_of(plan: Plan) -> Downloads:
    """What is to be downloaded. Downloads nothing; the hub has `PATIENCE` to say the sizes."""
    usual = {repository: size for repository, size in repositories(plan).items() if cached(repository) is None}
    said: dict[Repository, Download] = {}

    def ask(repository: Repository) -> None:
        try:
            said[repository] = Download(repository.name, listed(repository, PATIENCE).left)
        except Unreachable:
            pass
        except SpecError as error:
            said[repository] = Download(repository.name, usual[repository], asked=False, problem=str(error))

    # Not a pool: looking up a name cannot be interrupted, and nobody waits for these at the end.
    threads = [threading.Thread(target=ask, args=(repository,), daemon=True) for repository in usual]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    answers = dict(said)
    return Downloads(
        tuple(
            answers.get(repository, Download(repository.name, size, asked=False)) for repository, size in usual.items()
        )
    )


def fetch_models(plan: Plan) -> None:
    """Downloads what is not in the local cache. Raises SpecError where something cannot be had."""
    for repository in repositories(plan):
        fetch(repository)
