"""The whole command on random models: an experiment run, judged, shown, and not run again."""

import json
import subprocess
import sys

import pytest

from tests.sweeper.tiny_sweep import PROJECT, environment, make_models


def blog(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sweeper.blog", *arguments],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.slow
def test_an_experiment_is_run_judged_and_shown_and_then_not_run_again(tmp_path):
    models = [a for a in make_models(tmp_path) if not a.startswith(("subject.", "prior."))]
    arguments = ["--only", "ema", *models, "lr=1e-3", f"output_dir={tmp_path / 'outputs'}"]
    first, second = blog(*arguments), blog(*arguments)
    assert first.returncode == second.returncode == 0, first.stdout + first.stderr + second.stderr
    assert "$ python sweep.py -m experiment=blog/ema" in first.stdout
    assert "$ python" not in second.stdout
    folder = tmp_path / "outputs" / "blog-miniature"
    missing = {c["number"]: c["missing"] for c in json.loads((folder / "blog.json").read_text())["claims"]}
    assert {number for number, reason in missing.items() if "no results yet" not in reason} == {10}
    assert (folder / "blog.html").read_text().count('<section id="claim-') == 12
    scores = (tmp_path / "outputs/store/trainings").glob("*/evaluations/000004-*/scores.json")
    one, other = (json.loads(path.read_text())["values"]["dino"] for path in scores)
    assert one != other  # an average was sampled, not the last weights
