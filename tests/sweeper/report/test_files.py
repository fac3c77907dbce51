import csv
import io
import json
import math
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from evaluation.spec import show
from evaluation.sweetspot import SweetSpot
from sweeper.report import contact_sheet, write
from sweeper.report.files import write_csv, write_results_json
from sweeper.report.sheet_layout import arrange
from sweeper.report.terminal import print_table, shares, took
from sweeper.results.ordering import ranked, raster
from sweeper.results.types import COMPLETE, FAIL
from tests.sweeper.report.synthetic import AXES, make_results

SMALL = {"lr": (1e-6, 2e-6), "steps": (400, 800)}


def _printed(results, width=200):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_table(results, console)
    return console.file.getvalue()


def test_write_leaves_four_files(tmp_path):
    _, written = write.write(make_results(tmp_path, SMALL))
    assert set(written) == {"results.csv", "results.json", "contact_sheet.png", "report.html"}
    assert all(path.exists() and path.parent == tmp_path for path in written.values())


def test_the_page_of_a_running_sweep_says_how_far_it_is_and_costs_a_twentieth_of_the_time(tmp_path):
    results = make_results(tmp_path, SMALL, fail=(3,))
    time = iter([0, 3, 62.9, 63, 64])
    live = write.LivePage(clock=lambda: next(time))
    page = tmp_path / "report.html"
    live.refresh(results)  # it takes 3 s
    assert "The sweep still runs:</b> 2 of 2 trainings and 3 of 4 checkpoints are done." in page.read_text()
    assert (tmp_path / "contact_sheet.png").exists()
    page.unlink()
    live.refresh(results)  # 59.9 s later
    assert not page.exists()
    live.refresh(results)
    assert page.exists()
    write.write(results)
    assert "still runs" not in page.read_text()


def test_a_page_that_cannot_be_written_stops_no_sweep(tmp_path):
    results = make_results(tmp_path / "there", SMALL)
    (tmp_path / "file").touch()
    write.LivePage().refresh(replace(results, folder=tmp_path / "file"))


def test_the_time_is_told_by_kind_of_work():
    timings = {"wall": 200.0, "training": 120.0, "sampling": 50.0, "scoring": 10.0, "pages": 0.4, "export": 0.0}
    told = shares(timings)
    assert told == pytest.approx(
        {"training": 0.6, "sampling": 0.25, "other": 0.098, "scoring": 0.05, "pages": 0.002}, abs=1e-9
    )
    assert list(told) == sorted(told, key=told.get, reverse=True)
    assert took(timings) == "3 min 20 s: training 60%, sampling 25%, other 10%, scoring 5%, pages 0.2%"
    assert shares({"wall": 100.0, "training": 150.0, "sampling": 50.0}) == {"training": 0.75, "sampling": 0.25}
    assert shares({}) == {}


def test_what_the_pages_took_is_in_the_files(tmp_path):
    results = replace(make_results(tmp_path, SMALL), timings={"wall": 90.0, "training": 80.0})
    told, _ = write.write(results)
    assert 0 < told.timings["pages"] == told.timings["wall"] - 90
    assert json.loads((tmp_path / "results.json").read_text())["timings"] == told.timings
    assert "<dt>pages</dt>" in (tmp_path / "report.html").read_text()


