import copy
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import same
from benchmarks.record import KINDS, compare, flat, read_part, tensors

RESULTS = {
    "command": "python sweep.py",
    "timings": {"wall": 1.5},
    "sweet_spot": {"found": True, "step": 40, "region": [3, 1], "onset": {}},
    "cells": [{"state": "COMPLETE", "metrics": {"dino": 0.1}, "vetoes": [], "log": "a.log"}],
}


def compared(change, kind="results"):
    """RESULTS against what `change` makes of a copy."""
    new = copy.deepcopy(RESULTS)
    change(new)
    return compare(kind, dict(flat(RESULTS)), dict(flat(new)))


def test_equal_results_are_the_same():
    found = compared(lambda new: None)
    assert (found.differences, found.extras) == ([], [])
    assert found.compared == 10


def test_a_metric_that_differs_in_its_last_bit_is_found():
    found = compared(lambda new: new["cells"][0]["metrics"].update(dino=0.1 + 2**-56))
    assert found.differences == ["cells/0/metrics/dino: 0.1, now 0.10000000000000002"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda new: new["cells"][0].pop("state"), "cells/0/state"),
        (lambda new: new["cells"][0].pop("vetoes"), "cells/0/vetoes/length"),
        (lambda new: new["cells"][0]["vetoes"].append("noise"), "cells/0/vetoes/length"),
        (lambda new: new["cells"].append({}), "cells/length"),
        (lambda new: new["sweet_spot"]["region"].reverse(), "sweet_spot/region/0"),
        (lambda new: new["sweet_spot"].pop("onset"), "sweet_spot/onset"),
        (lambda new: new["sweet_spot"]["onset"].update(curve=40), "sweet_spot/onset"),
        (lambda new: new["sweet_spot"].update(step=40.0), "sweet_spot/step"),
    ],
)
def test_what_is_missing_or_otherwise_is_a_difference(change, path):
    assert compared(change).differences[0].startswith(f"{path}: ")


def test_what_only_the_new_one_tells_is_named_and_no_difference():
    found = compared(lambda new: new.update(schema=2, made={"by": "me"}))
    assert (found.differences, found.extras) == ([], ["schema", "made/by"])


@pytest.mark.parametrize("kind", ["signatures", "tensors", "images"])
def test_one_more_training_checkpoint_or_image_is_a_difference(kind):
    found = compare(kind, {"trainings/a": "there"}, {"trainings/a": "there", "trainings/b": "there"})
    assert (found.differences, found.extras) == (["trainings/b: only now"], [])


def test_what_two_runs_never_have_in_common_is_not_compared():
    found = compared(lambda new: (new.update(command="other", timings={}), new["cells"][0].pop("log")))
    assert (found.differences, found.extras) == ([], [])


def test_nothing_to_compare_is_a_difference():
    assert compare("images", {}, {}).differences


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda weights: weights["a"][0].add_(1e-7), "a"),
        (lambda weights: weights.update(b=weights["b"].double()), "b"),
        (lambda weights: weights.update(b=weights["b"].reshape(2, 1)), "b"),
        (lambda weights: weights.pop("b"), "b"),
        (lambda weights: None, None),
    ],
)
def test_tensors_are_compared_by_content(tmp_path, change, differs):
    weights = {"a": torch.ones(2, 3), "b": torch.zeros(2)}
    save_file(weights, tmp_path / "old.safetensors", {"one": "1", "other": "2"})
    change(weights)
    save_file(weights, tmp_path / "new.safetensors", {"other": "2"})
    found = compare("tensors", *(dict(tensors(tmp_path / f"{name}.safetensors")) for name in ("old", "new")))
    assert [line.split(":")[0] for line in found.differences] == ([differs] if differs else [])


