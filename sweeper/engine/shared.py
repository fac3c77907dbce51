"""What several trainings need, made once by jobs of its own, so that no worker waits while another makes it."""

from pathlib import Path

from sweeper.engine.crew import Crew
from sweeper.engine.jobs import FAIL, Job, Kind, Task
from sweeper.plan.inversions import inversions
from sweeper.plan.types import Training
from sweeper.store import Store


class SharedWork:
    """A lone worker makes what it needs as it goes; for several, each piece is a job that the trainings need."""

    def __init__(self, crew: Crew, store: Store) -> None:
        self.crew = crew
        self.store = store
        self._jobs: dict[str, Job] = {}  # by what they make

    @property
    def jobs(self) -> list[Job]:
        return list(self._jobs.values())

    def needs(self, training: Training) -> tuple[Job, ...]:
        """The jobs that must be COMPLETE before the training; adds those that nobody asked for yet."""
        if self.crew.capacity.workers == 1:
            return ()
        pieces = self._class_images(training) | self._inversion(training) | self._baselines(training)
        return tuple(self._job(name, task) for name, task in pieces.items())

    def _job(self, name: str, task: Task) -> Job:
        job = self._jobs.get(name)
        outcome = job.outcome if job else None
        if job is None or (outcome and outcome.state == FAIL):
            job = self._jobs[name] = self.crew.add(task)
        return job

    def _class_images(self, training: Training) -> dict[str, Task]:
        spec = training.spec
        if not spec.prior or spec.prior.folder or self.store.has_class_images(spec):
            return {}
        if not self.store.unscored(training):  # only metrics are missing
            return {}
        return {str(self.store.class_images(spec)): Task(Kind.CLASS_IMAGES, training)}

    def _inversion(self, training: Training) -> dict[str, Task]:
        first = inversions([self.store.left(training)], self.store.cache)
        left = {f"{name} {each.steps}": each.left for name, each in first.items()}  # others may ask for fewer steps
        return {name: Task(Kind.INVERSION, training) for name, steps in left.items() if steps}

    def _baselines(self, training: Training) -> dict[str, Task]:
        tasks: dict[Path, Task] = {}
        for point in self.store.missing(training):
            if not self.store.has_baselines(training.spec, point):
                folder = self.store.baselines(training.spec, point)
                tasks.setdefault(folder, Task(Kind.BASELINE, training, points=(point,)))
        return {str(folder): task for folder, task in tasks.items()}
