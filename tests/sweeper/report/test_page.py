import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sweeper.report.page import gather, render, snippet, veto_kinds
from sweeper.report.thumbnails import tile_names
from sweeper.results.types import Results
from tests.sweeper.browser import needs_chromium, opened
from tests.sweeper.report.synthetic import AXES, make_results

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


@needs_chromium
def test_the_page_draws_everything_without_an_error(tmp_path):
    results = make_results(tmp_path, AXES, fail=(5,))
    dom, console = opened(write(tmp_path / "r.html", results), tmp_path)
    assert console == ""
    assert results.sweet_spot.reason in dom
    assert (
        len(re.findall(r'<div class="plot[^"]*js-plotly-plot', dom)) == 3 + 1 + 5 + 2
    )  # curves per lr, Pareto, axes, shares and a pair
    assert len(re.findall(r'class="tile[^"]*chosen', dom)) >= 1
    assert 'type="range"' in dom
    assert dom.count("<tr") > 50
    assert "not enough memory: tried 2.1 GiB" in dom
    assert "noise" in dom[dom.index('id="vetoes"') : dom.index('id="cells"')]
    assert "DiffusionPipeline.from_pretrained" in dom
    assert re.search(r"<dt>sampling</dt><dd>35.3 % <small>7 min 0 s</small>", dom)


ACT = """<script>
const wait = (time) => new Promise((resume) => setTimeout(resume, time));
addEventListener("load", async () => {
  await wait(1500);
  const seen = {}, words = (selector) => document.querySelector(selector).textContent;
  const tile = (selector) => document.querySelector(selector + " .tile").style.backgroundImage;
  const image = tile("#preview");
  const plot = document.getElementById("pareto-plot");
  plot.scrollIntoView();
  const dot = plot.querySelectorAll(".scatterlayer .points path.point")[0].getBoundingClientRect();
  const place = { bubbles: true, clientX: dot.x + dot.width / 2, clientY: dot.y + dot.height / 2 };
  const area = plot.querySelector(".nsewdrag");
  for (const kind of ["mouseover", "mousemove"]) area.dispatchEvent(new MouseEvent(kind, place));
  await wait(500);
  seen.hover = [words("#preview .caption"), tile("#preview") !== image];
  const grid = () => [words("#grid-controls output"), tile("#raster tr:nth-child(3)")];
  const before = grid(), slider = document.querySelector("#grid-controls input[type=range]");
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  const after = grid();
  seen.slider = [before[0], after[0], before[1] !== after[1]];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const column = () => all("#table tbody td:nth-child(3)").map((cell) => cell.textContent);
  const head = () => all("#table th button").find((button) => button.textContent === "steps");
  head().click();
  seen.up = column();
  head().click();
  seen.down = column();
  document.querySelector("#raster .tile.chosen, #table .tile").click();
  seen.dialog = document.getElementById("cell").open;
  document.body.append(Object.assign(document.createElement("pre"), { id: "seen", textContent: JSON.stringify(seen) }));
});
</script>"""


@needs_chromium
def test_hovering_sliding_sorting_and_clicking_show_what_they_should(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6, 5e-6), "steps": (400, 800, 1200)})
    page = write(tmp_path / "r.html", results)
    page.write_text(page.read_text().replace("</body>", ACT + "</body>"))
    dom, console = opened(page, tmp_path)
    assert console == ""
    seen = json.loads(dom.partition('id="seen">')[2].partition("</pre>")[0])
    assert seen["hover"] == ["lr=1e-6 steps=400", True]
    chosen = results.rows[results.best].step
    assert seen["slider"] == [f"steps {chosen}", "steps 400", chosen != 400]
    assert seen["up"] == sorted(seen["up"], key=int)
    assert seen["down"] == sorted(seen["down"], key=int, reverse=True)
    assert len(set(seen["up"])) == 3
    assert seen["dialog"]


@needs_chromium
def test_what_a_user_typed_is_text_wherever_it_is_shown(tmp_path):
    axes = {"lr": (1e-6, 5e-6), "steps": (400, 800), "subject": (NASTY, "dog")}
    results = make_results(tmp_path, axes, subject=NASTY, prompts=(f"a {NASTY}", "b"), fail=(2,), name=NASTY)
    rows = tuple(replace(row, vetoes=(f"{NASTY} 3",), reason=NASTY) for row in results.rows)
    spot = replace(results.sweet_spot, reason=f"Use {NASTY}", suggestion=NASTY)
    nasty = replace(results, rows=rows, sweet_spot=spot, command=NASTY, backbones={NASTY: NASTY}, model=NASTY)
    dom, console = opened(write(tmp_path / "r.html", nasty), tmp_path)
    assert console == ""
    elements = _Elements(dom).found
    assert not [attrs for tag, attrs in elements if tag == "img" and not attrs["src"].startswith("data:")]
    assert not any("onerror" in attrs for _, attrs in elements)
    assert "<title>owned" not in dom
    assert [tag for tag, _ in elements].count("script") == 4  # two of data, plotly, ours


@needs_chromium
@pytest.mark.parametrize(
    "axes",
    [{"lr": (2e-6,), "steps": (800,)}, {"lr": (1e-6, 2e-6), "steps": (800,)}, {"steps": (100, 200), "seed": (0, 1)}],
)
def test_small_sweeps(tmp_path, axes):
    dom, console = opened(write(tmp_path / "r.html", make_results(tmp_path, axes)), tmp_path)
    assert console == ""
    assert 'id="raster"' in dom


@needs_chromium
def test_nothing_finished(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400,)}, fail=(0, 1))
    dom, console = opened(write(tmp_path / "r.html", results), tmp_path)
    assert console == ""
    assert "No cell finished." in dom


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


def test_notes_are_on_the_page(tmp_path):
    results = replace(make_results(tmp_path, {"lr": (1e-6,), "steps": (400, 800)}), notes=("Diversity is missing.",))
    assert "Note: Diversity is missing." in write(tmp_path / "page.html", results).read_text()
