import pytest


@pytest.fixture(scope="session")
def planned(tmp_path_factory):
    """Arguments that need no weights: any folder is a model to the plan."""
    from tests.trainers import tiny

    root = tmp_path_factory.mktemp("model")
    (root / "model_index.json").write_text("{}")
    images = tiny.make_images(root / "images", 2)
    return [
        *(f"model.{name}={root}" for name in ("repo", "clip", "dino")),
        f"subject.images={images}",
        "subject.class_noun=dog",
    ]
