"""How MLflow's page opens on a sweep: a shared view of MLflow's own (tried with 3.17), kept as a tag."""

import base64
import hashlib
import json
import zlib
from typing import Any

from sweeper.plan.axes import axis_of
from sweeper.results.ordering import MEASURED, metric_names, varying
from sweeper.results.types import Results

IMAGE_KEY = "samples"
SECTIONS = {  # name, columns, height of a chart
    "axes": ("Axes and scores", 1, 400),
    "samples": ("Samples", 2, 640),
    "metrics": ("Metrics", 3, 400),
}


def literal(text: str) -> str:
    """A text inside a search expression of MLflow, which knows both quotation marks and no escape."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def cells_of(sweep: str) -> str:
    """The search expression for the evaluated checkpoints of a sweep: its cells, and those on the way to them."""
    return f"tags.sweep = {literal(sweep)} and tags.kind != 'sweep' and tags.kind != 'training'"


def view_key(sweep: str) -> str:
    return hashlib.sha256(sweep.encode()).hexdigest()[:16]


def view_state(results: Results) -> str:
    """A table of the evaluated checkpoints, best first, with axes and metrics as columns, and charts: parallel
    coordinates, s against t, images, bars."""
    metrics = metric_names(results.rows)
    axes = list(varying(results))
    scores = [name for name in MEASURED if name in metrics]
    lines = [axis for axis in axes if not axis_of(axis).log]
    logarithms = [axis_of(axis).log_name for axis in axes if axis_of(axis).log]
    numbers = logarithms + scores[::-1]  # MLflow colours the lines by the last
    charts = [_chart("axes", type="PARALLEL", selectedParams=lines, selectedMetrics=numbers)]
    charts.append(_chart("samples", type="IMAGE", imageKeys=[IMAGE_KEY], step=0))
    if "s" in metrics and "t" in metrics:
        charts.append(_chart("samples", type="SCATTER", xaxis=_axis("t"), yaxis=_axis("s")))
    charts += [_chart("metrics", type="BAR", metricKey=name) for name in metrics]
    state = {
        "searchFilter": cells_of(results.name),
        "orderByKey": "metrics.`expected_score`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [f"params.`{axis}`" for axis in axes] + [f"metrics.`{name}`" for name in metrics],
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "FIRST_20_RUNS",
        "runListHidden": False,
        "viewMaximized": False,
        "groupBy": None,
        "hideEmptyCharts": True,
        "useGroupedValuesInCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [_section(uuid, *SECTIONS[uuid]) for uuid in SECTIONS],
        "compareRunCharts": [{**chart, "uuid": f"sweep-{i}"} for i, chart in enumerate(charts)],
    }
    packed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)
    return "deflate;" + base64.b64encode(packed).decode()


def _axis(name: str) -> dict[str, str]:
    return {"key": name, "type": "METRIC"}


def _section(uuid: str, name: str, columns: int, height: int) -> dict[str, Any]:
    flags = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "name": name, "columns": columns, "cardHeight": height, **flags}


def _chart(section: str, **chart: Any) -> dict[str, Any]:
    flags = {"deleted": False, "isGenerated": False, "runsCountToCompare": 20, "showAllRuns": True}
    return {"metricSectionId": section, **flags, **chart}
