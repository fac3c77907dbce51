"""What the terminal shows while a sweep runs: the plan before, the progress during. The table is in terminal.py."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from sweeper.disk import Disk
from sweeper.engine.jobs import Job, Status
from sweeper.plan.downloads import Downloads
from sweeper.plan.types import Cost, Plan
from sweeper.report.time_left import TimeLeft, roughly

LINE_EVERY = 30.0  # seconds, where there is no terminal


def hours(seconds: float) -> str:
    """A duration in two units: "2 h 5 min", "40 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def download_rows(downloads: Downloads) -> list[tuple[str, str]]:
    rows = [("download", str(downloads))] if downloads.parts else []
    return rows + [("", problem) for problem in downloads.problems]


def print_plan(
    console: Console,
    cost: Cost,
    axes: Mapping[str, Sequence[Any]],
    seconds: float | None,
    disk: Disk,
    model: str,
    plan: Plan,
    downloads: Downloads,
    basis: str,
    notes: Sequence[str],
) -> None:
    """basis: what the time is calculated from; notes: what the user must know before it begins."""
    over = " x ".join(f"{name}{{{len(values)}}}" for name, values in axes.items()) or "one cell"
    console.print(f"[bold]Plan[/]  {model}, {over}", highlight=False)
    saved = cost.training_steps_unshared / cost.training_steps
    once = f"; one training per cell would take {cost.training_steps_unshared:,}" if saved > 1.005 else ""
    rows = [
        ("cells", f"{cost.cells:,}"),
        ("trainings", f"{cost.trainings:,}" + _done(cost.done_trainings)),
        ("training steps", f"{cost.training_steps:,}{once}" + _done(cost.done_training_steps)),
        *training_rows(plan),
        ("images to sample", f"{cost.images:,}" + _done(cost.done_images)),
        *shared_rows(plan),
        ("time left", time_left(seconds, basis, cost)),
        *([("disk", f"{disk}; calculated, at most")] if disk.written else []),
        *download_rows(downloads),
        *[("note", note) for note in notes],
    ]
    for name, value in rows:
        console.print(f"  {name:<17} {value}", highlight=False, markup=False, soft_wrap=True)


def time_left(seconds: float | None, basis: str, cost: Cost | None = None) -> str:
    if cost and cost.done_trainings == cost.trainings:
        return "nothing is to be trained or sampled: everything is there"
    return "not known before the first training here" if seconds is None else f"about {hours(seconds)}, {basis}"


def shared_rows(plan: Plan) -> list[tuple[str, str]]:
    """What several trainings have in common, and is made once."""
    if len(plan.trainings) == 1:
        return []
    specs = [training.spec for training in plan.trainings]
    made = [spec.class_images_signature for spec in specs if spec.prior and not spec.prior.folder]
    shared = []
    if len(set(made)) < len(made):
        shared.append(f"class images, {_times(len(set(made)))} for {len(made)} trainings")
    ways = {
        (spec.model, spec.subject, p.sample, p.evaluation)
        for spec, t in zip(specs, plan.trainings, strict=True)
        for p in t.points
    }
    shared.append(f"the untuned model's images, {_times(len(ways))}")
    return [("shared", "; ".join(shared))]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def training_rows(plan: Plan) -> list[tuple[str, str]]:
    """What an optimizer step sees, and what is computed in less than fp32; the model decides where nothing is typed."""
    specs = [training.spec for training in plan.trainings]
    sizes = dict.fromkeys((spec.batch_size, spec.gradient_accumulation_steps) for spec in specs)
    batches = ", ".join(f"{size * steps} (batch_size {size} x accumulation {steps})" for size, steps in sizes)
    training = dict.fromkeys(spec.mixed_precision for spec in specs)
    sampling = dict.fromkeys(cell.sample.precision for cell in plan.cells)
    rows = [("effective batch", batches)]
    if {*training, *sampling} != {"no"}:
        rows.append(("precision", f"training {', '.join(training)}; sampling {', '.join(sampling)} (no is fp32)"))
    return rows