def output(folder, png=b"PNG", score=0.1, baselines="0123456789abcdef", untuned=b"untuned"):
    """What a sweep of the name `part` leaves, as far as it is read."""
    training = folder / "store/trainings/abc"
    results = {**RESULTS, "checkpoint": str(training / "checkpoints/000040")}
    results["untuned"] = str(folder / f"store/baselines/{baselines}")
    files = {
        folder / "part/results.json": json.dumps(results).encode(),
        training / "loss.json": b'{"loss": [0.5]}',
        training / "evaluations/000040-def/scores.json": json.dumps({"dino": score, "seconds": {"a": 1}}).encode(),
        training / "evaluations/000040-def/class/00-00.png": png,
        folder / f"store/baselines/{baselines}/values.json": b'{"made_for": "' + baselines.encode() + b'"}',
        folder / f"store/baselines/{baselines}/00-00.png": untuned,
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (training / "checkpoints/000040").mkdir(parents=True)
    save_file({"a": torch.ones(2)}, training / "checkpoints/000040/unet.safetensors")
    return read_part(folder, "part")


def test_everything_of_a_sweep_is_read_wherever_it_ran(tmp_path):
    old, new = output(tmp_path / "old"), output(tmp_path / "new")
    assert tuple(old) == KINDS
    assert all(old.values())
    assert old == new
    first, *others = old["signatures"]
    assert first.startswith("baselines/images-")
    assert others == [
        "trainings/abc",
        "trainings/abc/checkpoints/000040",
        "trainings/abc/evaluations/000040-def",
    ]


def test_baselines_are_known_by_their_images_whatever_their_folder_is_called(tmp_path):
    old, named = output(tmp_path / "old"), output(tmp_path / "named", baselines="fedcba9876543210")
    assert [compare(kind, old[kind], named[kind]).differences for kind in KINDS] == [[]] * len(KINDS)
    other = output(tmp_path / "other", untuned=b"other")
    assert compare("signatures", old["signatures"], other["signatures"]).differences


def test_the_table_names_what_differs(tmp_path, capsys):
    records = [
        {part: output(tmp_path / name / part, **other) for part in same.PARTS}
        for name, other in (("old", {}), ("new", {"png": b"other"}))
    ]
    assert same.show(records[0], records[0])
    assert "differ" not in capsys.readouterr().out
    assert not same.show(*records)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("1 differ") for line in lines) == len(same.PARTS)
    assert any("trainings/abc/evaluations/000040-def/class/00-00.png" in line for line in lines)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setattr(same, "PROJECT", folder)
    for name, value in (("NAME", "a"), ("EMAIL", "a@b")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    same.git("init", "--quiet")
    (folder / ".gitignore").write_text("ignored\n")
    (folder / "file").write_text("first")
    same.git("add", ".")
    same.git("commit", "--quiet", "--message", "first")
    (folder / "file").write_text("second")
    (folder / "ignored").write_text("")
    (folder / "untracked").write_text("")
    return folder


def test_a_commit_is_checked_out_aside_and_the_working_tree_copied(repository):
    with same.checkout("HEAD") as (name, code), same.checkout(".") as (tree, copied):
        assert name == same.git("rev-parse", "HEAD").strip()
        assert (code / "file").read_text() == "first"
        assert (copied / "file").read_text() == "second"
        assert sorted(path.name for path in copied.iterdir()) == [".gitignore", "file", "untracked"]
    assert len(same.git("worktree", "list").splitlines()) == 1
    assert not code.exists()
    assert not copied.exists()
    (repository / "file").write_text("third")
    with same.checkout(".") as (other, _):
        assert other != tree


def test_an_unknown_revision_is_one_line():
    command = [sys.executable, "-m", "benchmarks.same", "no-such-revision", "."]
    ran = subprocess.run(command, cwd=same.PROJECT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("same: no-such-revision: no such revision")
    assert len(ran.stderr.splitlines()) == 1


def test_a_revision_runs_with_its_own_files_alone(tmp_path, capsys):
    code = tmp_path / "code"
    code.mkdir()
    (code / "sweep.py").write_text(
        "import os, sys\n"
        "found = {path for path in sys.path if os.path.exists(os.path.join(path, 'sweep.py'))}\n"
        "sys.exit(found != {os.getcwd()})\n"
    )
    same.run("abc", code, "part", ["lr=1e-6"], tmp_path)
    assert capsys.readouterr().out.startswith("abc part: ")


def test_a_command_that_fails_ends_in_one_line_that_names_its_log(tmp_path):
    (tmp_path / "sweep.py").write_text("import sys; sys.exit('no such model')")
    with pytest.raises(SystemExit, match=r"same: abc: part ended with code 1; see .*part.log"):
        same.run("abc", tmp_path, "part", ["lr=1e-6"], tmp_path)
    assert (tmp_path / "part.log").read_text() == "no such model\n"
