"""report.html in Chromium: what it shows, what its controls do, and whether everybody can use it."""

import re
from dataclasses import replace

import pytest

from sweeper.report import thumbnails
from sweeper.report.page import gather, render
from sweeper.results.ordering import ranked
from tests.sweeper.browser import SCHEMES, WIDTHS
from tests.sweeper.report.synthetic import AXES, PROMPTS, make_results

pytestmark = pytest.mark.pages

NASTY = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def write(folder, results):
    return render(folder / "report.html", results, gather(results))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_for_everybody(tmp_path, browser, width, scheme):
    axes = {"lr": (1e-6, 5e-6), "steps": (400, 800), "prior_preservation": (True, False)}
    page = write(tmp_path, make_results(tmp_path, axes, fail=(5,)))
    with browser.open(page, width, scheme) as opened:
        opened.page.wait_for_selector("#cells .tile")
        assert opened.violations() == []
        opened.page.locator("#table .tile").first.click()
        assert opened.violations() == []
        assert (opened.console, opened.requests, opened.overflow()) == ([], [], 0)


def test_the_page_draws_everything(tmp_path, browser):
    results = make_results(tmp_path, AXES, fail=(5,))
    with browser.open(write(tmp_path, results)) as opened:
        page = opened.page
        assert (
            page.locator(".plot.js-plotly-plot").count() == 3 * 2 + 1 + 5 + 2
        )  # curves per lr, Pareto, axes, shares, a pair
        assert page.locator("h1").inner_text().startswith("Use lr=")
        assert page.locator(".tile.chosen").count() >= 1
        assert page.locator("tr").count() > 50
        assert "not enough memory: tried 2.1 GiB" in page.locator("#vetoes").inner_text()
        assert "noise" in page.locator("#vetoes").inner_text()
        assert "DiffusionPipeline.from_pretrained" in page.locator("#use").inner_text()
        assert re.search(r"sampling\s+35.3 % 7 min 0 s", page.locator("#about").inner_text())


@pytest.fixture
def opened(tmp_path, browser):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6, 5e-6), "steps": (400, 800, 1200)})
    page = write(tmp_path, results)
    with browser.open(page) as opened:
        opened.results = results
        opened.path = page
        yield opened
        assert opened.console == []


def tile(page, selector):
    return page.locator(f"{selector} .tile").first.evaluate("tile => tile.style.backgroundImage")


def choose(page, box, words, value):
    """In the select of these words."""
    label = page.locator(f"#{box}-controls label").filter(has_text=re.compile(f"^{words}"))
    label.locator("select").select_option(value)


def test_hovering_shows_the_checkpoint_of_a_dot(opened):
    page = opened.page
    image = tile(page, "#preview")
    page.locator("#pareto-plot .scatterlayer .points path.point").first.hover(force=True)
    page.wait_for_function("document.querySelector('#preview .caption').textContent === 'lr=1e-6 steps=400'")
    assert tile(page, "#preview") != image


def test_the_slider_changes_the_step_of_the_grid(opened):
    page = opened.page
    output = page.locator("#grid-controls output")
    assert output.inner_text() == f"steps {opened.results.rows[opened.results.best].step}"
    before = tile(page, "#raster tr:nth-child(3)")
    page.locator("#grid-controls input[type=range]").fill("0")
    assert output.inner_text() == "steps 400"
    assert tile(page, "#raster tr:nth-child(3)") != before


def test_a_heading_sorts_the_table_and_says_which_way(opened):
    page = opened.page
    head = page.locator("#table th button", has_text="steps")

    def column():
        return [int(text) for text in page.locator("#table tbody td:nth-child(3)").all_inner_texts()]

    head.click()
    assert column() == sorted(column())
    assert page.locator("#table th[aria-sort=ascending]").inner_text().startswith("steps")
    head.click()
    assert column() == sorted(column(), reverse=True)
    assert page.locator("#table th[aria-sort=descending]").inner_text().startswith("steps")
    assert len(set(column())) == 3


