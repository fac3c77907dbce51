"""A search as Optuna sees it: which training to try next, which to end early, and how good each was.

A trial is one training, and its value that of its best checkpoint. At each checkpoint it reports the best score so far,
which is what its value would be if it ended there; a pruner that is asked then ends trainings: PRUNED. One that was
stopped by early_stop=overfit has shown its best, so Optuna is told its value: COMPLETE.

objective=both has two values, s and t of the checkpoint with the best score, and keeps their Pareto front. Optuna
refuses to prune there, so the same pruner looks at a second study, in memory, of the scores alone.

Each trial has a sampler of its own, seeded by its number: a search that was killed goes on as it would have without.
"""

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna import pruners, samplers
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from sweeper.engine.rungs import Rung
from sweeper.plan.axes import Axis, checked
from sweeper.search.space import Space
from trainers.errors import SpecError

SAMPLERS = ("tpe", "nsga2", "gp", "random", "grid")
PRUNERS = ("none", "halving", "hyperband", "wilcoxon", "median")
OBJECTIVES = {"score": 1, "both": 2}  # number of values
JOURNAL = "study.journal"
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # WilcoxonPruner, PartialFixedSampler, metric names


@dataclass(frozen=True)
class How:
    """The settings under hydra.sweeper."""

    sampler: str
    pruner: str
    objective: str
    trials: int
    seed: int
    storage: str | None


def read_how(settings: Mapping[str, Any], space: Space) -> How:
    """Raises SpecError."""
    for name, allowed in (("sampler", SAMPLERS), ("pruner", PRUNERS), ("objective", OBJECTIVES)):
        known = Axis(str, f"one of {', '.join(allowed)}", allowed.__contains__)
        checked(f"hydra.sweeper.{name}", settings[name], known)
    for name, low in (("trials", 1), ("seed", 0)):
        checked(f"hydra.sweeper.{name}", settings[name], Axis(int, f"a whole number, {low} or more", low.__le__))
    if settings["sampler"] == "grid" and space.combinations is None:
        raise SpecError("hydra.sweeper.sampler=grid tries every combination: give lists instead of intervals.")
    return How(**settings)


def trials_at_most(how: How, space: Space) -> int:
    return min(how.trials, len(space.combinations)) if how.sampler == "grid" else how.trials


