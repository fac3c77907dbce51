"""report.html: one file that shows the sweep and says which checkpoint to use. Works offline, in any browser."""

import json
import random
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from evaluation.spec import show
from sweeper.report.effects import effects
from sweeper.report.files import plain
from sweeper.report.progress import hours
from sweeper.report.terminal import shares
from sweeper.report.thumbnails import picture, strips, tile_names
from sweeper.results.ordering import SCORES, metric_names, ranked, raster, sentence, varying
from sweeper.results.types import COMPLETE, Results, Row
from trainers.files import write_bytes

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("core.js", "curves.js", "pareto.js", "grid.js", "effects.js", "table.js")
VETO_EXAMPLES = 4  # per kind of veto


def template(name: str) -> Template:
    """A page's template; all that is put into it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": show, "hours": hours}
    return environment.get_template(name)


def gather(results: Results) -> dict[str, Any]:
    """What takes time on a page: its images and numbers."""
    data, images = script_json(page_data(results)), script_json(page_images(results))
    return {"pictures": pictures(results), "data": data, "images": images}


def render(path: Path, results: Results, gathered: dict[str, Any]) -> Path:
    html = template("page.html.j2").render(
        **words(results),
        **gathered,
        style=Markup((TEMPLATES / "page.css").read_text()),
        scripts=Markup("\n".join((TEMPLATES / name).read_text() for name in SCRIPTS)),
        plotly=Markup(get_plotlyjs()),
    )
    write_bytes(path, html.encode())
    return path


def script_json(value: Any) -> Markup:
    """JSON that is safe inside a script element: nothing in it can close the element or open another."""
    text = json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}))


def page_data(results: Results) -> dict[str, Any]:
    """What the scripts draw from: one entry per row in every list, numbers cut to five digits."""
    rows, spot = results.rows, results.sweet_spot
    axes, places = raster(results)
    metrics = metric_names(rows)
    return {
        "axes": {name: {"values": values, "shown": [show(v) for v in values]} for name, values in axes.items()},
        "place": {name: _positions(values, [place.get(name) for place in places]) for name, values in axes.items()},
        "varying": {name: [show(row.params.get(name)) for row in rows] for name in varying(results)},
        "metrics": {name: [_short(row.metrics.get(name)) for row in rows] for name in metrics},
        "intervals": {
            name: [[_short(end) for end in row.intervals.get(name, (None, None))] for row in rows]
            for name in metrics
            if any(name in row.intervals for row in rows)
        },
        "state": [row.state for row in rows],
        "asked": [row.asked for row in rows],
        "reason": [row.reason for row in rows],
        "vetoes": [row.vetoes for row in rows],
        "checkpoint": [row.checkpoint for row in rows] if len(rows) <= 1000 else [],
        "onset": [spot.onset.get(row.curve) for row in rows],
        "ranked": ranked(results),
        "best": results.best,
        "region": results.positions(spot.region),
        "pareto": results.positions(spot.pareto),
        "knee": results.positions([spot.knee])[0] if spot.knee is not None else None,
        "effects": _effects(results, axes, places),
        "prompts": results.prompts,
    }


def page_images(results: Results) -> dict[str, Any]:
    """The strips of samples, and the untuned model's in the same order of tiles."""
    rows = results.rows
    names, size = tile_names([row.samples for row in rows], len(rows))
    first = list(
        dict.fromkeys([i for i in [results.best] if i is not None] + results.positions(results.sweet_spot.pareto))
    )
    rest = sorted(set(range(len(rows))) - set(first))
    random.Random(0).shuffle(rest)  # spread evenly if the budget ends before the rows do
    folders = list(dict.fromkeys(results.untuned_of(row) for row in rows))
    return {
        "tiles": [{"prompt": int(name[:2]), "image": int(name[3:5])} for name in names],
        "size": size,
        "rows": strips([row.samples for row in rows], first + rest, names, size),
        "untuned": strips(folders, range(len(folders)), names, size),
        "untuned_of": [folders.index(results.untuned_of(row)) for row in rows],
    }


