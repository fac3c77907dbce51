"""A search while it runs: what Optuna asks for is trained by a sweep, and reported at each checkpoint."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from optuna.trial import FrozenTrial, Trial

from sweeper.engine.jobs import COMPLETE, FAIL, PRUNED, Job
from sweeper.engine.rungs import Rung, rungs, scored_steps, sweet_spot_so_far
from sweeper.plan.axes import describe
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.grid import Grid
from sweeper.plan.types import Remaining, Training
from sweeper.search.space import Space
from sweeper.search.study import Study
from sweeper.store import Store
from sweeper.sweep import Planned, Sweep
from trainers.errors import SpecError

LOST = 2  # trials in a row that a fault of the machine ended, after which no others are begun


@dataclass
class Trainings:
    """The trainings of all trials, of this run and of former ones: the plan of a search, as far as it is known."""

    space: Space
    study: Study
    store: Store
    by_trial: dict[int, Training] = field(default_factory=dict)  # by the number of the trial
    at_first: dict[str, Remaining] = field(default_factory=dict)  # what this run had to do, by signature

    def of(self, trial: Trial | FrozenTrial) -> Training:
        """Raises SpecError where no training has this combination of values."""
        if trial.number not in self.by_trial:
            self.by_trial[trial.number] = self.space.training(trial.params)
        return self.by_trial[trial.number]

    def begin(self, training: Training) -> Remaining:
        """What the training still takes."""
        remaining = self.store.left(training)
        self.at_first.setdefault(training.spec.signature, remaining)
        return remaining

    def planned(self) -> Planned:
        """Raises SpecError where there is no training at all."""
        sampled = self.study.sampled
        for trial in sampled:
            with contextlib.suppress(SpecError):
                self.of(trial)
        if not self.by_trial:
            trials = self.study.trials
            reason = trials[-1].user_attrs.get("reason") if trials else "none was begun"
            raise SpecError(f"no trial could run: {reason}")
        cells = tuple(dict.fromkeys(cell for _, training in sorted(self.by_trial.items()) for cell in training.cells))
        plan = compile_plan(cells)
        remaining = [self.at_first.get(t.spec.signature, Remaining(t, (), t.last_step)) for t in plan.trainings]
        notes = [trial.user_attrs for trial in sampled]
        earlier = {note["training"]: Job(Path(note["log"]).with_suffix(".json")) for note in notes if "log" in note}
        grid = Grid(cells, self.space.varying(cells))
        return Planned(grid, plan, cost(remaining, self.store), earlier, self._names())

    def _names(self) -> dict[str, str]:
        """What each training is called, by its signature: several trials may have one."""
        names: dict[str, str] = {}
        for number, training in sorted(self.by_trial.items()):
            known = names.get(training.spec.signature)
            names[training.spec.signature] = f"{known}, {number}" if known else f"trial {number}"
        return names


@dataclass
class RunningTrial:
    trial: Trial
    training: Training
    job: Job | None  # None: everything is in the store
    decides: bool  # whether the job waits for this trial's decisions; trials of one training share its job
    rungs: list[Rung] = field(default_factory=list)  # reported so far


@dataclass
class Search:
    """Asks for trials, has the sweep train them, reports their checkpoints, and tells how they ended."""

    sweep: Sweep
    study: Study
    trainings: Trainings
    running: list[RunningTrial] = field(default_factory=list)
    lost: int = 0  # trials in a row that a fault of the machine ended: they are RUNNING to Optuna, for the next run
    refusal: str = ""  # why no trial can be measured: the photographs or the model are the reason, not the trial

    def train(self) -> None:
        self.refusal = self._earlier_refusal()
        self.sweep.wait(self._go_on, expected=self.study.size - len(self.study.finished))

    def _earlier_refusal(self) -> str:
        """The refusal that a former run met: another trial would be trained for the same answer."""
        for trial in self.study.sampled:
            if trial.state.name == FAIL and "training" in trial.user_attrs:
                training = self.trainings.of(trial)
                if scored_steps(training, self.sweep.context.store):
                    _, spot = sweet_spot_so_far(training, self.sweep.context.store, training.cells[0].evaluation)
                    if spot.verdict == "refused":
                        return spot.reason
        return ""

    def _go_on(self) -> bool:
        """Looks at every running trial, then starts others. Returns whether any is running."""
        for running in list(self.running):
            self._look_at(running)
        while len(self.running) < self.sweep.capacity and not self.refusal and self.lost < LOST:
            trial = self.study.ask(self.sweep.capacity)
            if trial is None:
                break
            self._start(trial)
        return bool(self.running)

    def _start(self, trial: Trial) -> None:
        try:
            training = self.trainings.of(trial)
        except SpecError as error:  # each value is allowed, but not together
            self.study.tell(trial, FAIL, [], reason=str(error))
            self.sweep.context.console.print(f"trial {trial.number}  FAIL  {error}", markup=False, soft_wrap=True)
            return
        self.trainings.begin(training)
        job = self.sweep.begun.get(training.spec.signature)
        decides = job is None and bool(self.sweep.context.store.missing(training))
        if decides:
            title = f"trial {trial.number}  {self._label(training)}"
            job = self.sweep.add(training, title, guided=self.study.settings.pruner != "none")
        self.running.append(RunningTrial(trial, training, job, decides))

    def _look_at(self, running: RunningTrial) -> None:
        """Reports new checkpoints, decides whether the training goes on, and tells a trial that has ended."""
        job = running.job
        training = running.training
        outcome = job.outcome if job else None
        steps = scored_steps(training, self.sweep.context.store)
        if steps and (not running.rungs or running.rungs[-1].step != steps[-1]):
            points, spot = sweet_spot_so_far(training, self.sweep.context.store, training.cells[0].evaluation)
            if spot.verdict == "refused":
                self.refusal = spot.reason
            running.rungs = rungs(points, spot)
            reason = self.refusal or self.study.report(running.trial, running.rungs)
            if job and running.decides and not outcome:
                job.decide(steps[-1], reason)
        if outcome or not job:
            self.running.remove(running)
            self._tell(running)

    def _tell(self, running: RunningTrial) -> None:
        job = running.job
        outcome = job.outcome if job else None
        if outcome and outcome.again:
            self.lost += 1
            said = f"trial {running.trial.number}  the same command tries it again"
            self.sweep.context.console.print(said, markup=False, soft_wrap=True)
            return
        self.lost = 0
        state = outcome.state if outcome else COMPLETE
        notes = {"training": running.training.spec.signature, "label": self._label(running.training), "reason": ""}
        if job and outcome:
            notes |= {"log": str(job.log), "reason": outcome.reason}
        if self.refusal:
            state = FAIL
            notes["reason"] = self.refusal
        elif job and state == PRUNED and not job.verdict.reason:  # stopped because it overfits: it has shown its best
            state = COMPLETE
        self.study.tell(running.trial, state, running.rungs, **notes)

    def _label(self, training: Training) -> str:
        return describe(dict(training.cells[0].params), [axis.key for axis in self.trainings.space.axes])