class Study:
    """Ask and tell, kept in `folder` or in the database `how.storage`. Raises SpecError if it cannot be opened.

    workers: trials at once. steps: at which trials report.
    """

    def __init__(self, how: How, space: Space, steps: Sequence[int], folder: Path, identity: str) -> None:
        self.how, self.space, self.workers = how, space, 1
        self.pruner = make_pruner(how.pruner, steps)
        self.study = _open(how, folder, identity, self.pruner)
        self.left_running = [trial for trial in self.sampled if trial.state == TrialState.RUNNING]
        for trial in self.trials:
            if trial.state == TrialState.RUNNING and trial not in self.left_running:
                self.study.tell(trial.number, state=TrialState.FAIL)
        self.scores = self._mirrored() if OBJECTIVES[how.objective] > 1 else {}
        self.refused = ""  # why no trial can be judged

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    @property
    def size(self) -> int:
        return trials_at_most(self.how, self.space)

    @property
    def sampled(self) -> list[FrozenTrial]:
        """Those with all parameters; a kill can leave one with some."""
        return [trial for trial in self.trials if set(trial.params) == set(self.space.distributions)]

    @property
    def finished(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state.is_finished()]

    def ask(self) -> Trial | None:
        """The next trial: first those that a killed run left running; None where there are no more."""
        if self.refused:
            return None
        if self.left_running:
            return Trial(self.study, self.left_running.pop(0)._trial_id)
        trials = self.trials
        if len(trials) >= self.size or self._all_tried(trials):
            return None
        self.study.sampler = self._sampler(len(trials))
        trial = self.study.ask(self.space.distributions)
        if OBJECTIVES[self.how.objective] > 1:
            self.scores[trial.number] = self._second.ask()
        return trial

    def report(self, trial: Trial, found: Sequence[Rung]) -> str:
        """Reports the checkpoints so far; why to prune the trial at the last of them, or nothing."""
        if decided := trial.user_attrs.get("reason"):  # before a kill
            return decided
        scored = self.scores.get(trial.number, trial)
        known = _frozen(scored).intermediate_values
        for rung, best in zip(found, accumulate((rung.score for rung in found), max), strict=True):
            if rung.step not in known:
                scored.report(best, rung.step)
                if scored.should_prune():
                    reason = f"{self.how.pruner} at step {rung.step}: its best score so far, {best:.3f}, is behind"
                    trial.set_user_attr("reason", reason)
                    return reason
        return ""

    def tell(self, trial: Trial, state: str, found: Sequence[Rung], **about: str) -> None:
        """state: COMPLETE, PRUNED or FAIL; about: what else the dashboard shows."""
        best = max(found, key=lambda rung: rung.score, default=None)
        notes = about | ({**asdict(best), "checkpoints": [asdict(rung) for rung in found]} if best else {})
        for name, value in notes.items():
            trial.set_user_attr(name, value)
        told = TrialState[state]
        done = told == TrialState.COMPLETE
        if second := self.scores.get(trial.number):
            trial.set_user_attr("pruner", _frozen(second).system_attrs)
            self._second.tell(second, best.score if done else None, told)
            self.study.tell(trial, (best.s, best.t) if done else None, told)
        else:
            self.study.tell(trial, best.score if done else None, told)

    def _all_tried(self, trials: Sequence[FrozenTrial]) -> bool:
        points = self.space.combinations
        return points is not None and len({tuple(sorted(t.params.items())) for t in trials}) >= len(points)

    def _sampler(self, number: int) -> samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self.how.seed, number]).generate_state(1)[0])
        if self.how.sampler == "grid":
            points = random.Random(self.how.seed).sample(self.space.combinations, len(self.space.combinations))
            return samplers.PartialFixedSampler(points[number], samplers.RandomSampler(seed))
        return make_sampler(self.how.sampler, seed, self.workers, self.how.trials)

    def _mirrored(self) -> dict[int, Trial]:
        """Starts the second study with what the first holds; its trials that are still running, by number."""
        self._second = optuna.create_study(study_name=self.study.study_name, direction="maximize", pruner=self.pruner)
        running = {}
        for trial in self.trials:
            if trial.state.is_finished():
                known = trial.user_attrs
                steps = {rung["step"]: rung["score"] for rung in known.get("checkpoints", [])}
                best = dict(zip(steps, accumulate(steps.values(), max), strict=True))
                value = max(best.values()) if best and trial.state != TrialState.FAIL else None
                self._second.add_trial(
                    create_trial(
                        state=trial.state, value=value, intermediate_values=best, system_attrs=known.get("pruner", {})
                    )
                )
            else:
                running[trial.number] = self._second.ask()
        return running


def _frozen(trial: Trial) -> FrozenTrial:
    return trial.storage.get_trial(trial._trial_id)


def _open(how: How, folder: Path, identity: str, pruner: pruners.BasePruner) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            storage=how.storage or _journal(folder / JOURNAL),
            study_name=folder.name,
            directions=["maximize"] * OBJECTIVES[how.objective],
            pruner=pruner if OBJECTIVES[how.objective] == 1 else pruners.NopPruner(),
            load_if_exists=True,
        )
    except Exception as error:  # of whichever database, driver or address
        raise SpecError(f"hydra.sweeper.storage={how.storage}: {error}") from error
    if study.user_attrs.setdefault("identity", identity) != identity:
        raise SpecError(f"name={folder.name}: another search is kept there; take another name.")
    study.set_user_attr("identity", identity)
    if OBJECTIVES[how.objective] > 1:
        study.set_metric_names(["s", "t"])
    return study


def _journal(path: Path) -> JournalStorage:
    """Optuna cannot read a journal whose last line was cut off (a full disk, a power cut) once more follows it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        with open(path, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path)))


def make_sampler(name: str, seed: int, workers: int, trials: int) -> samplers.BaseSampler:
    """Optuna's own. TPE takes trials in flight for bad ones, so that workers do not crowd; NSGA-II has time for four
    generations."""
    return {
        "tpe": lambda: samplers.TPESampler(seed=seed, constant_liar=workers > 1),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed, population_size=max(2, trials // 4)),
        "gp": lambda: samplers.GPSampler(seed=seed),
        "random": lambda: samplers.RandomSampler(seed=seed),
    }[name]()


def make_pruner(name: str, steps: Sequence[int]) -> pruners.BasePruner:
    """Optuna's own. The resource is optimizer steps; the first rung is the first checkpoint."""
    return {
        "none": pruners.NopPruner,
        "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=steps[0]),
        "hyperband": lambda: pruners.HyperbandPruner(min_resource=steps[0], max_resource=steps[-1]),
        "wilcoxon": pruners.WilcoxonPruner,
        "median": pruners.MedianPruner,
    }[name]()
