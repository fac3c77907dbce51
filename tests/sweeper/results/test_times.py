"""When a sweep ran and what its time went into, over several runs."""

from dataclasses import replace

import pytest

from sweeper.report import write
from sweeper.report.terminal import took
from sweeper.results.times import Earlier, own_times, with_times
from tests.sweeper.report.synthetic import make_results

SMALL = {"lr": (1e-6,), "steps": (400,)}


@pytest.fixture
def run(tmp_path):
    """A run of the command: its finished results, and its own times."""

    def finish(own, worked=True):
        earlier = Earlier.of(tmp_path)
        results, _ = write.write(with_times(make_results(tmp_path, SMALL, images=False), own, earlier, worked))
        return results, own_times(results, earlier, own["wall"])

    return finish


def test_a_rerun_keeps_the_times_of_the_run_that_did_the_work(run, tmp_path):
    first, own = run({"wall": 700.0, "training": 600.0})
    assert own["training"] == 600
    assert own["wall"] == 700
    before = Earlier.of(tmp_path)
    again, own = run({"wall": 3.0}, worked=False)
    assert again.rerun
    assert not first.rerun
    assert (again.timings, again.began, again.ended) == (first.timings, first.began, first.ended)
    assert Earlier.of(tmp_path) == before
    assert own == {"wall": 3.0}
    assert took(own, again.timings).startswith("3 s: everything was there already. It took 11 min 40 s: training")


def test_a_sweep_that_is_extended_adds_up_its_runs(run):
    first, _ = run({"wall": 700.0, "training": 600.0})
    second, own = run({"wall": 100.0, "training": 50.0, "sampling": 20.0})
    assert second.timings["training"] == 650
    assert second.timings["wall"] == pytest.approx(800, abs=5)  # and the pages
    assert second.began == first.began < first.ended < second.ended
    assert (own["training"], own["sampling"], own["wall"]) == (50, 20, 100)
    assert own["pages"] > 0


@pytest.mark.parametrize("left", ["", "{", "[]", '{"timings": 3}', '{"timings": {"wall": "long"}}'])
def test_a_broken_file_is_none(run, tmp_path, left):
    (tmp_path / "results.json").write_text(left)
    results, _ = run({"wall": 3.0}, worked=False)
    assert not results.rerun
    assert results.timings["wall"] == pytest.approx(3, abs=5)


def test_what_a_killed_run_wrote_on_the_way_is_no_time(run, tmp_path):
    results = replace(make_results(tmp_path, SMALL, images=False), running=True, began=5.0)
    write.write(results)
    assert Earlier.of(tmp_path) == Earlier(began=5.0)
    finished, _ = run({"wall": 3.0}, worked=False)
    assert not finished.rerun
    assert finished.began == 5.0
