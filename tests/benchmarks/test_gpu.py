"""`make gpu`, as far as it can be run without a GPU."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.jobs import cell_of, fitted
from benchmarks.gpu.lines import FAIL, PASS, SKIPPED, Line, attempted, judged, markdown, skipped
from benchmarks.gpu.repeat import apart, words
from benchmarks.gpu.setup import GB, Setup
from benchmarks.gpu.speed import Measured, lines_of, memory_line
from benchmarks.gpu.sweeps import complete, differences, refusal
from benchmarks.training import MINIATURE
from trainers.memory import MARGIN, estimate

PROJECT = Path(__file__).parents[2]


def test_a_check_that_raises_is_a_line_that_fails_and_the_table_has_all():
    def broken():
        raise RuntimeError("no kernel image\nand more")

    found = [judged("one", "95%", "90%", True), judged("two", "80%", "90%", False), skipped("three", "one card")]
    found += [*attempted("four", broken), *attempted("five", lambda: [Line("five", "3 it/s")])]
    assert [line.verdict for line in found] == [PASS, FAIL, SKIPPED, FAIL, "reported"]
    text = markdown("NVIDIA X", ["sd15, 9 minutes."], found)
    assert text.startswith("# NVIDIA X\n\nsd15, 9 minutes.\n\n| what |")
    assert "| four | RuntimeError: no kernel image | no error | FAIL |" in text
    assert len(text.strip().splitlines()) == 6 + len(found)


def test_what_was_found_before_an_exception_stays():
    def breaks():
        yield Line("one", "3 it/s")
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert [line.verdict for line in attempted("all", breaks)] == ["reported", FAIL]


class Pretended(Setup):
    """With a GPU of 24 GB, or of `bytes`."""

    gpu, card, capability = True, "NVIDIA X", (8, 9)
    bytes = 24 * GB

    @property
    def memory(self):
        return self.bytes


@pytest.fixture
def setup(tmp_path):
    return Pretended(str(MINIATURE), str(tmp_path), 64, tmp_path, 1)


def test_options_that_the_card_is_too_small_for_are_left_out(setup, monkeypatch):
    needed = estimate(setup.spec(), "cuda").total
    found = Measured(seconds=1.0, bare=0.5, moving=0.91, peak=estimate(setup.spec(), "cuda").tensors, product=0.3)
    for memory, verdicts in ((needed - 1, [SKIPPED]), (needed, [PASS, PASS])):
        monkeypatch.setattr(Pretended, "bytes", memory)
        assert [line.verdict for line in lines_of("x", setup.spec(), setup, lambda *call: found)] == verdicts
    slow = replace(found, moving=0.89)
    assert next(lines_of("x", setup.spec(), setup, lambda *call: slow)).verdict == FAIL


def test_what_the_card_is_too_small_for_is_no_failure(setup, monkeypatch):
    cell = cell_of(setup.spec(2, mixed_precision="fp16"))
    assert fitted(cell, 24 * GB, setup) == cell
    assert "no option makes it fit" in fitted(cell, 10**6, setup)
    assert refusal(setup, "dreambooth") == ""
    needed = estimate(setup.spec(mixed_precision="fp16"), "cuda").total  # without the evaluation beside it
    monkeypatch.setattr(Pretended, "bytes", needed)
    assert "the device has" in refusal(setup, "dreambooth", trials=2)


def test_an_estimate_passes_up_to_the_margin():
    guess = 1000
    for peak, verdict in ((guess / (MARGIN - 0.01), PASS), (guess / (MARGIN + 0.01), FAIL)):
        assert memory_line("x", guess, peak).verdict == verdict
    for peak, verdict in ((guess / (2 - MARGIN + 0.01), PASS), (guess / (2 - MARGIN - 0.01), FAIL)):
        assert memory_line("x", guess, peak).verdict == verdict


def test_distances_are_euclidean():
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
