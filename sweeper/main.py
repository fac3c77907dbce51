"""A sweep from the typed line to the answer: plan, launch, collect, export, report."""

import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from sweeper import forecast
from sweeper.disk import check_room
from sweeper.engine.engines import make_engine
from sweeper.fit import Fit
from sweeper.names import GRID, check_elsewhere, check_name, reserve_name, sweep_name
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.downloads import fetch_models, left_of
from sweeper.plan.grid import Grid, expand, parse, typed_cell
from sweeper.plan.precision import check_precisions, elsewhere
from sweeper.plan.warnings import warnings
from sweeper.report.progress import print_plan
from sweeper.settings import Settings, check_early_stop, check_writable, one_line, settings_of
from sweeper.store import Store


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


def run(grid: Grid, settings: Settings, fetched: bool = False) -> int:
    """Runs what is missing and reports the whole. Returns the exit code: 1 if a cell failed.

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
    print_plan(console, expected_cost, grid.axes, seconds, needed, models, plan, downloads, basis, warnings(plan))
    fit.say(console, plan.trainings[0].spec, capacity.workers * settings.gpus_per_trial)
    if settings.plan_only:
        return 0
    forecast.check_patience(seconds, model, settings.force)
    check_precisions(plan.trainings)
    check_room(needed, with_best, settings.keep, settings.output_dir, downloads.bytes)
    fetch_models(plan)
    if fit.undecided and not fetched:
        return run(typed, settings, fetched=True)
    reserve_name(folder, GRID, content)
    fit.keep()
    console.print(f"  {'folder':<17} {folder}", soft_wrap=True, markup=False)
    from sweeper.sweep import Context, Planned, exit_code, run_sweep, train_all

    planned = Planned(grid, plan, expected_cost)
    context = Context(store, folder, settings, console, start)
    return exit_code(run_sweep(context, lambda: planned, train_all))


def _check_elsewhere(grid: Grid, settings: Settings, folder: Path) -> None:
    """Raises SpecError where this sweep was planned on the other kind of device."""
    other = Grid(tuple(elsewhere(cell) for cell in grid.cells), grid.axes)
    if other != grid:
        content = [cell.signature for cell in other.cells]
        there = settings.output_dir / (settings.name or sweep_name(other))
        check_elsewhere(folder, there, GRID, content, grid.cells)
