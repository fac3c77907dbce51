"""A search from the typed line to the answer: plan, train what Optuna asks for, report."""

import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from sweeper import forecast
from sweeper.commands import program, python, without_passwords
from sweeper.disk import Disk, check_room
from sweeper.engine.engines import make_engine
from sweeper.fit import Fit
from sweeper.names import SEARCH, check_elsewhere, check_name, reserve_name, unquoted
from sweeper.plan.downloads import fetch_models, left_of
from sweeper.plan.grid import parse
from sweeper.plan.inversions import inversion_steps
from sweeper.plan.photographs import remarks_of
from sweeper.plan.precision import check_precisions, elsewhere
from sweeper.plan.types import Plan, Remaining
from sweeper.plan.warnings import warnings
from sweeper.report.crops import draw_crops
from sweeper.report.progress import download_rows, time_left, training_rows
from sweeper.results.types import Results
from sweeper.search.space import Space, free_axes, search_space
from sweeper.search.study import SearchSettings, Study, read_search_settings, trials_at_most
from sweeper.search.trials import Search, Trainings
from sweeper.settings import (
    Settings,
    check_early_stop,
    check_writable,
    one_line,
    settings_of,
)
from sweeper.store import Store, claim
from sweeper.sweep import Context, exit_code, run_sweep
from trainers.errors import SpecError
from trainers.spec import signature


def run_search(
    config: DictConfig, config_loader: ConfigLoader, arguments: Sequence[str], settings: Mapping[str, Any]
) -> None:
    """The search of what was typed after -m. Exits non-zero if a trial failed."""

    def composed(typed: list[str]) -> DictConfig:
        return config_loader.load_sweep_config(config, list(typed))

    def parsed(typed: Sequence[str]) -> list[Override]:
        return parse(typed, config_loader)

    with one_line():
        space = search_space(parsed(arguments), composed, parsed)
        search_settings = read_search_settings(settings, space)
        sweep_settings = settings_of(config, config.hydra.sweep.dir, config.hydra.runtime.choices)
        sys.exit(search(space, search_settings, sweep_settings))


def identity(space: Space, search_settings: SearchSettings, settings: Settings) -> str:
    """The hash of all that changes what is tried, so that the same command goes on with the same search."""
    cells = sorted(cell.signature for cell in space.dearest.cells)
    lasting = asdict(replace(search_settings, trials=0, storage=None))
    return signature(cells, list(map(str, space.axes)), lasting, settings.early_stop)


def search_name(space: Space, sampler: str, content: str) -> str:
    subject = unquoted(space.dearest.spec.subject.name)
    axes = [axis.key.split(".")[-1] for axis in space.axes]
    return "-".join([subject, *axes, sampler, content[:8]])


def search(space: Space, search_settings: SearchSettings, settings: Settings) -> int:
    """Runs what is missing and reports the whole. Returns the exit code: 1 if a trial failed."""
    start = time.monotonic()
    console = Console(highlight=False)
    store = Store(settings.output_dir / "store")
    store.check_format()
    content = identity(space, search_settings, settings)
    folder = settings.output_dir / (settings.name or search_name(space, search_settings.sampler, content))
    dearest = space.dearest
    check_early_stop(settings, (point.evaluation for point in dearest.points))
    if not settings.plan_only:
        check_writable(settings.output_dir)
    other = identity(
        replace(space, dearest=replace(dearest, cells=tuple(map(elsewhere, dearest.cells)))), search_settings, settings
    )
    there = settings.output_dir / (settings.name or search_name(space, search_settings.sampler, other))
    check_elsewhere(folder, there, SEARCH, [other], dearest.cells)
    check_name(folder, SEARCH, [content])
    fit = Fit.of(folder, settings)
    space = space.fit(fit.cells)
    if settings.plan_only:
        print_plan(console, space, search_settings, 0, store, settings)
        fit.say(console, space.dearest.spec, make_engine(settings).capacity().workers * settings.gpus_per_trial)
        return 0
    check_precisions((space.dearest,))
    fetch_models(Plan((space.dearest,)))
    if fit.undecided:
        fit = Fit.of(folder, settings)
        space = space.fit(fit.cells)
    with claim(folder / "search", wait=False) as alone:
        if not alone:
            raise SpecError(f"{folder.name}: another process is at this search; wait for it, or give name=ANOTHER.")
        study = Study(search_settings, space, space.dearest.steps, folder, content)
        reserve_name(folder, SEARCH, [content])
        fit.keep()
        needed, with_best = print_plan(console, space, search_settings, len(study.finished), store, settings)
        fit.say(console, space.dearest.spec, make_engine(settings).capacity().workers * settings.gpus_per_trial)
        check_room(needed, with_best, settings.keep, settings.output_dir, download=0)
        console.print(f"  {'folder':<17} {folder}", soft_wrap=True, markup=False)
        crops = draw_crops(folder / "photographs.png", space.dearest.spec)
        console.print(f"  {'photographs':<17} {crops}, as they are trained", soft_wrap=True, markup=False)
        trainings = Trainings(space, study, store)
        results = run_sweep(
            Context(store, folder, settings, console, start),
            trainings.planned,
            lambda sweep: Search(sweep, study, trainings).train(),
        )
        print_end(console, study, trainings, results)
        return exit_code(results)


