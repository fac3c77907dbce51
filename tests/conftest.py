import pytest

from tests import fake_hub


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


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of our own, with every repository that conf/model names, and an empty cache."""
    from huggingface_hub import constants

    made = fake_hub.Hub({name: fake_hub.zeros(name) for name in fake_hub.REPOSITORIES})
    server = made.start()
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", made.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield made
    server.shutdown()
    server.server_close()
