"""The command from Python, from another folder, and installed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import run
from sweeper.main import written
from tests.sweeper.tiny_sweep import GRID, PROJECT, environment, read
from trainers.errors import SpecError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2e-6, "2e-6"),
        ([1e-6, 2e-6], "1e-6,2e-6"),
        (True, "true"),
        (None, "null"),
        ("sd15", "sd15"),
        (Path("/my photos"), "'/my photos'"),
        (["it's", "a,b"], r"'it\'s','a,b'"),
        ([["{} at night", "{}"]], "['{} at night','{}']"),
    ],
)
def test_values_in_hydras_grammar(value, text):
    assert written(value) == text


def test_a_plan_from_python(capsys, tmp_path):
    prompts = [["{} at night, it's dark", "a {}"]]
    asked = {"lr": [1e-6, 2e-6], "prior_preservation": [True, False], "evaluation.prompts": prompts}
    assert run("subject=face", output_dir=tmp_path, plan_only=True, **asked) is None
    assert "cells             4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"lrr": 1}, "lrr is no setting"), ({"lr": -1}, "lr=-1"), ({"lr": "interval(1e-7,1e-5)"}, "lr=")],
)
def test_what_the_command_refuses_is_an_error(asked, said):
    with pytest.raises(SpecError, match=said):
        run(plan_only=True, **asked)


def test_the_results_are_those_of_the_command(finished, models):
    """As values. Everything is there already, so it says so."""
    out, _ = finished
    before = read(out / "undisturbed")
    code = "import json, sys; from sweeper import run\n"
    code += "results = run(*json.loads(sys.argv[1]), lr=[1e-4, 2e-4], prior_preservation=True, name='undisturbed')\n"
    code += "print(json.dumps([[row.params['lr'], row.metrics['dino']] for row in results.rows if row.asked]))"
    typed = [*models, f"output_dir={out}"]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(typed)],
        capture_output=True, text=True, cwd=PROJECT, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert GRID == ("-m", "lr=1e-4,2e-4", "prior_preservation=true")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == [[cell["params"]["lr"], cell["metrics"]["dino"]] for cell in before["cells"]]
    assert "everything was there already. It took" in done.stdout
    after = read(out / "undisturbed")
    assert (after["timings"], after["began"], after["ended"]) == (before["timings"], before["began"], before["ended"])


@pytest.mark.options
def test_installed_it_works_from_another_folder(tmp_path):
    """What the wheel holds, and nothing else of the project."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("sweeper", "trainers", "evaluation", "miniature", "hydra_plugins", "conf"):
        shutil.copytree(PROJECT / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "sweep.py", site)
    for typed in (["--help"], ["lr=1e-6", "plan_only=true"], ["-m", "lr=1e-6,2e-6", "plan_only=true"]):
        code = f"import sys; sys.argv = {['/bin/dreambooth-sweep', *typed]!r}; import sweep; sweep.command()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, cwd=elsewhere, env={**environment(), "PYTHONPATH": str(site)}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("Plan  miniature" in done.stdout) != (typed == ["--help"])
    wheel = (PROJECT / "pyproject.toml").read_text()
    assert 'dreambooth-sweep = "sweep:command"' in wheel
    assert '"sweep.py" = "sweep.py"' in wheel
