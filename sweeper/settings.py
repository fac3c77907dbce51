"""How a sweep runs, and the one line that a user's mistake gets."""

import contextlib
import errno
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from evaluation.spec import ONSET_UNITS, EvalSpec
from sweeper.commands import without_passwords
from sweeper.plan.axes import check
from sweeper.store import NO_SPACE
from trainers.errors import SpecError
from trainers.files import is_full

# What an error is where somebody changed files of ours, or their permissions.
IN_THE_WAY = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP,
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How a sweep runs; nothing here changes a result."""

    output_dir: Path
    name: str | None
    plan_only: bool
    gpus_per_trial: int
    cpu_trials: int
    keep: str
    early_stop: str | None
    tracking_uri: str | None
    experiment: str
    engine: str  # a name of sweeper/engine/engines.py
    fit: str = "auto"  # auto | strict
    device_memory: str | None = None  # such as 24GB
    trials_per_gpu: int = 1
    force: bool = False  # also what takes days


def settings_of(config: DictConfig, folder: str, choices: Mapping[str, Any]) -> Settings:
    """`choices`: what Hydra chose of each group of configurations. Raises SpecError."""
    return Settings(
        output_dir=Path(folder).expanduser().absolute(),
        name=check("name", config.name),
        plan_only=check("plan_only", config.plan_only),
        gpus_per_trial=check("gpus_per_trial", config.gpus_per_trial),
        cpu_trials=check("cpu_trials", config.cpu_trials),
        fit=check("fit", config.fit),
        device_memory=check("device_memory", config.device_memory),
        trials_per_gpu=check("trials_per_gpu", config.trials_per_gpu),
        force=check("force", config.force),
        keep=str(check("keep", config.keep)),
        early_stop=check("early_stop", config.early_stop),
        tracking_uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        engine=str(choices["hydra/launcher"]),
    )


def check_early_stop(settings: Settings, evaluations: Iterable[EvalSpec]) -> None:
    """Raises SpecError where trainings are to end once they overfit, on fewer prompts than that is claimed from."""
    fewest = min(evaluations, key=lambda evaluation: evaluation.units)
    if settings.early_stop and fewest.units < ONSET_UNITS:
        raise SpecError(
            f"early_stop={settings.early_stop}: that overfitting has begun is said from {ONSET_UNITS} prompts on, and "
            f"evaluation={fewest.name} has {fewest.units}; take evaluation=paper, or evaluation.prompts of your own."
        )


@contextlib.contextmanager
def one_line(program: str = "sweep.py") -> Iterator[None]:
    """A user's mistake ends the program with its one line; stopping it leaves what was computed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except (SpecError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"{program}: {without_passwords(' '.join(str(error).split()))}")
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{program}: stopped; the same command goes on from here.\n")
        sys.exit(130)
    except Exception as error:
        if is_full(error):
            sys.exit(f"{program}: {NO_SPACE}")
        if isinstance(error, OSError) and error.errno in IN_THE_WAY:
            sys.exit(
                f"{program}: {error.filename2 or error.filename}: {error.strerror}; mend that, or give output_dir=."
            )
        raise


def check_writable(folder: Path) -> None:
    """Makes the output folder. Raises SpecError where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if is_full(error):
            raise
        why = "not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise SpecError(f"output_dir={folder}: cannot be written ({why}); give another.") from error
