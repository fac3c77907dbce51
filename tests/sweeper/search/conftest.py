import optuna
import pytest
from hydra import initialize_config_dir

from sweeper.plan.grid import CONF
from sweeper.search.study import JOURNAL
from tests.sweeper.search import fake


@pytest.fixture(scope="session")
def planned(planned):
    return [*planned, "eval_every=100", "steps=400"]


@pytest.fixture
def hydra():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture
def space(planned, hydra):
    return lambda *typed: fake.space_of(*planned, *typed)


@pytest.fixture
def search(planned, hydra, monkeypatch, tmp_path):
    def run(*typed, folder="out", **options):
        return fake.run_search(monkeypatch, tmp_path / folder, [*planned, *typed], **options)

    return run


@pytest.fixture
def trials(tmp_path):
    """Of the study, as the dashboard reads them from its journal."""

    def read(folder="out"):
        journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / folder / "search" / JOURNAL))
        return optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(journal)).trials

    return read
