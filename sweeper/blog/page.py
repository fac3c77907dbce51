"""blog.html and blog.json: the twelve claims with what was measured, on one page that works offline."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sweeper.blog.catalogue import CLAIMS, EXPERIMENTS, Claim
from sweeper.blog.claims import assess
from sweeper.blog.evidence import MEASURES, Bootstrapped, Evidence, Observation, read
from sweeper.blog.experiments import Experiment, source
from sweeper.blog.verdicts import INCONCLUSIVE, MARGIN, NOT_JUDGED, NOT_SUPPORTED, SEEDS, SUGGESTS, SUPPORTED, Finding
from sweeper.report.files import plain
from sweeper.report.page import TEMPLATES, script_json, template
from sweeper.report.thumbnails import picture
from sweeper.store import Store
from trainers.files import write_bytes, write_json
from trainers.images import instance_images

TILES = 4  # images of each condition, one for each of the first prompts
LARGEST = 96  # pixels of a tile


class BlogPlot(TypedDict):
    title: str
    values: list[tuple[float, float, float]]  # of each label of the figure: mean, low, high


class BlogFigure(TypedDict):
    """The plots of a claim, one for each measure. templates/blog.js has the same types."""

    number: int  # of the claim
    labels: list[str]  # of its conditions
    plots: list[BlogPlot]


class Strip(TypedDict):
    label: str
    images: list[str]  # data URIs


def write_blog(folder: Path, experiments: Sequence[Experiment], store: Store) -> Path:
    """Assesses what is there. Returns the page; blog.json beside it holds the same for programs."""
    evidence = {name: Evidence(()) for name in EXPERIMENTS}
    for experiment in experiments:
        known = evidence[experiment.name].observations
        evidence[experiment.name] = Evidence(known + read(experiment.plan, store).observations)
    findings = [assess(claim.assess, *(evidence[name] for name in claim.experiments)) for claim in CLAIMS]
    model = experiments[0].model
    write_json(folder / "blog.json", as_json(model, findings))
    reports = [(e.name, e.report(store)) for e in experiments if e.report(store).exists()]
    links = [(name, quote(os.path.relpath(path, folder))) for name, path in reports]
    write_bytes(folder / "blog.html", html(model, findings, evidence, links).encode())
    return folder / "blog.html"


def as_json(model: str, findings: Sequence[Finding]) -> dict[str, Any]:
    claims = [
        {
            "number": c.number,
            "claim": c.words,
            "verdict": f.verdict,
            "seeds": f.seeds,
            "missing": f.missing,
            "parts": plain([replace(part, verdict=f.said(part.verdict)) for part in f.parts]),
        }
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
        claims=[{"claim": claim, "finding": finding, "strips": strips(finding)} for claim, finding in pairs],
        counts=counts([finding.verdict for finding in findings]),
        seeds=max((len(c.observations) for f in findings for _, c in f.conditions), default=0),
        least_seeds=SEEDS,
        margin=MARGIN,
        subjects=sorted({each.params["subject"] for found in evidence.values() for each in found.observations}),
        experiments={name: source(name).read_text() for name in evidence},
        links=links,
        data=script_json([figure(claim, finding) for claim, finding in pairs]),
        style=Markup((TEMPLATES / "page.css").read_text() + (TEMPLATES / "blog.css").read_text()),
        script=Markup((TEMPLATES / "blog.js").read_text()),
        plotly=Markup(get_plotlyjs()),
    )


def counts(verdicts: Sequence[str]) -> str:
    """How many claims came out how, in words."""
    words = {
        SUPPORTED: "are supported",
        NOT_SUPPORTED: "are not",
        SUGGESTS[SUPPORTED]: "are suggested to hold",
        SUGGESTS[NOT_SUPPORTED]: "are suggested not to hold",
        INCONCLUSIVE: "are inconclusive",
        NOT_JUDGED: "could not be judged",
    }
    said = [f"{verdicts.count(verdict)} {text}" for verdict, text in words.items() if verdict in verdicts]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def figure(claim: Claim, finding: Finding) -> BlogFigure:
    labels = [label for label, _ in finding.conditions]
    plots: list[BlogPlot] = [
        {"title": MEASURES[measure], "values": [_with_interval(c[measure]) for _, c in finding.conditions]}
        for measure in claim.measures
    ]
    return {"number": claim.number, "labels": labels, "plots": plots}


def _with_interval(number: Bootstrapped) -> tuple[float, float, float]:
    low, high = number.interval
    return number.value, low, high


def strips(finding: Finding) -> list[Strip]:
    """For each subject its photographs, and images of the same prompts from the same noise: of the untuned model and of
    the conditions."""
    found: list[Strip] = []
    seen: set[tuple[str, str | Path | None]] = set()
    for label, condition in finding.conditions:
        observation = condition.observations[0]
        subject = observation.params["subject"]
        for key, words, images in (
            ("photographs", f"{subject} · photographs", _photographs(observation)),
            (observation.untuned, f"{subject} · untuned model", _tiles(observation.untuned)),
            (observation.samples, label, _tiles(observation.samples)),
        ):
            if (subject, key) not in seen and images:
                found.append({"label": words, "images": [picture(path, LARGEST) for path in images]})
            seen.add((subject, key))
    return found


def _tiles(folder: Path | None) -> list[Path]:
    return sorted(folder.glob("*-00.png"))[:TILES] if folder else []


def _photographs(observation: Observation) -> list[Path]:
    return list(instance_images(observation.photographs))[:TILES] if observation.photographs else []
