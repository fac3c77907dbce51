"""A sweep from the typed line to the answer: plan, launch, collect, export, report."""

import contextlib
import gc
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from sweeper import forecast
from sweeper.names import GRID, check_kept, keep
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.config import Axis, RunSpec, checked
from sweeper.plan.grid import Grid, cell_spec, expand, parse
from sweeper.report.progress import print_plan
from sweeper.store import NO_SPACE, Store, is_full
from trainers.errors import SpecError
from trainers.spec import signature


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
    engine: str


def settings_of(config: DictConfig, folder: str, engine: str) -> Settings:
    count = Axis(int, "a whole number, 1 or more", lambda v: v >= 1)
    keep = config.keep if isinstance(config.keep, int) else str(config.keep)
    if not (keep in ("all", "best") or (isinstance(keep, int) and keep >= 1)):
        raise SpecError(f"keep={keep}: must be all, best, or a number of checkpoints, 1 or more.")
    if config.early_stop not in (None, "overfit"):
        raise SpecError(f"early_stop={config.early_stop}: must be overfit or null.")
    return Settings(
        output_dir=Path(folder).expanduser().absolute(),
        name=config.name,
        plan_only=checked("plan_only", config.plan_only, Axis(bool, "true or false")),
        gpus_per_trial=checked("gpus_per_trial", config.gpus_per_trial, count),
        cpu_trials=checked("cpu_trials", config.cpu_trials, count),
        keep=str(keep),
        early_stop=config.early_stop,
        tracking_uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        engine=engine,
    )


@contextlib.contextmanager
def one_line():
    """A user's mistake ends the program with its one line; stopping it leaves what was computed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except (SpecError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"sweep.py: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.stderr.write("\nsweep.py: stopped; the same command goes on from here.\n")
        sys.exit(130)
    except Exception as error:
        if not is_full(error):
            raise
        sys.exit(f"sweep.py: {NO_SPACE}")


def run_grid(config: DictConfig, config_loader: Any, arguments: Sequence[str], launcher: Any) -> None:
    """The grid of what was typed after -m. Exits non-zero if a cell failed."""
    gc.disable()  # until the plan is made: thousands of cells are a million objects, all of them needed
    with one_line():
        settings = settings_of(config, config.hydra.sweep.dir, getattr(launcher, "engine", "local"))
        grid = expand(
            parse(arguments, config_loader), lambda typed: config_loader.load_sweep_config(config, list(typed))
        )
        sys.exit(run(grid, settings))


def run_one(config: DictConfig) -> None:
    """The one cell of the config."""
    with one_line():
        hydra = HydraConfig.get()
        settings = settings_of(config, hydra.run.dir, "local")
        typed = [argument.split("=", 1)[0].lstrip("+") for argument in hydra.overrides.task]
        cell = cell_spec(OmegaConf.to_container(config, resolve=True), typed)
        sys.exit(run(Grid((cell,), {}), settings))


def sweep_name(grid: Grid) -> str:
    """Made from the subject, the axes and the content, so that the same command finds its folder again."""
    first = dict(grid.cells[0].params)
    content = signature(*sorted(map(cell_signature, grid.cells)))
    return "-".join([unquoted(str(first["subject"])), *(axis.split(".")[-1] for axis in grid.axes), content[:8]])


def unquoted(text: str) -> str:
    """Without quotation marks: MLflow finds no sweep with both kinds in its name (see sweeper/tracking/view.py)."""
    return text.replace("'", "").replace('"', "")


def cell_signature(cell: RunSpec) -> str:
    average = () if cell.use_ema else ("no average",)
    return signature(cell.train, cell.step, cell.sample, cell.evaluation, cell.eval_every, *average)


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


def run(grid: Grid, settings: Settings) -> int:
    """Runs what is missing and reports the whole. Returns the exit code: 1 if a cell failed."""
    start = time.monotonic()
    console = Console(highlight=False)
    folder, content = settings.output_dir / (settings.name or sweep_name(grid)), list(map(cell_signature, grid.cells))
    if not settings.plan_only:
        check_writable(settings.output_dir)
    check_kept(folder, GRID, content)
    plan, store = compile_plan(grid.cells), Store(settings.output_dir / "store")
    left = [store.left(training) for training in plan.trainings]
    bill = cost(left, store)
    gc.enable()
    models = " ".join(dict.fromkeys(t.spec.model.name for t in plan.trainings))
    seconds, disk = forecast.time_and_disk(left, store, settings)
    print_plan(console, bill, grid.axes, seconds, disk, models)
    if settings.plan_only:
        return 0
    forecast.check_models(plan)
    keep(folder, GRID, content)
    console.print(f"  {'folder':<17} {folder}\n", soft_wrap=True, markup=False)
    from sweeper.sweep import Sweep

    return Sweep(grid, plan, bill, store, folder, settings, console, start).run()