def test_an_image_opens_large_with_its_prompt_and_its_settings(opened):
    page = opened.page
    page.locator("#raster .tile.chosen").first.click()
    assert page.locator("#cell-title").inner_text().startswith("lr=")
    large = page.locator("#cell .large")
    assert large.get_attribute("aria-label") == PROMPTS[0]
    assert large.bounding_box()["width"] >= 256
    page.locator("#cell .mosaic .tile").nth(1).click()
    assert page.locator("#cell figcaption").inner_text().startswith(PROMPTS[1])
    file = page.locator("#cell figcaption a")
    assert (opened.path.parent / file.get_attribute("href")).is_file()
    page.keyboard.press("Escape")
    assert not page.locator("#cell").evaluate("dialog => dialog.open")
    page.locator("header button.picture").nth(5).click()
    assert page.locator("#cell figcaption").inner_text() == PROMPTS[1]
    page.locator("#cell").get_by_text("Close").click()
    page.locator("#raster tr:nth-child(2) .tile").first.click()
    assert page.locator("#cell-title").inner_text() == "Untuned model"


def test_the_grid_runs_along_what_is_chosen(opened):
    page = opened.page

    def heads(selector):
        return [head.strip() for head in page.locator(selector).all_inner_texts() if head.strip()]

    assert heads("#raster tr > th[scope=row]")[1:] == ["lr 1e-6", "lr 2e-6", "lr 5e-6"]
    choose(page, "grid", "across", "steps")
    assert heads("#raster tr:first-child th") == ["steps 400", "steps 800", "steps 1200"]
    assert page.locator("#grid-prompt").inner_text() == f"“{PROMPTS[0]}”"
    choose(page, "grid", "prompt", "1")
    assert page.locator("#grid-prompt").inner_text() == f"“{PROMPTS[1]}”"
    choose(page, "grid", "down", "prompt")
    assert heads("#raster tr > th[scope=row]")[1:] == list(PROMPTS)


def test_the_filter_keeps_what_has_all_of_its_words(opened):
    page = opened.page
    page.locator("#filter").fill("lr=2e-6 steps=1200")
    assert page.locator("#table tbody tr").count() == 1
    assert page.locator("#count").inner_text() == "1 of 1"


def test_the_table_is_in_the_order_that_it_says(opened):
    head = opened.page.locator("#table th[aria-sort=descending]")
    assert head.inner_text().startswith("expected score")
    column = head.evaluate("cell => cell.cellIndex") + 1
    shown = opened.page.locator(f"#table tbody td:nth-child({column})").all_inner_texts()
    vetoed = [bool(opened.results.rows[i].vetoes) for i in ranked(opened.results)]
    free = [float(text.split()[0]) for text, out in zip(shown, vetoed, strict=True) if not out]
    assert free
    assert free == sorted(free, reverse=True)
    assert vetoed == sorted(vetoed)  # the ruled out come last
    assert "chosen" in opened.page.locator("#table tbody tr").first.get_attribute("class")


def test_copying_gives_the_text(opened):
    page = opened.page
    block = page.locator("#use .code")
    block.locator("button").click()
    page.wait_for_function("document.querySelector('#use .copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == block.locator("pre").inner_text()


def test_colour_and_measure_can_be_chosen(opened):
    page = opened.page
    choose(page, "pareto", "colour", "steps")
    assert "steps 400" in page.locator("#pareto-plot .legend").text_content()
    before = page.locator("#level-plots").inner_html()
    choose(page, "effect", "of", "t")
    assert page.locator("#level-plots").inner_html() != before


def test_curves_start_at_the_untuned_model(opened):
    curves = opened.page.locator("#curve-plots .plot").first.evaluate(
        "plot => plot.data.filter(line => line.name).map(line => [line.name, line.x, line.y[0]])"
    )
    assert curves == [["s", [0, 400, 800, 1200], 0], ["t", [0, 400, 800, 1200], 1]]


def test_two_values_of_an_axis_stand_side_by_side(tmp_path, browser):
    axes = {"lr": (1e-6, 5e-6), "steps": (400, 800), "prior_preservation": (True, False)}
    with browser.open(write(tmp_path, make_results(tmp_path, axes))) as opened:
        titles = opened.page.locator("#curve-plots .title").all_inner_texts()
        assert titles[:2] == ["lr 1e-6 · prior_preservation true", "lr 1e-6 · prior_preservation false"]
        left, right = (opened.page.locator("#curve-plots .plot").nth(i).bounding_box() for i in (0, 1))
        assert left["y"] == right["y"]
        assert opened.page.locator("#raster tr:first-child th").all_inner_texts() == [
            "prior_preservation true",
            "prior_preservation false",
        ]


def test_one_axis_has_no_shares_and_no_interactions(tmp_path, browser):
    with browser.open(write(tmp_path, make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (800,)}))) as opened:
        assert not opened.page.locator("#together").is_visible()
        assert opened.page.locator("#level-plots .plot").count() == 1


