"""What loading a pipeline has in common for all families."""

from pathlib import Path

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from trainers.spec import ModelSpec


def hub_revision(model: ModelSpec) -> str:
    """The revision to load from the hub; a local folder has none, and `main` is ignored there."""
    return model.revision.split("@", 1)[1] if "@" in model.revision and not Path(model.repo).is_dir() else "main"


def quiet() -> None:
    """Keeps the libraries' progress bars and remarks off the user's terminal."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
