"""Everything a sweep leaves for people and programs to read: all of it at the end, page and sheet while it runs."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.report import contact_sheet
from sweeper.report.files import write_csv, write_results_json
from sweeper.report.page import gather, render
from sweeper.report.sheet_layout import Tile
from sweeper.results.ordering import raster
from sweeper.results.types import COMPLETE, Results

PAUSE = 20  # times as long as writing the page took, until it is written again
SHEET_STEPS = 8  # columns of steps on the contact sheet, unless more were asked for


def write(results: Results) -> tuple[Results, dict[str, Path]]:
    """Writes results.csv, results.json, contact_sheet.png (-2, -3, ...) and report.html into the sweep's folder.

    Returns the results with the time that this took, which is in the files too, and the files by name.
    """
    start = time.monotonic()
    folder = results.folder
    sheets = write_contact_sheet(folder / "contact_sheet.png", results)
    gathered = gather(results)
    seconds = time.monotonic() - start
    if not results.rerun:
        spent = {kind: results.timings.get(kind, 0.0) + seconds for kind in ("pages", "wall")}
        results = replace(results, timings={**results.timings, **spent})
    return results, {
        "results.csv": write_csv(folder / "results.csv", results),
        "results.json": write_results_json(folder / "results.json", results),
        "contact_sheet.png": folder / "contact_sheet.png",
        "report.html": render(folder / "report.html", results, gathered, [sheet.name for sheet in sheets]),
    }


class LivePage:
    """The page and the contact sheet of a sweep that runs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.next = -math.inf

    def refresh(self, results: Results) -> None:
        """Writes both, unless that would take more than a twentieth of the time."""
        start = self.clock()
        if start < self.next:
            return
        try:
            sheets = write_contact_sheet(results.folder / "contact_sheet.png", results)
            names = [sheet.name for sheet in sheets]
            render(results.folder / "report.html", results, gather(results), names, running=True)
        except OSError:  # such as a full disk: the sweep goes on, and says so where it matters
            pass
        end = self.clock()
        self.next = end + PAUSE * (end - start)


def write_contact_sheet(path: Path, results: Results) -> list[Path]:
    """Writes `path`, and more with -2, -3, ... in their names; returns them."""
    axes, places = raster(results)
    if "steps" in axes:
        axes |= {"steps": _some_steps(results)}
    return contact_sheet.draw(
        path,
        [_tile(results, i, place) for i, place in enumerate(places)],
        axes,
        title=f"{results.name}: {results.subject}, {results.model}",
        prompts=results.prompts,
        photographs=results.instance_images,
        chosen=results.best,
    )


def _some_steps(results: Results) -> tuple[int, ...]:
    """The steps that were asked for, the chosen one, and as many of the others as fit on a sheet, evenly spread."""
    steps = sorted({row.step for row in results.rows})
    kept = {row.step for i, row in enumerate(results.rows) if row.asked or i == results.best}
    others = [step for step in steps if step not in kept]
    room = max(0, min(SHEET_STEPS - len(kept), len(others)))
    between = {others[(2 * i + 1) * len(others) // (2 * room)] for i in range(room)}  # the middles of equal parts
    return tuple(sorted(kept | between))


def _tile(results: Results, index: int, place: dict[str, Any]) -> Tile:
    row = results.rows[index]
    caption = []
    if "score" in row.metrics:
        caption.append(f"{row.metrics['score']:.2f}")
    if row.vetoes:
        caption.append("veto")
    fault = "" if row.state == COMPLETE else f"{row.state} {row.reason}"
    return Tile(place, row.samples, row.untuned, " · ".join(caption), fault)
