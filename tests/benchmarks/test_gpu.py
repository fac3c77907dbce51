"""`make gpu`, as far as it can be run without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.lines import FAIL, PASS, SKIPPED, Line, attempted, judged, markdown, skipped
from benchmarks.gpu.repeat import apart, words
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.speed import memory_line
from benchmarks.gpu.sweeps import complete, differences
from benchmarks.training import MINIATURE
from trainers.memory import MARGIN, estimate

PROJECT = Path(__file__).parents[2]


def test_a_check_that_raises_is_a_line_that_fails_and_the_table_has_all():
    def broken():
        raise RuntimeError("no kernel image\nand more")

    found = [judged("one", "95%", "90%", True), judged("two", "80%", "90%", False), skipped("three", "one card")]
    found += attempted("four", broken) + attempted("five", lambda: [Line("five", "3 it/s")])
    assert [line.verdict for line in found] == [PASS, FAIL, SKIPPED, FAIL, "reported"]
    text = markdown("NVIDIA X", ["sd15, 9 minutes."], found)
    assert text.startswith("# NVIDIA X\n\nsd15, 9 minutes.\n\n| what |")
    assert "| four | RuntimeError: no kernel image | no error | FAIL |" in text
    assert len(text.strip().splitlines()) == 6 + len(found)


def test_an_estimate_passes_up_to_the_margin(tmp_path):
    spec = Setup(str(MINIATURE), str(tmp_path), 64, tmp_path, 1).spec()
    guess = estimate(spec, "cuda").tensors
    for peak, verdict in ((guess / (MARGIN - 0.01), PASS), (guess / (MARGIN + 0.01), FAIL)):
        assert memory_line("x", spec, peak).verdict == verdict
    for peak, verdict in ((guess / (2 - MARGIN + 0.01), PASS), (guess / (2 - MARGIN - 0.01), FAIL)):
        assert memory_line("x", spec, peak).verdict == verdict


def test_distances_are_euclidean():
    import torch

    one = {"a": torch.zeros(2), "b": torch.zeros(1)}
    other = {"a": torch.tensor([0.0, 3.0]), "b": torch.tensor([4.0])}
    assert apart(one, other) == pytest.approx(5)
    assert words(apart(one, one)) == "bit for bit equal"


def test_what_is_said_of_two_sweeps():
    cells = [{"state": "COMPLETE", "metrics": {"dino": 0.5, "score": None}}]
    other = [{"state": "COMPLETE", "metrics": {"dino": 0.75, "score": 0.1}}]
    assert differences(cells, cells) == "equal"
    assert differences(cells, other) == "2.5e-01 apart at most"
    assert complete(cells)
    assert not complete([])
    assert not complete([{"state": "FAIL"}])


@pytest.mark.options
def test_all_of_it_runs_in_small_without_a_gpu(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--small", "--to", str(tmp_path)],
        cwd=PROJECT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (table,) = tmp_path.iterdir()
    assert "| the same, a worker killed | COMPLETE, COMPLETE | COMPLETE | pass |" in table.read_text()


def test_without_a_gpu_it_says_what_to_type(monkeypatch, capsys):
    from benchmarks.gpu import __main__ as command

    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu"])
    monkeypatch.setattr(command.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command.main()
    assert "there is no GPU; --small runs without" in capsys.readouterr().err
