import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sweeper.report.page import gather, off_front, render, snippet, veto_kinds
from sweeper.report.page_data import order_of, page_data, undominated
from sweeper.report.thumbnails import tile_names
from sweeper.results.types import Results
from tests.sweeper.report.synthetic import make_results

NASTY = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def write(path, results):
    return render(path, results, gather(results))


class _Elements(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path):
    html = write(tmp_path / "r.html", make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400, 800)})).read_text()
    sources = [v for _, attrs in _Elements(html).found for k, v in attrs.items() if k in ("src", "href") and v]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)


def test_the_data_is_json_that_cannot_close_its_element(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400,)}, images=False, prompts=(NASTY,))
    html = write(tmp_path / "r.html", results).read_text()
    text = html.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(text)["prompts"] == [NASTY]


def test_many_checkpoints_carry_fewer_images(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6,), "steps": (400,)})
    folder = results.rows[0].samples
    assert tile_names([folder], 10)[0] == ["00-00.png", "01-00.png", "02-00.png", "03-00.png"]
    assert tile_names([folder], 10_000)[0] == ["00-00.png"]
    assert tile_names([None], 10) == ([], 128)


def test_the_snippet_is_python_that_samples_as_judged(tmp_path):
    results = make_results(tmp_path, {"lr": (2e-6,), "steps": (800,)}, images=False)
    text = snippet(tmp_path / 'it\'s "here"', results.rows[0], ("a 'quoted' \"prompt\"",))
    compile(text, "snippet", "exec")
    assert "guidance_scale=7.5" in text


def test_vetoes_are_gathered_by_kind(tmp_path):
    results: Results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400,)}, images=False)
    words = (("copies: 0.91 above 0.80", "noise 1.2 above"), ("copies: 0.95 above 0.80",))
    rows = tuple(replace(row, vetoes=vetoes) for row, vetoes in zip(results.rows, words, strict=True))
    assert [(k["words"], k["count"]) for k in veto_kinds(replace(results, rows=rows))] == [("copies", 2), ("noise", 1)]


def test_why_the_star_lies_off_the_line(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6, 5e-6), "steps": (400, 800)}, images=False)
    assert off_front(results, page_data(results)) == ""
    best = results.best
    other = 0 if best else 1
    rows = list(results.rows)
    rows[other] = replace(rows[other], metrics={name: value + 0.01 for name, value in rows[best].metrics.items()})
    for region, why in ((best, other), "not by more than chance"), ((best,), "what its neighbours measured counts too"):
        spot = replace(results.sweet_spot, pareto=(other,), region=region)
        changed = replace(results, rows=tuple(rows), sweet_spot=spot)
        assert why in off_front(changed, page_data(changed))
    seeds = replace(results, sweet_spot=replace(results.sweet_spot, pareto=()))
    assert "its other seeds" in off_front(seeds, page_data(seeds))


@pytest.mark.parametrize(("metrics", "order"), [({}, "score"), ({"expected_score": 0.5}, "expected_score")])
def test_the_table_says_by_which_score_it_is_in_order(tmp_path, metrics, order):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400, 800)}, images=False)
    measured = [{name: v for name, v in row.metrics.items() if name != "expected_score"} for row in results.rows]
    rows = tuple(replace(row, metrics=own | metrics) for row, own in zip(results.rows, measured, strict=True))
    assert order_of(replace(results, rows=rows)) == order
    lowest = min(range(4), key=lambda i: rows[i].metrics["score"])
    assert order_of(replace(results, best=lowest)) is None  # the answer comes first, and nothing else puts it there


def test_of_several_seeds_the_line_joins_the_dots_that_none_beats(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 5e-6), "steps": (400,)}, images=False)
    rows = tuple(
        replace(row, metrics=row.metrics | {"s": s, "t": t})
        for row, (s, t) in zip(results.rows, ((0.5, 0.5), (0.6, 0.5)), strict=True)
    )
    results = replace(results, rows=rows, sweet_spot=replace(results.sweet_spot, pareto=(0, 1)))
    assert undominated(results) == [1]


def test_the_score_on_fresh_images_is_said_where_there_is_one(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6,), "steps": (400, 800)}, images=False)
    assert "On images on which nothing was chosen" not in write(tmp_path / "page.html", results).read_text()
    spot = replace(results.sweet_spot, fresh_score=(0.81, 0.7, 0.92))
    html = write(tmp_path / "page.html", replace(results, sweet_spot=spot)).read_text()
    assert 'nothing was chosen its <b class="score">score&nbsp;0.81</b> (0.70 to 0.92).' in html


def test_notes_are_on_the_page(tmp_path):
    results = replace(make_results(tmp_path, {"lr": (1e-6,), "steps": (400, 800)}), notes=("Diversity is missing.",))
    assert "<b>Note:</b> Diversity is missing." in write(tmp_path / "page.html", results).read_text()
