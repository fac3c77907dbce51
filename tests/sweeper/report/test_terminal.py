"""The table at the end, in a terminal of 80 columns, and the plan before."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from sweeper.disk import Disk
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.downloads import Downloads
from sweeper.plan.types import Remaining
from sweeper.report.progress import print_plan
from sweeper.report.terminal import print_table
from sweeper.report.titles import description
from sweeper.store import Store
from tests.sweeper.report.synthetic import AXES, make_results


def printed(results, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(results, console)
    return console.export_text()


@pytest.mark.parametrize(
    "axes",
    [
        AXES,
        {"lr": (1e-6, 2e-6), "gradient_accumulation_steps": (1, 2), "steps": (400, 800)},
        {"lr": (1e-6, 2e-6), "evaluation.images_per_prompt": (1, 2)} | {"steps": (400, 800)},
    ],
)
def test_no_word_of_the_header_is_broken_at_80_columns(tmp_path, axes):
    results = make_results(tmp_path, axes, images=False)
    text = printed(results)
    header = text.split("★")[0]
    for name in axes:
        for word in re.findall(r"[^_.]+", name):
            assert re.search(rf"\b_?{word}(_|\.|\s|$)", header.replace("_", "_ ")), (word, header)
    assert all(len(line) <= 80 for line in header.splitlines())


def test_the_words_of_the_table_are_explained_below_it(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400, 800)}, images=False)
    text = " ".join(printed(results).split())
    for name in ("s", "t", "score"):
        assert f" {name}: " in text
        assert description(name)[1:] in text  # it begins with a small letter
    assert "on the way" not in text
    rows = tuple(replace(row, asked=row.step == 800) for row in results.rows)
    assert "on the way: a checkpoint that" in " ".join(printed(replace(results, rows=rows)).split())


@pytest.fixture
def told(tmp_path, capsys):
    def tell(cells, disk=Disk(), seconds=60.0, done=False):  # noqa: B008
        plan = compile_plan(cells)
        store = Store(tmp_path)
        left = [Remaining(t, () if done else t.points, t.last_step if done else 0) for t in plan.trainings]
        expected = cost(left, store)
        print_plan(
            Console(width=200), expected, {}, seconds, disk, "m", plan, Downloads(), "as measured here", ["look"]
        )
        lines = capsys.readouterr().out.splitlines()[1:]
        return {line[2:19].strip(): line[20:].strip() for line in lines}

    return tell


def test_the_plan_says_what_is_shared_and_what_its_figures_rest_on(told, make_cell):
    said = told([make_cell(lr=lr, prior=True) for lr in (1, 2)], Disk(checkpoints=10, written=20))
    assert said["shared"] == "class images, once for 2 trainings; the untuned model's images, once"
    assert said["time left"] == "about 1 min 0 s, as measured here"
    assert said["disk"] == "10 bytes at the peak (checkpoints 10 bytes), 20 bytes written; calculated, at most"
    assert said["note"] == "look"
    assert "shared" not in told([make_cell()])


def test_where_all_is_there_no_disk_is_announced(told, make_cell):
    said = told([make_cell(lr=lr) for lr in (1, 2)], done=True)
    assert said["time left"] == "nothing is to be trained or sampled: everything is there"
    assert "disk" not in said
