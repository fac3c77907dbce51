import pytest
import torch

from tests.trainers import tiny
from trainers.spec import PriorSpec, SampleSpec, TrainerSpec, TrainSpec


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory):
    """Folders of tiny pipelines by kind."""
    root = tmp_path_factory.mktemp("pipelines")
    return {
        "epsilon": tiny.make_pipeline(root / "epsilon"),
        "v_prediction": tiny.make_pipeline(root / "v", prediction="v_prediction", second=True),
        "dropout": tiny.make_pipeline(root / "dropout", dropout=0.5),
    }


@pytest.fixture(scope="session")
def instance_folder(tmp_path_factory):
    return tiny.make_images(tmp_path_factory.mktemp("instance"), count=3)


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory):
    return tiny.make_images(tmp_path_factory.mktemp("class"), count=5)


@pytest.fixture(scope="session")
def captioned_folder(tmp_path_factory):
    folder = tiny.make_images(tmp_path_factory.mktemp("captioned"), count=3)
    for i, image in enumerate(sorted(folder.glob("*.png"))[1:]):  # the first has the instance prompt
        image.with_suffix(".txt").write_text(f"a photo of sks dog {'in' if i else 'on'} the beach")
    return folder


@pytest.fixture(scope="session")
def make_spec(pipelines, instance_folder, captioned_folder):
    """TrainSpec of a tiny training; `prior=True`, trainer options and TrainSpec fields by keyword."""

    def make(kind="epsilon", prior=False, trainer=None, captioned=False, **fields):
        sample = SampleSpec("ddim", inference_steps=2)
        return TrainSpec(
            model=tiny.model_spec(pipelines[kind]),
            subject=tiny.subject_spec(captioned_folder if captioned else instance_folder),
            trainer=TrainerSpec(**(trainer or {})),
            prior=PriorSpec(num_class_images=5, weight=0.7, sample=sample) if prior else None,
            **{"lr": 1e-3, "batch_size": 2, **fields},
        )

    return make