def pictures(results: Results) -> list[dict[str, Any]]:
    """The images beside the answer: photographs, the untuned model, the chosen checkpoint."""
    best = None if results.best is None else results.rows[results.best]
    untuned = results.untuned_of(best or results.rows[0]) if results.rows else None

    def samples(folder: Path | None) -> list[dict[str, str]]:
        files = sorted(folder.glob("*-00.png"))[:4] if folder else []
        return [{"uri": picture(file), "words": prompt} for file, prompt in zip(files, results.prompts, strict=False)]

    photographs = [{"uri": picture(path), "words": "a photograph"} for path in results.instance_images[:4]]
    strips_ = [("Photographs", photographs), ("Untuned model", samples(untuned))]
    strips_ += [("Chosen checkpoint", samples(best.samples))] if best else []
    return [{"title": title, "images": images} for title, images in strips_ if images]


def words(results: Results) -> dict[str, Any]:
    """The texts and numbers of the page that need no script."""
    spot, rows = results.sweet_spot, results.rows
    best = None if results.best is None else rows[results.best]
    reported = {name: dict(zip(("mean", "low", "high"), spot.reported[name], strict=True)) for name in spot.reported}
    done = sum(row.state == COMPLETE for row in rows)
    return {
        "results": results,
        "sentence": sentence(results),
        "spot": spot,
        "best": best,
        "reported": reported,
        "onset": spot.onset.get(best.curve) if best else None,
        "region": _region(results),
        "veto_kinds": veto_kinds(results),
        "faults": [(i, row) for i, row in enumerate(rows) if row.state != COMPLETE],
        "done": done,
        "chosen_params": {name: best.params.get(name) for name in varying(results)} if best else {},
        "snippet": snippet(results.export, best, results.prompts) if best and results.export else "",
        "metrics": metric_names(rows),
        "effect_metrics": [name for name in SCORES if any(name in row.metrics for row in rows)],
        "shares": shares(results.timings),
    }


def snippet(export: Path, best: Row, prompts: tuple[str, ...]) -> str:
    """Python that makes an image with the exported checkpoint, which brings its scheduler, sampled as it was judged."""
    params = best.params
    lines = ["import diffusers", "", f"pipeline = diffusers.DiffusionPipeline.from_pretrained({str(export)!r})"]
    named = (("num_inference_steps", "inference_steps"), ("guidance_scale", "guidance_scale"))
    how = "".join(f", {keyword}={params[axis]}" for keyword, axis in named if axis in params)
    lines += [f"image = pipeline({(prompts or ('',))[0]!r}{how}).images[0]", 'image.save("image.png")']
    return "\n".join(lines)


def veto_kinds(results: Results) -> list[dict[str, Any]]:
    """Vetoes alike but for their numbers, the most frequent first, each with rows to look at."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for i in ranked(results):
        for veto in results.rows[i].vetoes:
            kinds[re.split(r"[^\w\s'’-]|\s[+-]?\d", veto, maxsplit=1)[0].strip()].append(i)
    return [
        {"words": kind, "count": len(found), "rows": found[:VETO_EXAMPLES]}
        for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]


def _region(results: Results) -> dict[str, str]:
    """For each axis, the values that the checkpoints within one standard error of the best take."""
    rows = [results.rows[i] for i in results.positions(results.sweet_spot.region)]
    spans = {}
    for axis, values in varying(results).items():
        counts = Counter(row.params.get(axis) for row in rows)
        present = [value for value in values if counts[value]]
        numbers = len(present) > 2 and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in present)
        shown = f"{show(present[0])} to {show(present[-1])}" if numbers else " or ".join(map(show, present))
        if present:
            spans[axis] = shown
    return spans


def _effects(results: Results, axes: dict[str, Any], places: list[dict[str, Any]]) -> dict[str, Any]:
    asked = [i for i, row in enumerate(results.rows) if row.asked]
    return {
        name: effects([places[i] for i in asked], axes, np.array([_value(results, i, name) for i in asked]))
        for name in SCORES
        if any(name in row.metrics for row in results.rows)
    }


def _value(results: Results, index: int, name: str) -> float:
    return float(results.rows[index].metrics.get(name, np.nan))


def _positions(values: tuple[Any, ...], found: list[Any]) -> list[int]:
    position = {value: i for i, value in enumerate(values)}
    return [position.get(value, -1) for value in found]


def _short(value: float | None) -> float | None:
    return None if value is None or value != value else float(f"{value:.5g}")