def test_the_csv_has_a_row_per_checkpoint_with_everything(tmp_path):
    results = make_results(tmp_path, AXES, images=False, fail=(5,))
    with open(write_csv(tmp_path / "r.csv", results), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 108
    assert [row["state"] for row in rows].count(FAIL) == 1
    assert rows[5]["reason"] == "not enough memory: tried 2.1 GiB"
    assert rows[5]["score"] == ""
    first = results.rows[0]
    assert (float(rows[0]["lr"]), rows[0]["prior_preservation"], rows[0]["steps"]) == (1e-6, "false", "400")
    assert float(rows[0]["s"]) == first.metrics["s"]
    assert float(rows[0]["s_high"]) == first.intervals["s"][1]
    assert [i for i, row in enumerate(rows) if row["chosen"] == "true"] == [results.best]


def test_the_json_is_strict_and_complete(tmp_path):
    results = make_results(tmp_path, SMALL, images=False)
    rows = list(results.rows)
    rows[0] = replace(rows[0], metrics={"s": math.nan, "noise": math.inf})
    rows[1] = replace(rows[1], asked=False)
    text = write_results_json(tmp_path / "r.json", replace(results, rows=tuple(rows))).read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert len(content["cells"]) == 3
    assert len(content["checkpoints"]) == 4
    assert content["cells"][0]["metrics"] == {"s": None, "noise": None}
    assert set(content["plan"]) == {"cells", "trainings", "training_steps", "training_steps_unshared"}
    spot, best = content["sweet_spot"], results.rows[results.best]
    assert (spot["found"], spot["params"]["lr"], spot["step"]) == (True, best.params["lr"], best.step)
    assert spot["export"] == str(results.export)
    assert content["timings"]["training"] == 700.0
    assert content["schema"] == 3
    assert (spot["reported"], spot["region_probability"], spot["fresh_score"]) == ({}, 0.93, None)


def test_notes_are_in_the_json_and_in_the_terminal(tmp_path):
    note = "Compared results were made by different versions or devices: torch 2.8.0; torch 2.9.0."
    results = replace(make_results(tmp_path, SMALL, images=False), notes=(note,))
    assert json.loads(write_results_json(tmp_path / "r.json", results).read_text())["notes"] == [note]
    text = _printed(results).replace("\n", " ")
    assert f"Note: {note}" in " ".join(text.split())
    assert text.rstrip().endswith(results.sweet_spot.reason)


def test_the_table_is_best_first_and_ends_with_the_answer(tmp_path):
    results = make_results(tmp_path, AXES, images=False, fail=(5,))
    text = _printed(results)
    first = next(line for line in text.splitlines() if "[0." in line)
    assert first.startswith(" ★") or first.startswith("★")
    order = [results.rows[i] for i in ranked(results)[1:-1]]
    scores = [row.metrics["expected_score"] for row in order if not row.vetoes]
    assert scores == sorted(scores, reverse=True)
    assert all(row.vetoes for row in order[len(scores) :])
    assert "FAIL lr=1e-6" in text
    assert "not enough memory" in text
    assert "… and 87 more" in text
    assert text.rstrip().replace("\n", " ").endswith(results.sweet_spot.reason)


@pytest.mark.parametrize("width", [40, 80, 120, 300])
def test_the_table_fits_the_terminal(tmp_path, width):
    assert all(len(line) <= width for line in _printed(make_results(tmp_path, AXES, images=False), width).splitlines())


def test_markup_in_names_is_text_in_the_terminal(tmp_path):
    results = make_results(tmp_path, SMALL | {"subject": ("[red]", "[/]")}, images=False, fail=(0,))
    rows = (replace(results.rows[0], reason="[bold]no[/bold]"), *results.rows[1:])
    text = _printed(replace(results, rows=rows))
    assert "[red]" in text
    assert "[bold]no[/bold]" in text


def test_nothing_finished(tmp_path):
    results = make_results(tmp_path, SMALL, fail=(0, 1, 2, 3))
    write.write(results)
    assert "No cell finished." in _printed(results)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["sweet_spot"]["params"] is None


def test_one_cell(tmp_path):
    results = make_results(tmp_path, {"lr": (2e-6,), "steps": (800,)})
    write.write(results)
    assert "800" in _printed(results)


def test_no_rows(tmp_path):
    spot = SweetSpot(False, "none", "Nothing was asked for.")
    empty = replace(make_results(tmp_path, SMALL), rows=(), trainings=(), sweet_spot=spot, best=None)
    write.write(empty)
    assert "Nothing was asked for." in _printed(empty)


def test_values_are_shown_as_typed():
    assert [show(v) for v in (2e-6, 1.5e-05, 1e-4, 0.01, 0.0, 7.5, 400, True, None, "ddim")] == [
        "2e-6",
        "1.5e-5",
        "1e-4",
        "0.01",
        "0",
        "7.5",
        "400",
        "true",
        "null",
        "ddim",
    ]


def test_a_random_search_is_laid_out_by_run(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6, 5e-6), "seed": (0, 1, 2), "steps": (400, 800)}, images=False)
    kept = tuple(row for row in results.rows if row.params["lr"] == (row.params["seed"] + 1) * 1e-6)
    axes, places = raster(replace(results, rows=kept, best=0))
    assert list(axes) == ["settings", "steps"]
    assert places[0]["settings"] in axes["settings"]


