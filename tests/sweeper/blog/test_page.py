"""blog.html and blog.json say what was found, show it, and trust no text."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from sweeper.blog import page
from sweeper.blog.catalogue import CLAIMS, EXPERIMENTS
from sweeper.blog.claims import assess
from sweeper.blog.evidence import Evidence, Observation
from sweeper.blog.verdicts import Finding
from sweeper.report.page import TEMPLATES
from tests.sweeper.blog.synthetic import BASELINES, evidence, scorecard, values
from tests.sweeper.blog.test_claims import CASES, GRIDS, found
from tests.sweeper.browser import SCHEMES, WIDTHS
from tests.sweeper.script_types import in_python, in_script


@pytest.fixture(scope="module")
def findings():
    """The first claim supported, the second not, the third open, the others not judged."""
    three = [found(CLAIMS[i], CASES[i + 1][i], 0.5 if i == 2 else 0.02) for i in range(3)]
    return three + [Finding(missing="no <b>face</b> was tried")] * 9


def test_it_shows_every_claim_with_its_verdict_for_the_model(findings):
    html = page.html("miniature", findings, {"learning_rate": Evidence(())})
    for claim in CLAIMS:
        assert html.count(f'id="claim-{claim.number}"') == 1
    words = re.sub(r"\s+", " ", html)
    assert "on the miniature 1 are supported, 1 are not, 1 are inconclusive and 9 could not be judged" in words
    for finding in findings[:3]:
        for part in finding.parts:
            assert part.words in html
            assert f"{part.low:+.3f} to {part.high:+.3f}" in html


def test_it_says_what_the_miniature_cannot_and_only_there(findings):
    ours, theirs = (page.html(model, findings, {}) for model in ("miniature", "sd14"))
    assert "What the miniature cannot say" in ours
    assert "about the miniature" in ours
    assert "miniature" not in theirs.split("<main>")[1].split('<section id="settings">')[0]


def test_it_needs_nothing_from_elsewhere(findings):
    html = page.html("miniature", findings, {})
    outside = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)=\"https?:", outside)


@pytest.mark.pages
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_draws_every_figure_for_everybody(findings, tmp_path, browser, width, scheme):
    path = tmp_path / "blog.html"
    path.write_text(page.html("miniature", findings, {}))
    figures = [page.figure(claim, finding) for claim, finding in zip(CLAIMS[:3], findings, strict=False)]
    with browser.open(path, width, scheme) as opened:
        assert opened.page.locator(".js-plotly-plot").count() == sum(len(figure["plots"]) for figure in figures)
        assert opened.violations() == []
        assert (opened.console, opened.requests, opened.overflow()) == ([], [], 0)


def test_text_of_users_is_escaped():
    evil = "</script><img src=x onerror=alert(1)>"
    cells = tuple(
        Observation(
            {"subject": evil, "kind": "object", "lr": lr, "steps": steps, "seed": 0},
            scorecard(values(np.random.default_rng(0), s=0.5, t=0.5, copying=0.0, drift=0.0, noise=0.0)),
            BASELINES,
        )
        for lr in (1e-6, 2e-6, 5e-6)
        for steps in (200, 400)
    )
    known = {"learning_rate": Evidence(cells)}
    all_findings = [assess(c.assess, *(known.get(name, Evidence(())) for name in c.experiments)) for c in CLAIMS]
    html = page.html(evil, all_findings, known)
    assert evil not in html
    assert "onerror=alert(1)>" not in html


def test_the_images_of_a_claim_begin_with_photographs_and_the_untuned_model(tmp_path):
    for name in ("samples", "untuned", "photographs"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (64, 64)).save(tmp_path / name / f"{i:02d}-00.png")
    claim = CLAIMS[9]
    folders = [tmp_path / name for name in ("samples", "untuned", "photographs")]
    grid = [Observation(each.params, each.card, BASELINES, *folders) for each in _observations("ema")]
    strips = page.strips(assess(claim.assess, Evidence(tuple(grid))))
    assert [strip["label"] for strip in strips][:2] == ["cat_toy · photographs", "cat_toy · untuned model"]
    assert all(len(strip["images"]) == 2 and strip["images"][0].startswith("data:image") for strip in strips)


def _observations(name):
    return evidence(lambda _: {}, **GRIDS[name]).observations


def test_blog_json_is_the_same_for_programs(findings):
    data = json.loads(json.dumps(page.as_json("miniature", findings)))
    assert data["model"] == "miniature"
    assert [claim["verdict"] for claim in data["claims"]][:4] == [
        "supported",
        "not supported",
        "inconclusive",
        "not judged",
    ]
    part = data["claims"][0]["parts"][0]
    assert part["low"] <= part["effect"] <= part["high"]


def test_every_experiment_is_needed_by_a_claim():
    assert {name for claim in CLAIMS for name in claim.experiments} == set(EXPERIMENTS)


def test_the_script_knows_every_type_of_its_data(findings):
    scripts = in_script(TEMPLATES / "blog.js")
    python = in_python(page)
    assert scripts == {name: keys for name, keys in python.items() if name != "Strip"}  # shown without a script
    figures = [page.figure(claim, finding) for claim, finding in zip(CLAIMS, findings, strict=True)]
    assert all(set(figure) == python["BlogFigure"] for figure in figures)
    assert all(set(plot) == python["BlogPlot"] for figure in figures for plot in figure["plots"])
