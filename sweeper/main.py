"""A sweep from the typed line to the answer: plan, launch, collect, export, report."""

import gc
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from evaluation.spec import show
from sweeper import forecast
from sweeper.disk import check_room
from sweeper.engine.engines import make_engine
from sweeper.fit import Fit
from sweeper.names import GRID, check_elsewhere, check_name, reserve_name, sweep_name
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.downloads import fetch_models, left_of
from sweeper.plan.grid import CONF, Grid, check_arguments, expand, parse, typed_cell
from sweeper.plan.photographs import remarks_of
from sweeper.plan.precision import check_precisions, elsewhere
from sweeper.plan.warnings import warnings
from sweeper.report.crops import draw_crops
from sweeper.report.progress import print_plan
from sweeper.settings import Settings, check_early_stop, check_writable, one_line, settings_of
from sweeper.store import Store

if TYPE_CHECKING:
    from sweeper.results.types import Results


def run_grid(config: DictConfig, config_loader: ConfigLoader, arguments: Sequence[str]) -> None:
    """The grid of what was typed after -m. Exits non-zero if a cell failed."""
    gc.disable()  # until the plan is made: thousands of cells are a million objects, all of them needed
    with one_line():
        settings = settings_of(config, config.hydra.sweep.dir, config.hydra.runtime.choices)
        grid = expand(
            parse(arguments, config_loader), lambda typed: config_loader.load_sweep_config(config, list(typed))
        )
        sys.exit(run(grid, settings))


def run_one(config: DictConfig) -> None:
    """The one cell of the config."""
    with one_line():
        hydra = HydraConfig.get()
        settings = settings_of(config, hydra.run.dir, hydra.runtime.choices)
        typed = [argument.split("=", 1)[0].lstrip("+") for argument in hydra.overrides.task]
        cell = typed_cell(cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)), typed)
        sys.exit(run(Grid((cell,), {}), settings))


def run_python(*arguments: str, **settings: Any) -> "Results | None":
    """Runs a grid as the command does, and returns its results; None with plan_only=true.

    `run(lr=[1e-6, 2e-6], steps=400)` is the command with `-m lr=1e-6,2e-6 steps=400`. A list is several values, a list
    in a list is one value. Names with a dot, and Hydra's own grammar, go as `arguments`: "subject.images=photographs".

    Raises:
        SpecError: for what the command refuses.
    """
    given = [*arguments, *(f"{name}={written(value)}" for name, value in settings.items())]
    check_arguments(given, multirun=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("sweep", given_once(given), return_hydra_config=True)
        asked = settings_of(config, config.output_dir, config.hydra.runtime.choices)
        grid = expand(parse(given, None), lambda typed: compose("sweep", list(typed)))
    return results_of(grid, asked)


def written(value: Any) -> str:
    """A value of Python in Hydra's grammar; a list is several values."""
    if isinstance(value, (list, tuple)):
        return ",".join(_one(each) for each in value)
    return _one(value)


def _one(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_one, value))}]"
    if isinstance(value, (str, Path)):
        quoted = str(value).replace("\\", "\\\\").replace("'", "\\'")
        return str(value) if re.fullmatch(r"[\w./@-]+", str(value)) else f"'{quoted}'"
    return show(value)


def given_once(arguments: Sequence[str]) -> list[str]:
    """Those that have one value: how the sweep runs is among them."""
    return [o.input_line for o in parse(arguments, None) if o.input_line and not o.is_sweep_override()]


def run(grid: Grid, settings: Settings, fetched: bool = False) -> int:
    """Runs what is missing and reports the whole. Returns the exit code: 1 if a cell failed."""
    results = results_of(grid, settings, fetched)
    if results is None:
        return 0
    from sweeper.sweep import exit_code

    return exit_code(results)


def results_of(grid: Grid, settings: Settings, fetched: bool = False) -> "Results | None":
    """Runs what is missing and reports the whole. None where only the plan was asked for.

    fetched: the models are here; before, what trainings take on to fit the card may not be known.
    """
    start = time.monotonic()
    console = Console(highlight=False)
    folder = settings.output_dir / (settings.name or sweep_name(grid))
    content = [cell.signature for cell in grid.cells]
    check_early_stop(settings, (cell.evaluation for cell in grid.cells))
    if not settings.plan_only:
        check_writable(settings.output_dir)
    _check_elsewhere(grid, settings, folder)
    check_name(folder, GRID, content)
    fit = Fit.of(folder, settings)
    typed = grid
    grid = fit.grid(grid)
    plan = compile_plan(grid.cells)
    store = Store(settings.output_dir / "store")
    store.check_format()
    left = [store.left(training) for training in plan.trainings]
    expected_cost = cost(left, store)
    gc.enable()
    models = " ".join(dict.fromkeys(t.spec.model.name for t in plan.trainings))
    capacity = make_engine(settings).capacity()
    downloads = left_of(plan)
    seconds = forecast.seconds(left, store, capacity.devices)
    needed, with_best = (forecast.disk_of(left, store, keep, capacity) for keep in (settings.keep, "best"))
    model = plan.trainings[0].spec.model
    basis = forecast.basis(store, model)
    notes = [*warnings(plan), *remarks_of(plan)]
    print_plan(console, expected_cost, grid.axes, seconds, needed, models, plan, downloads, basis, notes)
    fit.say(console, plan.trainings[0].spec, capacity.workers * settings.gpus_per_trial)
    if settings.plan_only:
        return None
    forecast.check_patience(seconds, model, settings.force)
    check_precisions(plan.trainings)
    check_room(needed, with_best, settings.keep, settings.output_dir, downloads.bytes)
    fetch_models(plan)
    if fit.undecided and not fetched:
        return results_of(typed, settings, fetched=True)
    reserve_name(folder, GRID, content)
    fit.keep()
    console.print(f"  {'folder':<17} {folder}", soft_wrap=True, markup=False)
    crops = draw_crops(folder / "photographs.png", plan.trainings[0].spec)
    console.print(f"  {'photographs':<17} {crops}, as they are trained", soft_wrap=True, markup=False)
    from sweeper.sweep import Context, Planned, run_sweep, train_all

    planned = Planned(grid, plan, expected_cost)
    context = Context(store, folder, settings, console, start)
    return run_sweep(context, lambda: planned, train_all)


def _check_elsewhere(grid: Grid, settings: Settings, folder: Path) -> None:
    """Raises SpecError where this sweep was planned on the other kind of device."""
    other = Grid(tuple(elsewhere(cell) for cell in grid.cells), grid.axes)
    if other != grid:
        content = [cell.signature for cell in other.cells]
        there = settings.output_dir / (settings.name or sweep_name(other))
        check_elsewhere(folder, there, GRID, content, grid.cells)
