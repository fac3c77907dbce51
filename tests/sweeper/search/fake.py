"""A cluster that trains nothing: its scores are formulas of learning rate and step. All else of a search is real."""

from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from hydra import compose

from sweeper import sweep
from sweeper.engine.base import Resources
from sweeper.engine.inline import InlineEngine
from sweeper.engine.jobs import COMPLETE, FAIL, PRUNED, Outcome
from sweeper.engine.queue import Queue
from sweeper.engine.rungs import overfit, scored_steps
from sweeper.forecast import Capacity
from sweeper.plan.grid import parse
from sweeper.search.run import search
from sweeper.search.space import search_space
from sweeper.search.study import SearchSettings
from sweeper.settings import Settings
from sweeper.store import Store
from tests.evaluation import synthetic
from trainers.files import MANIFEST, write_json

SETTINGS = {"sampler": "tpe", "pruner": "none", "objective": "score", "trials": 6, "seed": 0, "storage": None}


def dose(spec, step):
    """Of training: 1 is best; prior preservation bears twice of it."""
    return spec.lr * step / 2e-4 / (2 if spec.prior else 1)


def subject(spec, step):
    return 1 - np.exp(-2 * dose(spec, step))


def prompts(spec, step):
    return 1 / (1 + (dose(spec, step) / 2) ** 3)


@dataclass
class Cluster:
    """In place of the crew. `events`: what it was asked to do, checkpoint by checkpoint."""

    workers: int = 1
    fails: object = lambda spec: False  # whether a training fails
    stops_after: float = np.inf  # checkpoints until Ctrl-C
    copies: object = lambda spec, step: False  # whether a checkpoint copies the photographs
    subject: object = subject
    prompts: object = prompts
    events: list = field(default_factory=list)
    most: int = 0  # jobs at once

    def __call__(self, _engine, workplace, _say):
        self.queue, self.store, self.jobs = Queue(workplace.jobs), Store(workplace.store), []
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.queue.close()

    @property
    def capacity(self):
        return Capacity(self.workers)

    def add(self, task):
        job = self.queue.add(task)
        if task.kind.shared:
            job.finish(Outcome(COMPLETE))
        else:
            self.jobs.append(job)
        return job

    def wait(self, watch):
        while True:
            watch(self.jobs)
            running = [job for job in self.jobs if job.outcome is None][: self.workers]
            self.most = max(self.most, len(running))
            if not running:
                return
            for job in running:
                self._go_on(job)

    def _go_on(self, job):
        """The next checkpoint of a job, as a worker does it."""
        if job.task.export:
            write_json(job.task.export.to / MANIFEST, {})
            return job.finish(Outcome(COMPLETE))
        training = job.training
        scored = scored_steps(training, self.store)
        left = [step for step in training.steps if step not in scored]
        if failed := self.fails(training.spec):
            return job.finish(failed if isinstance(failed, Outcome) else Outcome(FAIL, "loss is nan"))
        if scored and left:
            reason = overfit(training, self.store) if job.task.early_stop else ""
            if job.task.guided and not reason and job.verdict.step < scored[-1]:
                return None
            if reason or job.verdict.reason:
                return job.finish(Outcome(PRUNED, reason or job.verdict.reason))
        if left:
            self._score(training, left[0])
        if len(left) <= 1:
            job.finish(Outcome(COMPLETE))
        return None

    def _score(self, training, step):
        if len(self.events) >= self.stops_after:
            raise KeyboardInterrupt
        spec = training.spec
        self.events.append((spec.lr, step))
        for point in (p for p in training.points if p.step == step):
            rng = np.random.default_rng([step, int(spec.lr * 1e9)])
            copied = {"copying": synthetic.per_image(0.99, rng)} if self.copies(spec, step) else {}
            shape = {"prompts": len(point.evaluation.prompts), "images": point.evaluation.images_per_prompt}
            card = synthetic.scorecard(self.subject(spec, step), self.prompts(spec, step), rng, 0.02, **copied, **shape)
            card["metrics"] = {name: float(np.mean(values)) for name, values in card["values"].items()}
            write_json(self.store.baselines(spec, point) / "values.json", synthetic.baselines(**shape))
            write_json(self.store.checkpoint(spec, step) / MANIFEST, {})
            write_json(self.store.evaluation(spec, point) / "scores.json", card | {"backbones": {}})


class NoTracker:
    command = status = ""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def link(self, sweep):
        return ""

    def publish(self, results):
        NoTracker.results = results


SET = {"lr": float, "prior_preservation": lambda text: text == "true"}  # without composing, which costs 0.1 s


@lru_cache
def composed(lines):
    return compose("sweep", list(lines))


def config_of(lines):
    typed = dict(line.split("=", 1) for line in lines)
    config = deepcopy(composed(tuple(line for line in lines if line.split("=")[0] not in SET)))
    for key in typed.keys() & SET.keys():
        config[key] = SET[key](typed[key])
    return config


def space_of(*typed):
    def parsed(lines):
        return parse(lines, None)

    return search_space(parsed(typed), config_of, parsed)


def without_work(monkeypatch, folder, name, cluster, keep="all", early_stop=None):
    """Has sweeps train on `cluster`, track nothing and write nothing. Returns the settings of one."""
    monkeypatch.setattr(sweep, "Crew", cluster)
    monkeypatch.setattr(sweep, "make_engine", lambda _: InlineEngine(Resources()))
    monkeypatch.setattr(sweep, "Tracker", NoTracker)
    monkeypatch.setattr(sweep.write, "write", lambda results: (results, {}))
    return Settings(
        output_dir=folder, name=name, plan_only=False, gpus_per_trial=1, cpu_trials=1, keep=keep,
        early_stop=early_stop, tracking_uri=None, experiment="", engine="local",
    )  # fmt: skip


def run_search(monkeypatch, folder, typed, cluster=None, early_stop=None, keep="all", **asked):
    """Exit code and results of a search on a cluster that trains nothing."""
    settings = without_work(monkeypatch, folder, "search", cluster or Cluster(), keep, early_stop)
    code = search(space_of(*typed), SearchSettings(**SETTINGS | asked), settings)
    return code, NoTracker.results
