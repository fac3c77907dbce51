"""Commands that work as they are pasted."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import commands


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A project with an environment in it, which is not activated."""
    programs = tmp_path / "my project" / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "dreambooth-sweep"):
        (programs / name).symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return programs


def test_a_program_is_called_by_its_path_from_here(environment, monkeypatch):
    monkeypatch.chdir(environment.parents[1])
    assert commands.python() == ".venv/bin/python"
    monkeypatch.chdir("/")
    assert Path(commands.python()) == environment.relative_to("/") / "python"
    monkeypatch.chdir(environment.parent)
    assert subprocess.run([commands.python(), "-c", ""], check=False).returncode == 0


def test_in_an_activated_environment_its_name_does(environment, monkeypatch):
    monkeypatch.chdir(environment.parents[1])
    monkeypatch.setenv("PATH", f"{environment}:/usr/bin")
    assert commands.python() == "python"


def test_elsewhere_by_its_whole_path(environment, monkeypatch, tmp_path):
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert commands.python() == str(environment / "python")


@pytest.mark.parametrize(
    ("argv", "spec", "typed"),
    [
        (["sweep.py", "-m", "lr=1e-6"], None, ".venv/bin/python sweep.py -m lr=1e-6"),
        (["../a b/sweep.py", "name=it's"], None, """.venv/bin/python '../a b/sweep.py' 'name=it'"'"'s'"""),
        (["/x/sweeper/blog/__main__.py", "a"], "sweeper.blog.__main__", ".venv/bin/python -m sweeper.blog a"),
        (["/x/.venv/bin/dreambooth-sweep", "lr=1e-6"], None, ".venv/bin/dreambooth-sweep lr=1e-6"),
    ],
)
def test_the_command_is_told_as_it_can_be_typed_again(environment, monkeypatch, argv, spec, typed):
    monkeypatch.chdir(environment.parents[1])
    monkeypatch.setattr(sys, "argv", argv)
    main = type(sys)("__main__")
    main.__spec__ = spec and type(sys)("spec")
    if spec:
        main.__spec__.name = spec
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert commands.typed() == typed
    assert shlex.split(typed)[-1] == argv[-1]
