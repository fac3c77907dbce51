from pathlib import Path

import pytest
from filelock import FileLock

from evaluation.spec import EvalSpec
from sweeper.plan.types import Cell
from tests.sweeper.browser import browser as browser
from tests.sweeper.tiny_sweep import GRID, PROJECT, make_models, sweep
from trainers.files import read_json, write_json
from trainers.spec import ModelSpec, PriorSpec, SampleSpec, SubjectSpec, TrainSpec

PHOTOGRAPHS = PROJECT / "miniature" / "subjects" / "cat_toy"


@pytest.fixture(scope="session")
def make_cell():
    """A cell without a model: enough to plan with."""

    def make(lr=2e-6, step=400, prior=False, text_encoder=False, scheduler="pndm", seed=0, horizon=None, eval_every=0):
        train = TrainSpec(
            model=ModelSpec("model"),
            subject=SubjectSpec("images", "dog", class_prompt="a photo of a dog", images=str(PHOTOGRAPHS)),
            prior=PriorSpec(num_class_images=10) if prior else None,
            lr=lr,
            train_text_encoder=text_encoder,
            seed=seed,
            horizon=horizon,
        )
        evaluation = EvalSpec(prompts=("{} on the beach", "{} at night"), images_per_prompt=3, class_images=4)
        return Cell(train, step, SampleSpec(scheduler), evaluation, eval_every)

    return make


def once(tmp_path_factory, worker_id, name, make):
    """What `make(folder)` returns, as JSON holds it; several processes that test share it."""
    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / name
    note = folder / "made.json"
    with FileLock(f"{folder}.lock"):
        if not note.exists():
            folder.mkdir()
            write_json(note, make(folder))
    return read_json(note)


@pytest.fixture(scope="session")
def models(tmp_path_factory, worker_id):
    """Arguments that choose tiny models."""
    return once(tmp_path_factory, worker_id, "models", make_models)


@pytest.fixture(scope="session")
def finished(models, tmp_path_factory, worker_id):
    """An undisturbed sweep: (output folder, what it printed)."""

    def make(out):
        code, printed = sweep(*GRID, *models, f"output_dir={out}", "name=undisturbed")
        assert code == 0, printed
        return [str(out), printed]

    out, printed = once(tmp_path_factory, worker_id, "outputs", make)
    return Path(out), printed
