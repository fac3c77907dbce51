"""A search while it runs: what Optuna asks for is trained, judged at each checkpoint, and told. The rest is a sweep."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from optuna.trial import Trial
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from sweeper import forecast
from sweeper.engine import jobs
from sweeper.engine.jobs import COMPLETE, FAIL, PRUNED, Job
from sweeper.engine.local import LocalEngine
from sweeper.engine.rungs import Rung, judged, rungs, scored_steps
from sweeper.names import SEARCH, check_name, reserve_name, unquoted
from sweeper.plan.axes import describe
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.grid import Grid, parse
from sweeper.plan.inversions import inversion_steps
from sweeper.plan.types import Plan, Remaining, Training
from sweeper.report.progress import ProgressDisplay, hours
from sweeper.results.types import Results
from sweeper.search.space import FREE, Space, search_space
from sweeper.search.study import JOURNAL, How, Study, read_how, trials_at_most
from sweeper.settings import Settings, check_writable, one_line, settings_of
from sweeper.store import Store, claim
from sweeper.sweep import Sweep
from sweeper.tracking.mlflow import Tracker
from trainers.errors import SpecError
from trainers.spec import signature


@dataclass
class Live:
    """A trial in flight."""

    trial: Trial
    training: Training
    job: Job | None  # None: everything is in the store
    guides: bool  # whether the job waits for this trial's verdict; trials of one training share its job
    rungs: list[Rung] = field(default_factory=list)


@dataclass(kw_only=True)
class Search(Sweep):
    space: Space
    study: Study

    def _train(self, engine: LocalEngine) -> None:
        self.live: list[Live] = []
        self.trainings: dict[int, Training] = {}  # by number of the trial
        self.lefts: dict[str, Remaining] = {}
        self.labels: dict[Path, str] = {}
        self.study.workers = len(engine.leased)
        self.study.refused = self._refused()
        with ProgressDisplay(self.console, self.labels, self.study.size - len(self.study.finished)) as watch:

            def tick(current: Sequence[Job]) -> None:
                self._watch(watch, current)
                for live in list(self.live):
                    self._advance(live)
                while len(self.live) < self.study.workers and self._begin(engine):
                    pass

            tick([])
            while self.live:
                engine.wait(tick)

    def _refused(self) -> str:
        """Why no trial can be judged, if one of a former run has shown it: the next would be trained for the same."""
        for trial in self.study.sampled:
            if trial.state.name == FAIL and "training" in trial.user_attrs:
                training = self.trainings[trial.number] = self.space.training(trial.params)
                if scored_steps(training, self.store):
                    _, spot = judged(training, self.store, training.cells[0].evaluation)
                    if spot.verdict == "refused":
                        return spot.reason
        return ""

    def _begin(self, engine: LocalEngine) -> bool:
        """Starts the next trial; False where there is none."""
        trial = self.study.ask()
        if trial is None:
            return False
        try:
            training = self.trainings[trial.number] = self.space.training(trial.params)
        except SpecError as error:  # a combination of values, each of which is allowed
            self.study.tell(trial, FAIL, [], reason=str(error))
            self.console.print(f"trial {trial.number}  FAIL  {error}", markup=False, soft_wrap=True)
            return True
        left = self.store.left(training)
        key = training.spec.signature
        self.lefts.setdefault(key, left)
        guides = key not in self.begun and bool(left.missing)
        if guides:
            job = jobs.add(
                self.work, training, early_stop=self.settings.early_stop, guided=self.study.how.pruner != "none"
            )
            self.labels[job.path] = f"trial {trial.number}  {self._label(training)}"
            self.begun[key] = engine.add(job)
        self.live.append(Live(trial, training, self.begun.get(key), guides))
        return True

    def _advance(self, live: Live) -> None:
        """Reports new checkpoints, gives the verdict on the last, and tells a trial that has ended."""
        outcome = live.job.outcome if live.job else None
        steps = scored_steps(live.training, self.store)
        if steps and steps[-1:] != tuple(rung.step for rung in live.rungs[-1:]):
            points, spot = judged(live.training, self.store, live.training.cells[0].evaluation)
            if spot.verdict == "refused":
                self.study.refused = spot.reason
            live.rungs = rungs(points, spot)
            verdict = self.study.refused or self.study.report(live.trial, live.rungs)
            if live.guides and not outcome:
                live.job.judge(steps[-1], verdict)
        if outcome or not live.job:
            self.live.remove(live)
            self._tell(live)

    def _tell(self, live: Live) -> None:
        about = {"training": live.training.spec.signature, "label": self._label(live.training), "reason": ""}
        outcome = live.job.outcome if live.job else None
        state = outcome.state if outcome else COMPLETE
        if live.job:
            about |= {"log": str(live.job.log), "reason": outcome.reason}
        if self.study.refused:
            state, about["reason"] = FAIL, self.study.refused
        elif state == PRUNED and not live.job.verdict[1]:  # stopped as it overfits: it has shown its best
            state = COMPLETE
        self.study.tell(live.trial, state, live.rungs, **about)

    def _label(self, training: Training) -> str:
        return describe(dict(training.cells[0].params), [axis.key for axis in self.space.axes])

    def _collect(self) -> Results:
        self._compile()
        return super()._collect()

    def _compile(self) -> None:
        """What a grid knows from the start: the cells, of this run and of former ones."""
        for trial in self.study.sampled:
            if trial.number not in self.trainings:
                with contextlib.suppress(SpecError):
                    self.trainings[trial.number] = self.space.training(trial.params)
        if not self.trainings:
            raise SpecError(f"no trial could run: {self.study.trials[-1].user_attrs.get('reason')}")
        cells = tuple(dict.fromkeys(run for _, training in sorted(self.trainings.items()) for run in training.cells))
        self.grid, self.plan = Grid(cells, self.space.varying(cells)), compile_plan(cells)
        done = (self.lefts.get(t.spec.signature, Remaining(t, (), t.last_step)) for t in self.plan.trainings)
        self.cost = cost(list(done), self.store)
        notes = (trial.user_attrs for trial in self.study.sampled)
        self.earlier = {n["training"]: Job(Path(n["log"]).with_suffix(".json")) for n in notes if "log" in n}

    def _show(self, results: Results, paths: dict[str, Path], tracker: Tracker) -> None:
        super()._show(results, paths, tracker)
        ends = Counter(trial.state.name for trial in self.study.finished)
        trained = sum(len(training.loss) for training in results.trainings)
        wanted = sum(training.last_step for training in self.plan.trainings)  # as for these, no textual inversion
        said = {
            "trials": ", ".join(f"{count} {state}" for state, count in ends.items()),
            "training steps": f"{trained:,} of {wanted:,}",
            "study": f"optuna-dashboard {self.study.how.storage or self.folder / JOURNAL}",
        }
        for name, value in said.items():
            self.console.print(f"{name:<18} {value}", soft_wrap=True, markup=False, highlight=False)


def run_search(
    config: DictConfig, config_loader: Any, arguments: Sequence[str], launcher: Any, settings: Mapping[str, Any]
) -> None:
    """The search of what was typed after -m. Exits non-zero if a trial failed."""
    with one_line():
        space = search_space(
            parse(arguments, config_loader),
            lambda typed: config_loader.load_sweep_config(config, list(typed)),
            lambda typed: parse(typed, config_loader),
        )
        engine = getattr(launcher, "engine", "local")
        sys.exit(search(space, read_how(settings, space), settings_of(config, config.hydra.sweep.dir, engine)))


def identity(space: Space, how: How, settings: Settings) -> str:
    """The hash of all that changes what is tried, so that the same command goes on with the same search."""
    cells = sorted(signature(c.train, c.step, c.sample, c.evaluation, c.eval_every) for c in space.dearest.cells)
    lasting = asdict(replace(how, trials=0, storage=None))
    return signature(cells, list(map(str, space.axes)), lasting, settings.early_stop)


def search_name(space: Space, how: How, content: str) -> str:
    subject, axes = unquoted(space.dearest.spec.subject.name), [axis.key.split(".")[-1] for axis in space.axes]
    return "-".join([subject, *axes, how.sampler, content[:8]])


def search(space: Space, how: How, settings: Settings) -> int:
    """Runs what is missing and reports the whole. Returns the exit code: 1 if a trial failed."""
    start = time.monotonic()
    console = Console(highlight=False)
    training, store = space.dearest, Store(settings.output_dir / "store")
    content = identity(space, how, settings)
    folder = settings.output_dir / (settings.name or search_name(space, how, content))
    if not settings.plan_only:
        check_writable(settings.output_dir)
    check_name(folder, SEARCH, [content])
    if settings.plan_only:
        print_search(console, space, how, 0, store, settings)
        return 0
    forecast.check_models(Plan((training,)))
    with claim(folder / "search", wait=False) as alone:
        if not alone:
            raise SpecError(f"{folder.name}: another process is at this search; wait for it, or give name=ANOTHER.")
        study = Study(how, space, training.steps, folder, content)
        reserve_name(folder, SEARCH, [content])
        print_search(console, space, how, len(study.finished), store, settings)
        console.print(f"  {'folder':<17} {folder}\n", soft_wrap=True, markup=False)
        grid, plan, expected_cost = Grid((), {}), Plan(()), cost([], store)  # nothing yet
        return Search(
            grid, plan, expected_cost, store, folder, settings, console, start, space=space, study=study
        ).run()


def print_search(console: Console, space: Space, how: How, done: int, store: Store, settings: Settings) -> None:
    """The expected_cost before it is spent, as if every trial were as dear as the dearest."""
    trials, training = trials_at_most(how, space), space.dearest
    left = [Remaining(training, training.points, 0)] * max(0, trials - done)
    if not space.one_inversion:  # a seed of its own stands for whatever sets the trials apart
        specs = (replace(training.spec, seed=training.spec.seed + i) for i in range(len(left)))
        left = [replace(each, training=replace(training, spec=spec)) for each, spec in zip(left, specs, strict=True)]
    first = inversion_steps(training.spec) * (1 if space.one_inversion else trials)
    seconds, disk = forecast.time_and_disk(left, store, settings)
    free = [*map(str, space.free), *(key for key in FREE if key not in space.keys)]
    rows = [
        ("trials", f"{trials:,}, each a training" + (f"  ({done:,} already done)" if done else "")),
        ("training steps", f"{trials * training.last_step + first:,} at most"),
        ("images to sample", f"{trials * sum(point.images for point in training.points):,} at most, and the baselines"),
        ("never sampled", f"{' '.join(free)}: each trial serves all of it"),
        ("sampler, pruner", f"{how.sampler}, {how.pruner}; objective {how.objective}"),
        (
            "time left",
            f"about {hours(seconds)} at most" if seconds is not None else "not known before the first training here",
        ),
        ("disk", f"about {decimal(disk)} more at most"),
    ]
    console.print(
        f"[bold]Search[/]  {training.spec.model.name}, {escape(' x '.join(map(str, space.axes)))}", soft_wrap=True
    )
    for name, value in rows:
        console.print(f"  {name:<17} {value}", markup=False, soft_wrap=True)