def print_plan(
    console: Console, space: Space, chosen: SearchSettings, done: int, store: Store, settings: Settings
) -> tuple[Disk, Disk]:
    """What the search takes before it is spent, as if every trial cost as much as the most expensive one. Returns the
    disk that this takes, as asked and with keep=best."""
    trials = trials_at_most(chosen, space)
    training = space.dearest
    inversions = 1 if space.one_inversion else trials
    steps = trials * training.last_step + inversions * inversion_steps(training.spec)
    images = trials * sum(point.planned_images for point in training.points)
    remaining = [Remaining(training, training.points, 0)] * max(0, trials - done)
    capacity = make_engine(settings).capacity()
    seconds = forecast.seconds(remaining, store, capacity.devices, own_inversions=not space.one_inversion)
    needed, with_best = (forecast.disk_of(remaining, store, keep, capacity) for keep in (settings.keep, "best"))
    unsampled = [*map(str, space.free), *(key for key in free_axes() if key not in space.keys)]
    rows = [
        ("trials", f"{trials:,}, each a training" + (f"  ({done:,} already done)" if done else "")),
        ("training steps", f"{steps:,} at most"),
        *training_rows(Plan((training,))),
        ("images to sample", f"{images:,} at most, and the baselines"),
        ("never sampled", f"{' '.join(unsampled)}: each trial serves all of it"),
        (
            "sampler, pruner",
            f"{chosen.sampler}, {chosen.pruner}; objective {chosen.objective}",
        ),
        (
            "time left",
            time_left(seconds, f"at most, {forecast.basis(store, training.spec.model)}"),
        ),
        *([("disk", f"{needed}; calculated, at most")] if needed.written else []),
        *download_rows(left_of(Plan((training,)))),
        *[("note", note) for note in (*warnings(Plan((training,))), *remarks_of(Plan((training,))))],
    ]
    axes = " x ".join(map(str, space.axes))
    console.print(f"[bold]Search[/]  {training.spec.model.name}, {escape(axes)}", soft_wrap=True)
    for name, value in rows:
        console.print(f"  {name:<17} {value}", markup=False, soft_wrap=True)
    if not settings.plan_only:
        forecast.check_patience(seconds, training.spec.model, settings.force)
    return needed, with_best


def _dashboard(address: str) -> str:
    """What shows the study; the dashboard is no part of the project."""
    shows = f"{program('optuna-dashboard')} {shlex.quote(address)}"
    if Path(sys.executable).with_name("optuna-dashboard").exists():
        return shows
    return f"{python()} -m pip install optuna-dashboard && {shows}"


def print_end(console: Console, study: Study, trainings: Trainings, results: Results) -> None:
    """How the trials ended, what pruning saved, and where the study is."""
    states = Counter(trial.state.name for trial in study.finished)
    trained = sum(len(training.loss) for training in results.trainings)
    asked = sum(training.last_step for training in trainings.planned().plan.trainings)  # without textual inversion
    ended = [f"{count} {state}" for state, count in states.items()]
    if lost := len(study.trials) - len(study.finished):
        ended.append(f"{lost} to be tried again by the same command")
    rows = [
        ("trials", ", ".join(ended)),
        ("training steps", f"{trained:,} of {asked:,}"),
        ("study", without_passwords(_dashboard(study.address))),
    ]
    for name, value in rows:
        console.print(f"{name:<18} {value}", soft_wrap=True, markup=False, highlight=False)