def _done(count: int) -> str:
    return f"  ({count:,} already done)" if count else ""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        unit = task.fields.get("unit", "")
        return Text(f"{task.speed:.1f} {unit}/s" if task.speed and unit else "", style="dim")


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields.get("left", ""))


class ProgressDisplay:
    """Shows what each job does, and how far the sweep is. Without a terminal: a line when a training begins or ends,
    and each half minute."""

    def __init__(
        self, console: Console, titles: dict[Path, str], count: int | None = None, time_left: TimeLeft | None = None
    ) -> None:
        """titles: of the jobs to show, by path; where more may come, `count` is how many in all. time_left: of the
        sweep, where it knows its jobs."""
        self.console = console
        self.time_left = time_left
        self.now = time_left.now if time_left else time.monotonic
        self.next_line = self.now() + LINE_EVERY
        self.titles = titles
        self.count = len(titles) if count is None else count
        self.quiet = not console.is_terminal
        self.whole: TaskID | None = None  # the bar of the sweep, where it has several jobs
        self.said: dict[Path, str] = {}
        self.tasks: dict[Path, tuple[TaskID, str]] = {}  # and the phase it shows
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            _TimeLeft(),
            console=console,
            disable=self.quiet,
            transient=True,
        )

    def __enter__(self) -> "ProgressDisplay":
        self.progress.start()
        if self.count > 1 or (self.count and self.time_left):
            self.whole = self.progress.add_task("sweep, percent", total=100)
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, jobs: Sequence[Job]) -> None:
        done = 0.0
        doing = []
        for job in (job for job in jobs if job.path in self.titles):
            outcome = job.outcome
            status = job.status
            share = 0 if job.task.kind.shared else 1
            if outcome:
                done += share
                self._remove(job.path)
                took = hours(outcome.seconds.get("total", 0))
                self._say(job.path, f"{outcome.state} in {took}  {outcome.reason}")
            elif status:
                done += share * status.fraction
                self._show(job.path, status)
                doing.append(
                    f"{self.titles[job.path]}  {status.phase} {status.done}/{status.total}".removesuffix(" 0/0")
                )
                if self.quiet:
                    self._say(job.path, "started")
            else:
                self._remove(job.path)  # its worker is gone, and it waits for another
        if self.whole is not None:
            percent = int(100 * done / self.count)
            left = ""
            if self.time_left:
                self.time_left.look(jobs)
                percent = int(100 * self.time_left.share(self.count))
                seconds = self.time_left.seconds(self.count)
                left = "" if seconds is None else f"about {roughly(seconds)} left"
            self.progress.update(self.whole, completed=percent, left=left)
            self._say_how_far(percent, left, doing)

    def _show(self, path: Path, status: Status) -> None:
        """A bar for what the job is doing. Each kind of work has a bar of its own, as their rates differ."""
        shown = self.tasks.get(path)
        if shown and shown[1] == status.phase:
            task = shown[0]
        else:
            self._remove(path)
            unit = "steps" if status.phase == "training" else "images"
            task = self.progress.add_task(f"{self.titles[path]}  {status.phase}", total=None, unit=unit)
            self.tasks[path] = (task, status.phase)
        self.progress.update(task, completed=status.done, total=status.total or None)

    def _say_how_far(self, percent: int, left: str, doing: Sequence[str]) -> None:
        """Without a terminal, each half minute: how far the sweep is, and what it is at."""
        if self.quiet and self.now() >= self.next_line:
            self.next_line = self.now() + LINE_EVERY
            parts = [f"{percent} %", left, "; ".join(doing)]
            text = f"{time.strftime('%H:%M:%S')}  sweep  {', '.join(filter(None, parts))}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _remove(self, path: Path) -> None:
        if path in self.tasks:
            self.progress.remove_task(self.tasks.pop(path)[0])

    def _say(self, path: Path, words: str) -> None:
        """A line that stays, once."""
        if self.said.get(path) != words:
            self.said[path] = words
            text = f"{time.strftime('%H:%M:%S')}  {self.titles[path]}  {words}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