def test_the_star_is_on_the_line_or_the_page_says_why_not(tmp_path, browser):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6, 5e-6), "steps": (400, 800, 1200)})
    with browser.open(write(tmp_path, results)) as opened:
        assert "The star lies off it" not in opened.page.locator("#pareto").inner_text()
    rows = list(results.rows)
    best = rows[results.best]
    rows[0] = replace(rows[0], metrics={name: value + 0.01 for name, value in best.metrics.items()})
    spot = replace(results.sweet_spot, pareto=(0,))
    with browser.open(write(tmp_path, replace(results, rows=tuple(rows), sweet_spot=spot))) as opened:
        assert (
            "The star lies off it: lr=1e-6 at step 400 measured higher in both"
            in opened.page.locator("#pareto").inner_text()
        )


def test_a_page_that_was_not_moved_shows_the_file_itself(tmp_path, browser, monkeypatch):
    """Where the page carries a sample smaller than it is; moved away from the files it shows what it carries."""
    monkeypatch.setattr(thumbnails, "LARGEST", 32)
    page = write(tmp_path, make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400,)}))
    with browser.open(page) as opened:
        opened.page.locator("#raster .tile.chosen").first.click()
        shown = opened.page.locator("#cell img.large")
        opened.page.wait_for_function("document.querySelector('#cell img.large').naturalWidth === 64")
        assert shown.get_attribute("alt") == PROMPTS[0]
    (tmp_path / "elsewhere").mkdir()
    with browser.open(page.rename(tmp_path / "elsewhere" / "report.html")) as opened:
        opened.page.locator("#raster .tile.chosen").first.click()
        opened.page.wait_for_selector("#cell div.large")


def test_the_page_of_a_running_sweep_loads_itself_again(tmp_path, browser):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400,)})
    render(tmp_path / "report.html", results, gather(results), running=True)
    with browser.open(tmp_path / "report.html", clock=True) as opened:
        assert "2 of 2 trainings" in opened.page.locator(".running").inner_text()
        write(tmp_path, results)
        with opened.page.expect_navigation():
            opened.page.clock.run_for(61_000)
        assert opened.page.locator(".running").count() == 0


def test_what_a_user_typed_is_text_wherever_it_is_shown(tmp_path, browser):
    axes = {"lr": (1e-6, 5e-6), "steps": (400, 800), "subject": (NASTY, "dog")}
    results = make_results(tmp_path, axes, subject=NASTY, prompts=(f"a {NASTY}", "b"), fail=(2,), name=NASTY)
    rows = tuple(replace(row, vetoes=(f"{NASTY} 3",), reason=NASTY) for row in results.rows)
    spot = replace(results.sweet_spot, reason=f"Use {NASTY}", suggestion=NASTY)
    nasty = replace(results, rows=rows, sweet_spot=spot, command=NASTY, backbones={NASTY: NASTY}, model=NASTY)
    with browser.open(write(tmp_path, nasty)) as opened:
        page = opened.page
        assert opened.console == []
        assert opened.requests == []
        assert page.locator("img:not([src^='data:'])").count() == 0
        assert page.locator("[onerror]").count() == 0
        assert page.title() != "owned"
        assert page.locator("script").count() == 4  # two of data, plotly, ours


@pytest.mark.parametrize(
    "axes",
    [{"lr": (2e-6,), "steps": (800,)}, {"lr": (1e-6, 2e-6), "steps": (800,)}, {"steps": (100, 200), "seed": (0, 1)}],
)
def test_small_sweeps(tmp_path, browser, axes):
    with browser.open(write(tmp_path, make_results(tmp_path, axes))) as opened:
        assert opened.console == []
        assert opened.page.locator("#raster tr").count() >= 2


def test_nothing_finished(tmp_path, browser):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400,)}, fail=(0, 1))
    with browser.open(write(tmp_path, results)) as opened:
        assert opened.console == []
        assert "No cell finished." in opened.page.locator("h1").inner_text()
