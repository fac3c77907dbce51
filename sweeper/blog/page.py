"""blog.html and blog.json: the twelve claims with what was measured, on one page that works offline."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sweeper.blog.catalogue import CLAIMS, EXPERIMENTS, Claim
from sweeper.blog.claims import Finding, judge
from sweeper.blog.evidence import MEASURES, Cell, Condition, Evidence, read
from sweeper.blog.experiments import Experiment, source
from sweeper.report.files import plain
from sweeper.report.page import TEMPLATES, script_json, template
from sweeper.report.thumbnails import picture
from sweeper.store import Store
from trainers.files import write_bytes, write_json
from trainers.images import instance_images

TILES = 4  # images of each condition: the first of as many prompts
LARGEST = 96  # pixels of a tile


def write_blog(folder: Path, experiments: Sequence[Experiment], store: Store) -> Path:
    """Judges what is there. Returns the page; blog.json beside it holds the same for programs."""
    evidence = {name: Evidence(()) for name in EXPERIMENTS}
    for experiment in experiments:
        known = evidence[experiment.name].cells
        evidence[experiment.name] = Evidence(known + read(experiment.plan, store).cells)
    findings = [judge(claim.judge, *(evidence[name] for name in claim.experiments)) for claim in CLAIMS]
    model = experiments[0].model
    write_json(folder / "blog.json", as_json(model, findings))
    reports = [(e.name, e.report(store)) for e in experiments if e.report(store).exists()]
    links = [(name, quote(os.path.relpath(path, folder))) for name, path in reports]
    write_bytes(folder / "blog.html", html(model, findings, evidence, links).encode())
    return folder / "blog.html"


def as_json(model: str, findings: Sequence[Finding]) -> dict[str, Any]:
    claims = [
        {"number": c.number, "claim": c.words, "verdict": f.verdict, "missing": f.missing, "parts": plain(f.parts)}
        for c, f in zip(CLAIMS, findings, strict=True)
    ]
    return {"model": model, "claims": claims}


def html(
    model: str,
    findings: Sequence[Finding],
    evidence: dict[str, Evidence],
    links: Sequence[tuple[str, str]] = (),
) -> str:
    pairs = list(zip(CLAIMS, findings, strict=True))
    return template("blog.html.j2").render(
        model=model,
        claims=[shown(claim, finding) for claim, finding in pairs],
        verdicts=[finding.verdict for finding in findings],
        seeds=max((len(c.cells) for f in findings for _, c in f.conditions), default=0),
        subjects=sorted({cell.params["subject"] for found in evidence.values() for cell in found.cells}),
        experiments={name: source(name).read_text() for name in evidence},
        links=links,
        data=script_json([figure(claim, finding) for claim, finding in pairs]),
        style=Markup((TEMPLATES / "page.css").read_text() + (TEMPLATES / "blog.css").read_text()),
        script=Markup((TEMPLATES / "blog.js").read_text()),
        plotly=Markup(get_plotlyjs()),
    )


def shown(claim: Claim, finding: Finding) -> dict[str, Any]:
    return {"claim": claim, "finding": finding, "strips": strips(finding)}


def figure(claim: Claim, finding: Finding) -> dict[str, Any]:
    """A plot a measure: a value and an interval for each condition."""
    labels = [label for label, _ in finding.conditions]
    plots = [(MEASURES[m], [_ends(condition, m) for _, condition in finding.conditions]) for m in claim.measures]
    return {"number": claim.number, "labels": labels, "plots": plots}


def _ends(condition: Condition, measure: str) -> tuple[float, float, float]:
    drawn = condition[measure]
    return (drawn.value, *drawn.interval)


def strips(finding: Finding) -> list[dict[str, Any]]:
    """The same prompts from the same noise: of each subject its photographs, the untuned model, the conditions."""
    found: list[dict[str, Any]] = []
    seen: set[tuple] = set()
    for label, condition in finding.conditions:
        cell = condition.cells[0]
        subject = cell.params["subject"]
        for key, words, images in (
            ((subject,), f"{subject} · photographs", _photographs(cell)),
            ((subject, cell.untuned), f"{subject} · untuned model", _tiles(cell.untuned)),
            ((subject, cell.samples), label, _tiles(cell.samples)),
        ):
            if key not in seen and images:
                found.append({"label": words, "images": [picture(path, LARGEST) for path in images]})
            seen.add(key)
    return found


def _tiles(folder: Path | None) -> list[Path]:
    return sorted(folder.glob("*-00.png"))[:TILES] if folder else []


def _photographs(cell: Cell) -> list[Path]:
    return list(instance_images(cell.photographs))[:TILES] if cell.photographs else []
