"""One training with the evaluation of its checkpoint, as a sweep gives it to a worker."""

from pathlib import Path

from accelerate import PartialState

from benchmarks.gpu.setup import Setup
from evaluation.spec import EvalSpec
from sweeper.engine.jobs import Kind, Task
from sweeper.engine.queue import Queue
from sweeper.engine.worker import run_job
from sweeper.fit import Card, Fit
from sweeper.plan.types import Cell, Training
from sweeper.settings import Settings
from sweeper.store import Store
from trainers.errors import DoesNotFit
from trainers.files import read_json
from trainers.spec import SampleSpec, TrainSpec

STEPS = 4  # optimizer steps
EVALUATION = EvalSpec(
    prompts=("a photo of {}",),
    images_per_prompt=2,
    class_images=2,
    clip="benchmark",
    clip_repo="miniature/weights/clip",
    dino="benchmark",
    dino_repo="miniature/weights/identity",
)


def cell_of(spec: TrainSpec, precision: str = "no") -> Cell:
    """precision: of sampling."""
    return Cell(spec, STEPS, SampleSpec("ddim", 2, precision=precision), EVALUATION)


def fitted(cell: Cell, memory: int, setup: Setup, trials: int = 1) -> Cell | str:
    """The cell with what `fit=auto` takes for one of `trials` on a card of `memory` bytes; why nothing makes it fit."""
    settings = Settings(setup.folder, None, False, 1, 1, "all", None, None, "", "local", trials_per_gpu=trials)
    card = Card(memory // trials, setup.card, setup.capability)
    try:
        return Fit(setup.folder, settings, card, card.memory).cells([cell], ())[0]
    except DoesNotFit as error:
        return str(error)


def done(cell: Cell, folder: Path, gpu: bool) -> tuple[str, str]:
    """(the job's state, with the reason of a failure; the note that a batch was halved) after a worker did it here."""
    training = Training(cell.train, (cell,))
    store = Store(folder / "store")
    queue = Queue(folder / "jobs")
    queue.folder.mkdir(parents=True)
    job = queue.add(Task(Kind.TRAIN, training))
    run_job(job, store, PartialState(cpu=not gpu))
    outcome = job.outcome
    note = store.note(cell.train)
    return f"{outcome.state} {outcome.reason}".strip() if outcome else "", read_json(note) if note.exists() else ""
