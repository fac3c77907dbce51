import pytest

from evaluation.spec import EvalSpec
from sweeper.plan.types import Cell
from tests.sweeper.tiny_sweep import GRID, make_models, sweep
from trainers.spec import ModelSpec, PriorSpec, SampleSpec, SubjectSpec, TrainSpec


@pytest.fixture(scope="session")
def make_cell():
    """A cell without files: enough to plan with."""

    def make(lr=2e-6, step=400, prior=False, text_encoder=False, scheduler="pndm", seed=0, horizon=None, eval_every=0):
        train = TrainSpec(
            model=ModelSpec("model"),
            subject=SubjectSpec("images", "dog", class_prompt="a photo of a dog"),
            prior=PriorSpec(num_class_images=10) if prior else None,
            lr=lr,
            train_text_encoder=text_encoder,
            seed=seed,
            horizon=horizon,
        )
        evaluation = EvalSpec(prompts=("{} on the beach", "{} at night"), images_per_prompt=3, class_images=4)
        return Cell(train, step, SampleSpec(scheduler), evaluation, eval_every)

    return make


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Arguments that choose tiny models."""
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def finished(models, tmp_path_factory):
    """An undisturbed sweep: (output folder, what it printed)."""
    out = tmp_path_factory.mktemp("outputs")
    code, printed = sweep(*GRID, *models, f"output_dir={out}", "name=undisturbed")
    assert code == 0, printed
    return out, printed
