"""Who made a result is recorded, and mixing is said."""

import subprocess
from dataclasses import replace

import pytest

from trainers import provenance as module
from trainers.provenance import LIBRARIES, Provenance, mixed, provenance


@pytest.fixture(autouse=True)
def _asked_anew():
    module._commit.cache_clear()
    yield
    module._commit.cache_clear()


def test_versions_device_and_commit_are_recorded():
    made = provenance("cpu")
    assert {"torch", "diffusers", "transformers", "accelerate", "peft"} <= {name for name, _ in made.versions}
    assert made.device == "cpu"
    assert Provenance.from_json(made.to_json()) == made


def test_git_is_asked_once(monkeypatch, tmp_path):
    (tmp_path / ".git").mkdir()
    calls = []

    def run(*arguments, **_):
        calls.append(arguments)
        return subprocess.CompletedProcess(arguments, 0, "abc\n")

    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    assert [provenance().commit for _ in range(3)] == ["abc"] * 3
    assert len(calls) == 1


@pytest.mark.parametrize("checkout", [True, False])
def test_without_git_or_a_checkout_there_is_no_commit(monkeypatch, tmp_path, checkout):
    def run(*_, **__):
        raise FileNotFoundError("git")

    if checkout:
        (tmp_path / ".git").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    assert provenance().commit is None


ONE = Provenance((("diffusers", "0.42.1"), ("dreambooth-sweep", "0.2.0"), ("torch", "2.8.0")), "cpu", "abc")


def test_one_maker_needs_no_words():
    assert mixed([ONE, ONE, None]) == ""
    assert mixed([]) == ""


def test_other_versions_and_devices_are_said():
    newer = replace(ONE, versions=(("diffusers", "0.42.1"), ("dreambooth-sweep", "0.2.0"), ("torch", "2.9.0")))
    assert mixed([ONE, newer]) == (
        "Compared results were made by different versions or devices: torch 2.8.0; torch 2.9.0."
    )
    assert "NVIDIA H200; cpu" in mixed([ONE, replace(ONE, device="NVIDIA H200")])


def test_another_commit_alone_is_not_said():
    """A change of this project that changes a result changes its signature or the version of its metric."""
    assert mixed([ONE, replace(ONE, commit="def")]) == ""
    assert "dreambooth-sweep" not in LIBRARIES
