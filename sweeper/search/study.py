"""A search as Optuna sees it: which training to try next, which to end early, and how good each was.

A trial is one training. Its value is that of its best checkpoint. At each checkpoint it reports the best score so far,
which would be its value if it ended there; a pruner may then end it: PRUNED. A training that early_stop=overfit has
stopped has shown its best, so it counts: COMPLETE.

objective=both has two values, s and t of the checkpoint with the best score, and keeps their Pareto front. Optuna
refuses to prune there, so the pruner looks at a second study, in memory, of the scores alone.

Each trial has a sampler of its own, seeded by the trial's number. So a search that was killed goes on as if it had not
been.
"""

import math
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
from sweeper.plan.axes import checked, one_of, whole
from sweeper.search.space import Space
from trainers.errors import SpecError

SAMPLERS = ("tpe", "nsga2", "gp", "random", "grid")
PRUNERS = ("none", "halving", "hyperband", "median")
OBJECTIVES = {"score": 1, "both": 2}  # number of values
JOURNAL = "study.journal"
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # PartialFixedSampler, metric names


@dataclass(frozen=True)
class SearchSettings:
    """The settings under hydra.sweeper."""

    sampler: str
    pruner: str
    objective: str
    trials: int
    seed: int
    storage: str | None


def read_search_settings(typed: Mapping[str, Any], space: Space) -> SearchSettings:
    """Raises SpecError."""
    checked("hydra.sweeper.sampler", typed["sampler"], one_of(SAMPLERS))
    checked("hydra.sweeper.pruner", typed["pruner"], one_of(PRUNERS))
    checked("hydra.sweeper.objective", typed["objective"], one_of(tuple(OBJECTIVES)))
    checked("hydra.sweeper.trials", typed["trials"], whole(1))
    checked("hydra.sweeper.seed", typed["seed"], whole(0))
    if typed["sampler"] == "grid" and space.combinations is None:
        raise SpecError("hydra.sweeper.sampler=grid tries every combination: give lists instead of intervals.")
    return SearchSettings(**typed)


def trials_at_most(settings: SearchSettings, space: Space) -> int:
    if settings.sampler == "grid" and space.combinations is not None:
        return min(settings.trials, len(space.combinations))
    return settings.trials


class Study:
    """Ask and tell, kept in `folder` or in the database `settings.storage`. Raises SpecError if it cannot be opened.

    steps: those at which trials report.
    """

    def __init__(
        self, settings: SearchSettings, space: Space, steps: Sequence[int], folder: Path, identity: str
    ) -> None:
        self.settings = settings
        self.space = space
        self.address = settings.storage or str(folder / JOURNAL)  # as optuna-dashboard takes it
        pruner = make_pruner(settings.pruner, steps)
        self.study = _open(settings, folder, identity, pruner)
        self.left_running = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        self.scores = ScoreStudy(self.study.study_name, pruner) if OBJECTIVES[settings.objective] > 1 else None
        if self.scores:
            self.scores.repeat(self.trials)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    @property
    def size(self) -> int:
        return trials_at_most(self.settings, self.space)

    @property
    def sampled(self) -> list[FrozenTrial]:
        """The trials with all of their parameters. A kill can leave one that has only some, until `ask` goes on with
        it."""
        return [trial for trial in self.trials if set(trial.params) == set(self.space.distributions)]

    @property
    def finished(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state.is_finished()]

    def ask(self, workers: int) -> Trial | None:
        """The next trial, first those that a killed run left running. None where there are no more.

        workers: trials at once.
        """
        if self.left_running:
            left = self.left_running.pop(0)
            self.study.sampler = self._sampler(left.number, workers)
            trial = Trial(self.study, left._trial_id)
            for name, distribution in self.space.distributions.items():
                trial._suggest(name, distribution)  # a parameter that it has already stays
            return trial
        trials = self.trials
        if len(trials) >= self.size or self._all_tried(trials):
            return None
        self.study.sampler = self._sampler(len(trials), workers)
        trial = self.study.ask(self.space.distributions)
        if self.scores:
            self.scores.ask(trial.number)
        return trial

    def report(self, trial: Trial, found: Sequence[Rung]) -> str:
        """Reports the checkpoints so far. Returns why to prune the trial at the last of them, or nothing."""
        decided = trial.user_attrs.get("reason")
        if decided:  # before a kill
            return str(decided)
        scored = self.scores.trials[trial.number] if self.scores else trial
        known = _frozen(scored).intermediate_values
        best = -math.inf
        for rung in found:
            best = max(best, rung.score)
            if rung.step in known:
                continue
            scored.report(best, rung.step)
            if scored.should_prune():
                reason = f"{self.settings.pruner} at step {rung.step}: its best score so far, {best:.3f}, is behind"
                trial.set_user_attr("reason", reason)
                return reason
        return ""

    def tell(self, trial: Trial, state: str, found: Sequence[Rung], **about: str) -> None:
        """state: COMPLETE, PRUNED or FAIL; about: what else the dashboard shows."""
        for name, text in about.items():
            trial.set_user_attr(name, text)
        best = max(found, key=lambda rung: rung.score, default=None)
        if best:
            for name, number in asdict(best).items():
                trial.set_user_attr(name, number)
            trial.set_user_attr("checkpoints", [asdict(rung) for rung in found])
        told = TrialState[state]
        value = best if told == TrialState.COMPLETE else None
        if self.scores:
            trial.set_user_attr("pruner", self.scores.tell(trial.number, value.score if value else None, told))
            self.study.tell(trial, (value.s, value.t) if value else None, told)
        else:
            self.study.tell(trial, value.score if value else None, told)

    def _all_tried(self, trials: Sequence[FrozenTrial]) -> bool:
        points = self.space.combinations
        return points is not None and len({tuple(sorted(t.params.items())) for t in trials}) >= len(points)

    def _sampler(self, number: int, workers: int) -> samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self.settings.seed, number]).generate_state(1)[0])
        if self.settings.sampler == "grid":
            assert self.space.combinations is not None  # see read_search_settings
            shuffled = random.Random(self.settings.seed).sample(self.space.combinations, len(self.space.combinations))
            return samplers.PartialFixedSampler(shuffled[number], samplers.RandomSampler(seed))
        return make_sampler(self.settings.sampler, seed, workers, self.settings.trials)


