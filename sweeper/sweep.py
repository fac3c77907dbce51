"""A sweep while it runs: it trains, watches, collects, exports the sweet spot, reports and tracks.

A sweep does not decide which trainings run. A grid adds all of them at once (`train_all`); a search (sweeper/search)
has a sweep and adds one after another. Its plan may therefore grow: `planned` is asked again for each collection.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sweeper import commands, forecast
from sweeper.engine.base import Workplace
from sweeper.engine.crew import Crew
from sweeper.engine.engines import make_engine
from sweeper.engine.jobs import COMPLETE, Export, Job, Kind, Outcome, Task
from sweeper.engine.queue import new_folder
from sweeper.engine.rungs import scored_steps
from sweeper.engine.shared import SharedWork
from sweeper.plan.axes import axis_of, describe
from sweeper.plan.grid import Grid
from sweeper.plan.precision import kept_precision
from sweeper.plan.types import Cost, Plan, Training, has_rounds
from sweeper.report import terminal, write
from sweeper.report.progress import ProgressDisplay
from sweeper.report.time_left import TimeLeft
from sweeper.results.collect import collect
from sweeper.results.exports import target
from sweeper.results.retention import delete_checkpoints, delete_states, stopped, winners
from sweeper.results.times import Earlier, own_times, with_times
from sweeper.results.types import FAIL, Results
from sweeper.results.uses import write_uses
from sweeper.rounds import run_rounds
from sweeper.store import Store
from sweeper.tracking.mlflow import Tracker
from trainers.errors import SpecError
from trainers.files import is_complete

if TYPE_CHECKING:
    from sweeper.settings import Settings

LOOK_EVERY = 5.0  # seconds at least between two looks at what running trainings have scored


@dataclass(frozen=True)
class Context:
    """Where and how a sweep runs."""

    store: Store
    folder: Path  # of the sweep's own results
    settings: "Settings"
    console: Console
    start: float  # time.monotonic() of the typed line


@dataclass(frozen=True)
class Planned:
    """What a sweep consists of, as far as it is known."""

    grid: Grid
    plan: Plan
    cost: Cost
    earlier: Mapping[str, Job] = field(default_factory=dict)  # jobs of former runs that count, by training signature
    trials: Mapping[str, str] = field(default_factory=dict)  # of a search, see Results.trials


@dataclass(frozen=True)
class Seen:
    """How far the sweep was when its results were last collected."""

    finished: int = 0  # trainings
    scored: int = 0  # checkpoints of the running trainings


@dataclass
class Sweep:
    """The trainings of one run, from the first to the report. Made by `run_sweep`, driven by its `train`."""

    context: Context
    planned: Callable[[], Planned]
    crew: Crew
    shared: SharedWork
    tracker: Tracker
    time_left: TimeLeft
    begun: dict[str, Job] = field(default_factory=dict)  # jobs of this run, by signature of their training
    titles: dict[Path, str] = field(default_factory=dict)  # what the progress display calls each job, by its path
    seen: Seen = Seen()
    live: write.LivePage = field(default_factory=write.LivePage)
    export_seconds: float = 0.0
    later: list[Job] = field(default_factory=list)  # jobs of the rounds, see sweeper/rounds.py
    earlier: Earlier = Earlier()
    next_look: float = 0.0  # time.monotonic() before which checkpoints on the way are not published

    @property
    def capacity(self) -> int:
        """Trainings at once."""
        return self.crew.capacity.workers

    def add(self, training: Training, title: str, guided: bool = False) -> Job:
        """Starts a training as soon as a worker is free. guided: it waits for a decision after each checkpoint."""
        settings = self.context.settings
        needed = self.shared.needs(training)
        task = Task(
            Kind.TRAIN if self.context.store.unscored(training) else Kind.SCORE,
            training,
            needs=tuple(job.id for job in needed),
            devices=settings.gpus_per_trial,
            early_stop=settings.early_stop,
            guided=guided,
        )
        job = self.crew.add(task)
        store = self.context.store
        self.time_left.rate = forecast.rate_of(store, training.spec.model, self.crew.capacity.sharing)
        self.time_left.expect(job, store.left(training))
        self.titles |= {each.path: each.title for each in needed} | {job.path: title}
        self.begun[training.spec.signature] = job
        return job

    def wait(self, go_on: Callable[[], bool], expected: int) -> None:
        """Shows the progress and tracks what ends, until no job runs and `go_on` says that no other follows.

        go_on: called many times a second; may add trainings. expected: how many trainings there will be.
        """
        more = True
        with ProgressDisplay(self.context.console, self.titles, expected, self.time_left) as display:

            def watch(current: Sequence[Job]) -> None:
                nonlocal more
                display(current)
                self._track()
                more = go_on()

            while more:
                self.crew.wait(watch)

    def sample_rounds(self) -> None:
        """After the trainings: more images where they matter, with an adaptive evaluation."""
        context = self.context
        devices = context.settings.gpus_per_trial
        plan = self.planned().plan
        self.later += run_rounds(self.crew, plan, context.store, context.folder, context.console, devices)

    def finish(self) -> tuple[Results, dict[str, Path]]:
        """Exports the sweet spot, writes and tracks everything. Returns the results and the files, by name."""
        planned = self.planned()
        results = replace(self._with_weights(self._collect(planned), planned), running=False)
        delete_states(results, planned.plan, self.context.store)
        results = self._export(results, planned.plan)
        self.crew.close()
        results = self._delete_checkpoints(results, planned.plan, final=True)
        results = with_times(results, self._timings(), self.earlier, worked=bool(self.crew.jobs))
        results, paths = write.write(results)
        self.tracker.publish(results)
        return results, paths

    def remember_rates(self) -> None:
        """Keeps the speed measured here for the forecast of the next plan."""
        sharing = min(self.crew.capacity.sharing, len(self.begun))
        for training in self.planned().plan.trainings:
            job = self.begun.get(training.spec.signature)
            outcome = job.outcome if job else None
            if outcome and outcome.rates:
                forecast.remember(self.context.store, training.spec.model, sharing, **outcome.rates)

    def _track(self) -> None:
        """Sends checkpoints that were scored and trainings that have ended to the tracker, and deletes checkpoints that
        can no longer win."""
        finished = sum(1 for job in self.begun.values() if job.outcome)
        hurries = self._deletes or finished > self.seen.finished
        if not hurries and time.monotonic() < self.next_look:
            return
        scored = self._scored_while_running()
        if Seen(finished, scored) == self.seen:
            return
        start = time.monotonic()
        planned = self.planned()
        results = self._collect(planned)
        self.tracker.publish(results)
        if finished > self.seen.finished:
            self.live.refresh(results)
        self.next_look = time.monotonic() + max(LOOK_EVERY, 10 * (time.monotonic() - start))
        self.seen = Seen(finished, scored)
        if not has_rounds(planned.plan):  # which may sample any checkpoint again
            self._delete_checkpoints(results, planned.plan, final=False)

    def _scored_while_running(self) -> int:
        running = [job for job in self.begun.values() if job.status and not job.outcome]
        return sum(len(scored_steps(job.training, self.context.store)) for job in running)

    @property
    def _deletes(self) -> bool:
        return self.context.settings.keep != "all"

    def _delete_checkpoints(self, results: Results, plan: Plan, final: bool) -> Results:
        """The results without the checkpoints that are deleted, where the user keeps the best ones only."""
        if not self._deletes:
            return results
        best = winners(results, self.context.settings.keep, final)
        delete_checkpoints(plan, self.context.store, best, stopped(results), self.begun)
        rows = []
        for row in results.rows:
            deleted = row.checkpoint is not None and not is_complete(row.checkpoint)
            rows.append(replace(row, checkpoint=None) if deleted else row)
        return replace(results, rows=tuple(rows))

    def _collect(self, planned: Planned) -> Results:
        write_uses(self.context.folder, planned.plan, self.context.store)
        return collect(
            planned.grid,
            planned.plan,
            self.context.store,
            {**planned.earlier, **self.begun},
            name=self.context.folder.name,
            folder=self.context.folder,
            command=commands.typed(),
            plan=asdict(planned.cost),
            running=True,
            trials=planned.trials,
        )

    def _with_weights(self, results: Results, planned: Planned) -> Results:
        """Where the answer is a checkpoint that was deleted, for the answer of another sweep, it is trained and scored
        again. Another may be the answer then."""
        for _ in results.rows:
            row = None if results.best is None else results.rows[results.best]
            if row is None or row.checkpoint or is_complete(target(self.context.folder, row.training, row.params)):
                break
            said = f"{describe(row.params, [*results.axes, 'steps'])} was deleted: it is trained and scored again"
            self.context.console.print(said, markup=False, soft_wrap=True)
            training = next(t for t in planned.plan.trainings if t.spec.signature == row.training)
            points = tuple(point for point in training.points if point.step == row.step)
            task = Task(Kind.SAMPLE, training, points=points, devices=self.context.settings.gpus_per_trial)
            outcome = self._do(task, "sweet spot")
            if outcome is None or outcome.state != COMPLETE:
                break
            self.sample_rounds()
            results = self._collect(planned)
        return results

    def _do(self, task: Task, title: str) -> Outcome | None:
        """One more job, after the trainings."""
        job = self.crew.add(task)
        with ProgressDisplay(self.context.console, {job.path: title}) as display:
            self.crew.wait(display)
        return job.outcome

    def _export(self, results: Results, plan: Plan) -> Results:
        """The sweet spot as a diffusers folder, written by a worker, which has the model at hand."""
        if results.best is None:
            return results
        start = time.monotonic()
        row = results.rows[results.best]
        to = target(self.context.folder, row.training, row.params)
        if row.checkpoint and not is_complete(to):
            training = next(t for t in plan.trainings if t.spec.signature == row.training)
            precision = kept_precision(training.spec, row.params["sample_precision"])
            export = Export(row.step, row.params["scheduler"], row.params["use_ema"], to, precision)
            task = Task(Kind.EXPORT, training, devices=self.context.settings.gpus_per_trial, export=export)
            self._do(task, "sweet spot")
        self.export_seconds = time.monotonic() - start
        return replace(results, export=to if is_complete(to) else None)

    def _timings(self) -> dict[str, float]:
        """Seconds of each kind of work, over all jobs of this run, and of the whole ("wall")."""
        seconds = {"wall": time.monotonic() - self.context.start, "export": self.export_seconds}
        for job in [*self.begun.values(), *self.shared.jobs, *self.later]:
            outcome = job.outcome
            for kind, value in outcome.seconds.items() if outcome else ():
                if kind != "total":
                    seconds[kind] = seconds.get(kind, 0.0) + value
        return seconds


def run_sweep(context: Context, planned: Callable[[], Planned], train: Callable[[Sweep], None]) -> Results:
    """Everything from the plan to the answer on the terminal. `train` adds the trainings and waits for them."""
    settings = context.settings
    context.store.mark_format()
    page = context.folder / "report.html"
    context.console.print(f"  {'page':<17} {page}, from the first training on\n", soft_wrap=True, markup=False)
    engine = make_engine(settings)
    engine.prepare()
    workplace = Workplace(new_folder(context.folder), context.store.root)
    with (
        Tracker(settings.tracking_uri, settings.output_dir, settings.experiment) as tracker,
        Crew(engine, workplace, lambda line: context.console.print(line, markup=False, soft_wrap=True)) as crew,
    ):
        earlier = Earlier.of(context.folder)
        time_left = TimeLeft(crew.capacity.workers)
        sweep = Sweep(context, planned, crew, SharedWork(crew, context.store), tracker, time_left, earlier=earlier)
        with suppress(SpecError):  # a search has no training yet
            write_uses(context.folder, planned().plan, context.store)
        train(sweep)
        sweep.sample_rounds()
        results, paths = sweep.finish()
        sending = time.monotonic()
    now = time.monotonic()
    own = {**own_times(results, earlier, now - context.start), "MLflow": now - sending}
    sweep.remember_rates()
    tracked = (tracker.command, tracker.link(results.name), tracker.status)
    terminal.print_end(results, paths, tracked, own, context.console)
    return results


def train_all(sweep: Sweep) -> None:
    """All that is missing of a grid, the longest training first, so that no device waits for one at the end."""
    planned = sweep.planned()
    missing = [training for training in planned.plan.trainings if sweep.context.store.missing(training)]
    axes = [axis for axis in planned.grid.axes if axis_of(axis).costs_training]
    for training in sorted(missing, key=lambda t: -t.last_step * t.spec.images_per_step):
        sweep.add(training, describe(dict(training.cells[0].params), axes) or training.spec.subject.name)
    sweep.wait(lambda: False, expected=len(missing))


def exit_code(results: Results) -> int:
    """1 if a cell failed."""
    return 1 if any(row.state == FAIL for row in results.rows) else 0
