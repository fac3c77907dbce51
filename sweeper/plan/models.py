"""Finds the folders that a cell names and checks what is in them. Imports no torch."""

import re
from functools import lru_cache
from pathlib import Path

from sweeper.plan.fingerprint import model_revision
from trainers.errors import SpecError
from trainers.images import caption, instance_images

PROJECT = Path(__file__).resolve().parents[2]


def find_path(path: str) -> Path:
    """The path from the working directory; if it does not exist there, from the project's folder."""
    given = Path(path).expanduser()
    return given if given.exists() or given.is_absolute() else PROJECT / given


@lru_cache(maxsize=64)  # cell after cell asks for the same photographs
def check_captions(images: str, identifier: str) -> None:
    """Raises SpecError for a caption without the identifier: the learned word would learn nothing from it."""
    word = re.compile(rf"(?<![\w<]){re.escape(identifier)}(?![\w>])", re.IGNORECASE)
    for path in instance_images(images):
        text = caption(path)
        if text and not word.search(text):
            raise SpecError(
                f"{path.with_suffix('.txt')}: no {identifier} in this caption, so nothing learns from it; write "
                f"subject.identifier={identifier} into it, or leave the captions out with trainer.captions=false."
            )


def model_at(name: str, repo: str, revision: str, holds: tuple[str, ...]) -> tuple[str, str]:
    """(where to load a model from, what it is). Raises SpecError for a folder without any of the files `holds`."""
    path = find_path(repo)
    if path.is_dir() and not any((path / file).is_file() for file in holds):  # asked before all of it is read
        raise SpecError(f"{name}={repo}: no model there (no {holds[0]}); give its folder, or owner/name on the hub.")
    return str(path) if path.exists() else repo, model_revision(repo, revision, path)
