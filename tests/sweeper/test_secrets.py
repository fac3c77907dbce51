"""A password that is typed goes to its server and nowhere else."""

import pytest

from sweeper.commands import without_passwords
from sweeper.search.study import SearchSettings, _open
from sweeper.settings import one_line
from tests.sweeper.tiny_sweep import sweep

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("http://me:hunter2@host:5000/path", "http://me:***@host:5000/path"),
        ("postgresql+psycopg2://me:hun:t@er2@host/db", "postgresql+psycopg2://me:***@host/db"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("'tracking.uri=https://me:hunter2@a' storage=mysql://b:c@d", "'tracking.uri=https://me:***@a' storage=mysql://b:***@d"),
        ("http://host:5000/me@home http://host:1", "http://host:5000/me@home http://host:1"),
        ("sqlite:////a/b.db me:hunter2@host", "sqlite:////a/b.db me:hunter2@host"),  # no address
    ],
)  # fmt: skip
def test_an_address_loses_its_password(typed, shown):
    assert without_passwords(typed) == shown


@pytest.mark.faults
def test_nothing_that_a_sweep_leaves_or_says_holds_it(models, tmp_path):
    uri = f"http://me:{PASSWORD}@127.0.0.1:9"
    code, printed = sweep("-m", "lr=1e-4", *models, "eval_every=0", f"tracking.uri={uri}", f"output_dir={tmp_path}")
    assert code == 0, printed
    assert "http://me:***@127.0.0.1:9" in printed
    assert "kept aside" in printed
    assert PASSWORD not in printed
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "report.html" for path in left)
    assert [path for path in left if PASSWORD.encode() in path.read_bytes()] == []


def test_nor_does_a_refusal(tmp_path, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    asked = SearchSettings("tpe", "none", "score", 1, 0, f"postgresql://me:{PASSWORD}@127.0.0.1:9/db")
    with pytest.raises(SystemExit) as refused, one_line():
        _open(asked, tmp_path, "", None)
    assert "hydra.sweeper.storage=postgresql://me:***@127.0.0.1:9/db" in str(refused.value)
    assert PASSWORD not in str(refused.value)
