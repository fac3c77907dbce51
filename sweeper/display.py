"""What the terminal shows while a sweep runs: the plan before, the progress during. The table is in table.py."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sweeper.jobs import Job
from sweeper.plan import Cost


def hours(seconds: float) -> str:
    """A duration in two units: "2 h 5 min", "40 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def print_plan(console: Console, cost: Cost, axes: dict, seconds: float | None, disk: int | None, model: str) -> None:
    over = " x ".join(f"{name}{{{len(values)}}}" for name, values in axes.items()) or "one run"
    console.print(f"[bold]Plan[/]  {model}, {over}", highlight=False)
    saved = cost.training_steps_unshared / cost.training_steps
    once = f"; one training per cell would take {cost.training_steps_unshared:,}" if saved > 1.005 else ""
    rows = [
        ("cells", f"{cost.cells:,}"),
        ("trainings", f"{cost.trainings:,}" + _done(cost.done_trainings)),
        ("training steps", f"{cost.training_steps:,}{once}" + _done(cost.done_training_steps)),
        ("images to sample", f"{cost.images:,}" + _done(cost.done_images)),
        ("time left", "about " + hours(seconds) if seconds is not None else "not known before the first training here"),
        ("disk", f"about {decimal(disk)} more" if disk is not None else "not known before the first checkpoint"),
    ]
    for name, value in rows:
        console.print(f"  {name:<17} {value}", highlight=False)


def _done(count: int) -> str:
    return f"  ({count:,} already done)" if count else ""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        unit = task.fields.get("unit", "")
        return Text(f"{task.speed:.1f} {unit}/s" if task.speed and unit else "", style="dim")


class Watch:
    """Shows each job's work, and the sweep's; on no terminal, a line when a training begins or ends."""

    def __init__(self, console: Console, labels: dict[Path, str]) -> None:
        self.console, self.labels = console, labels
        self.quiet = not console.is_terminal
        self.said: dict[Path, str] = {}
        self.tasks: dict[Path, int] = {}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=self.quiet,
            transient=True,
        )

    def __enter__(self) -> "Watch":
        self.progress.start()
        if len(self.labels) > 1:
            self.whole = self.progress.add_task("sweep, percent", total=100)
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            outcome, status = job.outcome, job.status
            if outcome:
                self._say(
                    job, outcome.state, f"{outcome.state} in {hours(outcome.seconds.get('total', 0))}", outcome.reason
                )
                self._drop(job.path)
            elif status:
                self._say(job, "begun", "started")
                self._show(job, status)
        if len(self.labels) > 1:
            done = sum(1.0 if job.outcome else job.status.fraction if job.status else 0.0 for job in jobs)
            self.progress.update(self.whole, completed=int(100 * done / len(jobs)))

    def _show(self, job: Job, status) -> None:
        words = f"{self.labels[job.path]}  {status.phase}"
        task = self.tasks.get(job.path)
        if task is not None and self.progress.tasks and self._phase(task) != status.phase:
            self._drop(job.path)
            task = None
        if task is None:
            unit = "steps" if status.phase == "training" else "images" if status.total else ""
            self.tasks[job.path] = self.progress.add_task(words, total=None, unit=unit, phase=status.phase)
        self.progress.update(self.tasks[job.path], completed=status.done, total=status.total or None)

    def _phase(self, task: int) -> str:
        return next((t.fields["phase"] for t in self.progress.tasks if t.id == task), "")

    def _drop(self, path: Path) -> None:
        if path in self.tasks:
            self.progress.remove_task(self.tasks.pop(path))

    def _say(self, job: Job, stage: str, *words: str) -> None:
        if self.said.get(job.path) == stage or (stage == "begun" and not self.quiet):
            return
        self.said[job.path] = stage
        text = "  ".join(word for word in words if word)
        self.console.print(
            f"{time.strftime('%H:%M:%S')}  {self.labels[job.path]}  {text}", markup=False, highlight=False
        )
