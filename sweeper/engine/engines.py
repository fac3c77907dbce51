"""Which engines there are, and which was asked for."""

from collections.abc import Sequence

from sweeper.engine.base import Engine, Resources
from sweeper.engine.inline import InlineEngine
from sweeper.engine.local import LocalEngine
from sweeper.settings import Settings
from trainers.errors import SpecError

LAUNCHER = "hydra/launcher"
ENGINES: dict[str, type[Engine]] = {"local": LocalEngine, "inline": InlineEngine}


def make_engine(settings: Settings) -> Engine:
    """Raises SpecError for an engine that does not exist."""
    check_engine(settings.engine)
    absent = settings.plan_only and settings.device_memory is not None
    asked = Resources(settings.gpus_per_trial, settings.cpu_trials, settings.trials_per_gpu, absent)
    return ENGINES[settings.engine](asked)


def check_engine(name: str) -> None:
    """Raises SpecError for an engine that does not exist."""
    if name not in ENGINES:
        raise SpecError(f"{LAUNCHER}={name}: must be one of {', '.join(ENGINES)}.")


def check_launcher(arguments: Sequence[str]) -> None:
    """Raises SpecError where a typed argument asks for an engine that does not exist."""
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        if key == LAUNCHER:
            check_engine(value.strip("'\""))
