"""A sweep while it runs: launch what is missing, collect, export the sweet spot, report, track."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sweeper import forecast
from sweeper.engine import jobs
from sweeper.engine.jobs import Export, Job
from sweeper.engine.local import LocalEngine, leases
from sweeper.engine.rungs import scored_steps
from sweeper.plan.axes import describe
from sweeper.plan.grid import Grid
from sweeper.plan.types import Cost, Plan, Training
from sweeper.report import terminal, write
from sweeper.report.progress import ProgressDisplay
from sweeper.report.terminal import took
from sweeper.results.collect import SAMPLING, collect
from sweeper.results.retention import prune, stopped, winners
from sweeper.results.types import FAIL, Results
from sweeper.store import Store
from sweeper.tracking.mlflow import Tracker
from trainers.files import is_complete

if TYPE_CHECKING:
    from sweeper.settings import Settings


@dataclass
class Sweep:
    grid: Grid
    plan: Plan
    cost: Cost
    store: Store
    folder: Path
    settings: "Settings"
    console: Console
    start: float  # time.monotonic() of the typed line
    finished: int = 0  # trainings that have been tracked
    scored: int = 0  # checkpoints of the running trainings, when discarded were last deleted
    exported: float = 0.0  # seconds

    def run(self) -> int:
        """Everything from the plan to the table. Returns the exit code: 1 if a cell failed."""
        self.work = jobs.new_folder(self.folder)
        self.begun: dict[str, Job] = {}  # by signature of the training
        self.earlier: dict[str, Job] = {}  # of former runs of a search, which ends trainings for good
        uri, experiment = self.settings.tracking_uri, self.settings.experiment
        leased = leases(self.settings.gpus_per_trial, self.settings.cpu_trials)
        with (
            Tracker(uri, self.settings.output_dir, experiment) as tracker,
            LocalEngine(leased, self.work, self.store.root) as engine,
        ):
            self.tracker = tracker
            self._train(engine)
            results = self._export(self._collect(), engine)
            jobs.close(self.work)
            results, paths = write.write(self._timed(self._prune(results, final=True)))
            tracker.publish(results)
            sending = time.monotonic()
        now = time.monotonic()
        results = replace(results, timings={**results.timings, "MLflow": now - sending, "wall": now - self.start})
        self._remember()
        self._show(results, paths, tracker)
        return 1 if any(row.state == FAIL for row in results.rows) else 0

    def _train(self, engine: LocalEngine) -> None:
        for training in self._missing():
            self.begun[training.spec.signature] = engine.add(self._job(training))
        labels = {job.path: self._label(job.training) for job in self.begun.values()}
        with ProgressDisplay(self.console, labels) as watch:
            engine.wait(lambda current: self._watch(watch, current))

    def _watch(self, watch: ProgressDisplay, current: Sequence[Job]) -> None:
        """Shows the progress; tracks each training that has ended, and deletes checkpoints as they lose."""
        watch(current)
        finished = sum(1 for job in self.begun.values() if job.outcome)
        working = [job for job in self.begun.values() if self.prunes and job.status and not job.outcome]
        scored = sum(len(scored_steps(job.training, self.store)) for job in working)
        if (finished, scored) == (self.finished, self.scored):
            return
        results = self._collect()
        if finished > self.finished:
            self.tracker.publish(results)
        self.finished, self.scored = finished, scored
        self._prune(results, final=False)

    @property
    def prunes(self) -> bool:
        return self.settings.keep != "all"

    def _prune(self, results: Results, final: bool) -> Results:
        if not self.prunes:
            return results
        prune(self.plan, self.store, winners(results, self.settings.keep, final), stopped(results), self.begun)
        gone = [row.checkpoint is not None and not is_complete(row.checkpoint) for row in results.rows]
        rows = (replace(row, checkpoint=None) if g else row for row, g in zip(results.rows, gone, strict=True))
        return replace(results, rows=tuple(rows))

    def _job(self, training: Training) -> Job:
        return jobs.add(self.work, training, early_stop=self.settings.early_stop)

    def _missing(self) -> list[Training]:
        """What is left to do, the longest first, so that no device waits for one at the end."""
        left = [training for training in self.plan.trainings if self.store.missing(training)]
        return sorted(left, key=lambda t: -t.last_step * forecast.images_per_step(t.spec))

    def _label(self, training: Training) -> str:
        axes = [axis for axis in self.grid.axes if axis not in SAMPLING]
        return describe(dict(training.cells[0].params), axes) or training.spec.subject.name

    def _collect(self) -> Results:
        return collect(
            self.grid,
            self.plan,
            self.store,
            {**self.earlier, **self.begun},
            name=self.folder.name,
            folder=self.folder,
            command=shlex.join(["python", *sys.argv]),
            plan=asdict(self.cost),
        )

    def _export(self, results: Results, engine: LocalEngine) -> Results:
        """The sweet spot as a diffusers folder, written by a worker, which has the model at hand."""
        if results.best is None:
            return results
        start, row = time.monotonic(), results.rows[results.best]
        scheduler, use_ema = row.params["scheduler"], row.params["use_ema"]
        to = self.folder / "export" / f"{row.training}-{row.step:06d}-{scheduler}{'' if use_ema else '-no-ema'}"
        if not is_complete(to):
            training = next(t for t in self.plan.trainings if t.spec.signature == row.training)
            job = jobs.add(self.work, training, export=Export(row.step, scheduler, use_ema, to))
            engine.add(job)
            with ProgressDisplay(self.console, {job.path: "sweet spot"}) as watch:
                engine.wait(watch)
        self.exported = time.monotonic() - start
        return replace(results, export=to if is_complete(to) else None)

    def _timed(self, results: Results) -> Results:
        seconds = {"wall": time.monotonic() - self.start, "export": self.exported}
        for outcome in (job.outcome for job in self.begun.values()):
            for kind, value in outcome.seconds.items() if outcome else ():
                if kind != "total":
                    seconds[kind] = seconds.get(kind, 0.0) + value
        return replace(results, timings=seconds)

    def _remember(self) -> None:
        """Keeps this sweep's rates for the next plan's estimate."""
        sharing = 1 if forecast.gpus() else min(self.settings.cpu_trials, len(self.begun))
        for training in self.plan.trainings:
            job = self.begun.get(training.spec.signature)
            if job and job.outcome and job.outcome.rates:
                forecast.remember(self.store, training.spec.model, sharing, **job.outcome.rates)

    def _show(self, results: Results, paths: dict[str, Path], tracker: Tracker) -> None:
        terminal.print_table(results, self.console)
        self.console.print()
        for name, path in {**paths, "checkpoint": results.export}.items():
            if path:
                self.console.print(f"{name:<18} {path}", soft_wrap=True, markup=False)
        self.console.print(f"{'MLflow':<18} {tracker.command}", soft_wrap=True, markup=False)
        self.console.print(f"{'':<18} {tracker.link(results.name)}", soft_wrap=True, markup=False)
        if tracker.status:
            self.console.print(f"{'':<18} {tracker.status}", soft_wrap=True, markup=False)
        self.console.print(f"{'took':<18} {took(results.timings)}", soft_wrap=True, markup=False)
