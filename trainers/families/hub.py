"""What loading a pipeline has in common for all families."""

from pathlib import Path

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from trainers.families.defaults import DEFAULTS
from trainers.hub import Repository, cached, fetch
from trainers.spec import ModelSpec


def hub_revision(model: ModelSpec) -> str:
    """The revision to load from the hub; a local folder has none, and `main` is ignored there."""
    return model.revision.split("@", 1)[1] if "@" in model.revision and not Path(model.repo).is_dir() else "main"


def repository(model: ModelSpec) -> Repository | None:
    """Where the model is on the hub; None of a local folder."""
    if Path(model.repo).is_dir():
        return None
    return Repository(model.repo, hub_revision(model), DEFAULTS[model.family].reads)


def folder_of(model: ModelSpec) -> str:
    """The folder with the model's files; those that are on the hub only are downloaded. Raises SpecError."""
    hub = repository(model)
    return model.repo if hub is None else str(fetch(hub))


def configuration_of(model: ModelSpec) -> tuple[str, str]:
    """(folder or repository, revision) to read configuration files from, which downloads no weights."""
    hub = repository(model)
    folder = cached(hub) if hub else Path(model.repo)
    return (str(folder), "main") if folder else (model.repo, hub_revision(model))


def quiet() -> None:
    """Keeps the libraries' progress bars and remarks off the user's terminal."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
