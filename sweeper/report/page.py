"""report.html: one file that shows the sweep and says which checkpoint to use. Works offline, in any browser."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from evaluation.spec import show
from sweeper.report.answer import answer_of, settings_of
from sweeper.report.files import plain
from sweeper.report.page_data import PageData, page_data
from sweeper.report.page_images import Strip, page_images, pictures
from sweeper.report.progress import hours
from sweeper.report.terminal import shares
from sweeper.report.titles import title
from sweeper.results.ordering import ranked
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
    environment.filters |= {"show": show, "hours": hours, "title_of": title}
    return environment.get_template(name)


@dataclass(frozen=True)
class Gathered:
    """What takes time on a page: its images and numbers."""

    pictures: list[Strip]
    data: PageData
    images: Markup  # PageImages


def gather(results: Results) -> Gathered:
    return Gathered(pictures(results), page_data(results), script_json(page_images(results)))


def render(path: Path, results: Results, gathered: Gathered, sheets: Sequence[str] = (), running: bool = False) -> Path:
    """Writes the page. sheets: names of the contact sheets beside it; running: the sweep has not ended."""
    html = template("page.html.j2").render(
        **texts(results),
        progress=progress(results) if running else "",
        sheets=sheets,
        off_front=off_front(results, gathered.data),
        order=gathered.data["order"],
        meanings=gathered.data["about"],
        pictures=gathered.pictures,
        data=script_json(gathered.data),
        images=gathered.images,
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


def texts(results: Results) -> dict[str, Any]:
    """The texts and numbers of the page that need no script, for the template."""
    spot = results.sweet_spot
    rows = results.rows
    best = None if results.best is None else rows[results.best]
    return {
        "results": results,
        "answer": answer_of(results),
        "spot": spot,
        "best": best,
        "veto_kinds": veto_kinds(results),
        "faults": [(i, row) for i, row in enumerate(rows) if row.state != COMPLETE],
        "done": sum(row.state == COMPLETE for row in rows),
        "snippet": snippet(results.export, best, results.prompts) if best and results.export else "",
        "shares": shares(results.timings),
    }


def progress(results: Results) -> str:
    """How far a sweep is, in words."""
    counts = [
        f"{sum(one.state == COMPLETE for one in all_of_them)} of {len(all_of_them)}"
        for all_of_them in (results.trainings, results.rows)
    ]
    return f"{counts[0]} trainings and {counts[1]} checkpoints are done."


def off_front(results: Results, data: PageData) -> str:
    """Why the star does not lie on the line of those that nothing beats; empty where it does."""
    best = data["best"]
    if best is None or best in data["pareto"]:
        return ""
    star = results.rows[best].metrics
    above = [i for i in data["pareto"] if all(results.rows[i].metrics[name] >= star[name] for name in ("s", "t"))]
    if not above:
        return "The star lies off it: trainings with its other seeds count too."
    other = settings_of(results.rows[above[0]], results)
    why = "not by more than chance" if above[0] in data["region"] else "but what its neighbours measured counts too"
    return f"The star lies off it: {other} measured higher in both, {why}."


def snippet(export: Path, best: Row, prompts: tuple[str, ...]) -> str:
    """Python that makes an image with the exported checkpoint, which brings its scheduler, sampled as it was scored."""
    arguments = [repr(prompts[0] if prompts else "")]
    for keyword, axis in (("num_inference_steps", "inference_steps"), ("guidance_scale", "guidance_scale")):
        if axis in best.params:
            arguments.append(f"{keyword}={best.params[axis]}")
    lines = [
        "import diffusers",
        "",
        f"pipeline = diffusers.DiffusionPipeline.from_pretrained({str(export)!r})",
        f"image = pipeline({', '.join(arguments)}).images[0]",
        'image.save("image.png")',
    ]
    return "\n".join(lines)


class VetoKind(TypedDict):
    words: str
    count: int
    rows: list[int]  # to look at


def veto_kinds(results: Results) -> list[VetoKind]:
    """Vetoes that differ in their numbers only are one kind; the most frequent kind first."""
    found: dict[str, list[int]] = defaultdict(list)
    for i in ranked(results):
        for veto in results.rows[i].vetoes:
            words = re.split(r"[^\w\s'’-]|\s[+-]?\d", veto, maxsplit=1)[0].strip()
            found[words].append(i)
    kinds: list[VetoKind] = [
        {"words": words, "count": len(rows), "rows": rows[:VETO_EXAMPLES]} for words, rows in found.items()
    ]
    return sorted(kinds, key=lambda kind: -kind["count"])