class ScoreStudy:
    """A study of the scores alone, in memory, for the pruner to look at where the search has two objectives."""

    def __init__(self, name: str, pruner: pruners.BasePruner) -> None:
        self.study = optuna.create_study(study_name=name, direction="maximize", pruner=pruner)
        self.trials: dict[int, Trial] = {}  # those that are running, by number

    def repeat(self, trials: Sequence[FrozenTrial]) -> None:
        """What the search's own study holds from former runs."""
        for trial in trials:
            if trial.state.is_finished():
                self.study.add_trial(_of_scores(trial))
            else:
                self.ask(trial.number)

    def ask(self, number: int) -> None:
        self.trials[number] = self.study.ask()

    def tell(self, number: int, score: float | None, state: TrialState) -> dict[str, Any]:
        """What the pruner noted of the trial, to be kept with it."""
        notes = _frozen(self.trials[number]).system_attrs
        self.study.tell(self.trials[number], score, state)
        return notes


def _of_scores(trial: FrozenTrial) -> FrozenTrial:
    """A trial with two values as one with its score: the best so far at each checkpoint, and at the end."""
    checkpoints = trial.user_attrs.get("checkpoints", [])
    scores = accumulate((checkpoint["score"] for checkpoint in checkpoints), max)
    best = dict(zip((checkpoint["step"] for checkpoint in checkpoints), scores, strict=True))
    value = max(best.values()) if best and trial.state != TrialState.FAIL else None
    notes = trial.user_attrs.get("pruner", {})
    return create_trial(state=trial.state, value=value, intermediate_values=best, system_attrs=notes)


def _frozen(trial: Trial) -> FrozenTrial:
    return trial.storage.get_trial(trial._trial_id)


def _open(settings: SearchSettings, folder: Path, identity: str, pruner: pruners.BasePruner) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    values = OBJECTIVES[settings.objective]
    try:
        study = optuna.create_study(
            storage=settings.storage or _journal(folder / JOURNAL),
            study_name=folder.name,
            directions=["maximize"] * values,
            pruner=pruner if values == 1 else pruners.NopPruner(),
            load_if_exists=True,
        )
    except Exception as error:  # each database and driver has its own
        raise SpecError(f"hydra.sweeper.storage={settings.storage}: {error}") from error
    if study.user_attrs.setdefault("identity", identity) != identity:
        raise SpecError(f"name={folder.name}: another search is kept there; take another name.")
    study.set_user_attr("identity", identity)
    study.set_metric_names(["s", "t"] if values > 1 else ["score"])  # as Optuna's dashboard calls the objectives
    return study


def _journal(path: Path) -> JournalStorage:
    """Cuts off a half-written last line (of a full disk, a power cut): Optuna could not read what follows it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        with open(path, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path)))


def make_sampler(name: str, seed: int, workers: int, trials: int) -> samplers.BaseSampler:
    """One of Optuna's."""
    if name == "tpe":  # takes trials in flight for bad ones, so that workers do not crowd
        return samplers.TPESampler(seed=seed, constant_liar=workers > 1)
    if name == "nsga2":  # time for four generations
        return samplers.NSGAIISampler(seed=seed, population_size=max(2, trials // 4))
    if name == "gp":
        return samplers.GPSampler(seed=seed)
    return samplers.RandomSampler(seed=seed)


def make_pruner(name: str, steps: Sequence[int]) -> pruners.BasePruner:
    """One of Optuna's. The resource is optimizer steps; the first rung is the first checkpoint."""
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=steps[0])
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=steps[0], max_resource=steps[-1])
    if name == "median":
        return pruners.MedianPruner()
    return pruners.NopPruner()