def test_the_axes_of_a_sheet():
    layout = arrange(AXES, prompts=4)
    assert layout.columns == ("prompt", "scheduler", "steps")
    assert layout.rows == ("lr", "prior_preservation", "train_text_encoder")
    assert (layout.pages, layout.prompts) == ((), 1)
    many = arrange({"steps": tuple(range(8)), "lr": tuple(range(8)), "seed": tuple(range(5))}, prompts=4)
    assert many.pages == ("seed",)
    assert arrange({"lr": (1, 2, 3)}, prompts=4).prompts == 4
    pair = {"lr": (1, 2, 3), "prior_preservation": (True, False)}
    assert arrange(pair | {"steps": range(6)}, prompts=9).columns == ("prompt", "steps", "prior_preservation")
    assert arrange(pair | {"steps": range(7)}, prompts=9).rows == ("lr", "prior_preservation")


def test_prompts_run_to_the_right_or_downwards_or_over_pages():
    wide = {"lr": (1, 2, 3), "steps": (100, 200, 300, 400)}
    assert arrange(wide, prompts=3).columns == ("prompt", "steps")
    assert arrange(wide, prompts=4).rows == ("prompt", "lr")
    assert (arrange(wide, prompts=5).columns, arrange(wide, prompts=5).prompts) == (("prompt", "steps"), 3)


@pytest.mark.parametrize(("steps", "count", "pages"), [((400,), 4, 1), ((400, 800, 1200, 1600), 6, 2)])
def test_every_prompt_is_on_a_sheet(tmp_path, steps, count, pages):
    prompts = tuple(f"a sks cat toy number {i}" for i in range(count))
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6, 5e-6), "steps": steps}, prompts=prompts)
    for row in results.rows:  # each prompt and checkpoint has a colour of its own
        for p in range(count):
            Image.new("RGB", (16, 16), (10 * p + 9, row.step % 251, 255)).save(row.samples / f"{p:02d}-00.png")
    sheets = write.write_contact_sheet(tmp_path / "contact_sheet.png", results)
    assert len(sheets) == pages
    colors = {color for sheet in sheets for _, color in _colors(sheet)}
    assert {(10 * p + 9, step % 251, 255) for p in range(count) for step in steps} <= colors


def test_a_long_prompt_is_not_cut():
    long = "a photo of a sks cat toy on top of a purple rug in a forest with a mountain in the background at night"
    lines = contact_sheet._lines(long, contact_sheet._font(13, True), contact_sheet.LABEL, contact_sheet.LINES)
    assert " ".join(lines) == long
    assert all(contact_sheet._font(13, True).getlength(line) <= contact_sheet.LABEL for line in lines)


def test_the_sheet_marks_the_choice_and_has_further_pages(tmp_path):
    axes = {"lr": (1e-6, 2e-6, 3e-6, 4e-6, 5e-6), "steps": tuple(range(100, 800, 100)), "seed": (0, 1, 2)}
    results = make_results(tmp_path, axes, prompts=("a sks cat toy",))
    write.write_contact_sheet(tmp_path / "contact_sheet.png", results)
    assert sorted(p.name for p in tmp_path.glob("contact*")) == [
        "contact_sheet-2.png",
        "contact_sheet-3.png",
        "contact_sheet.png",
    ]
    accent = (0xC2, 0x41, 0x0C)
    framed = [any(c == accent for _, c in _colors(p)) for p in sorted(tmp_path.glob("contact*"))]
    assert framed == [False, False, True]  # the page with the choice is the first one: contact_sheet.png
    fewer = replace(results, rows=tuple(r for r in results.rows if r.params["seed"] == 0), best=0)
    write.write_contact_sheet(
        tmp_path / "contact_sheet.png", replace(fewer, axes={n: axes[n] for n in ("lr", "steps")})
    )
    assert [p.name for p in tmp_path.glob("contact*")] == ["contact_sheet.png"]


def _colors(path):
    with Image.open(path) as image:
        return image.convert("RGB").getcolors(maxcolors=1 << 24)


def test_samples_that_are_gone_leave_holes_and_no_error(tmp_path):
    results = make_results(tmp_path, SMALL)
    for file in results.rows[0].samples.iterdir():
        file.unlink()
    write.write(results)
    assert results.rows[0].state == COMPLETE
