"""Where every image of the contact sheet lies: which axes run to the right, downwards and over pages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from sweeper.plan.axes import axis_of

COLUMNS, ROWS = 12, 12  # at most, of images on a page
PROMPT = "prompt"  # the axis that is no setting
Key = tuple[Any, ...]  # values along the axes of one side


@dataclass(frozen=True)
class Tile:
    """One evaluated checkpoint; both folders hold `{prompt:02d}-{image:02d}.png`."""

    params: dict[str, Any]
    samples: Path | None = None
    untuned: Path | None = None  # the same prompts and noise, from the untuned model
    caption: str = ""  # a few characters under the image
    fault: str = ""  # shown where there is no image: the state and its reason


@dataclass(frozen=True)
class Layout:
    """Which axes run along the columns (the last one fastest), the rows and the pages. `prompt` is one of them."""

    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    prompts: int = 1  # on one page


@dataclass(frozen=True)
class Page:
    """A raster of images: keys are values along the layout's axes; a prompt's value is its position."""

    heading: dict[str, Any]
    columns: list[Key]
    rows: list[Key]
    cells: dict[tuple[Key, Key], int] = field(default_factory=dict)  # (row key, column key) -> index


def arrange(axes: Mapping[str, Sequence[Any]], prompts: int) -> Layout:
    """Steps run to the right and learning rates (axes on a logarithmic scale) downwards; an axis of two values stands
    side by side. An axis joins a side while the page stays readable, the prompts last."""
    columns = ["steps"] if "steps" in axes else []
    rows: list[str] = []
    pages: list[str] = []
    wide = len(axes.get("steps", ())) or 1
    high = 1
    others = sorted((a for a in axes if a != "steps"), key=lambda a: not axis_of(a).log)
    for axis in others:
        size = len(axes[axis])
        fits_rows = not rows or high * size <= ROWS
        fits_columns = wide * size <= COLUMNS
        if fits_columns and (axis_of(axis).stage == "sample" and rows or not fits_rows):
            columns.insert(0, axis)
            wide *= size
        elif fits_rows:
            rows.append(axis)
            high *= size
        else:
            pages.append(axis)
    beside = next((axis for axis in rows if len(axes[axis]) == 2 and not axis_of(axis).log), None)
    if beside and len(rows) > 1 and 2 * wide <= COLUMNS:
        rows.remove(beside)
        columns.append(beside)
        wide *= 2
        high //= 2
    if wide * prompts > COLUMNS and high * prompts <= ROWS:
        return Layout(tuple(columns), (PROMPT, *rows), tuple(pages), prompts)
    return Layout((PROMPT, *columns), tuple(rows), tuple(pages), max(1, min(prompts, COLUMNS // wide)))


def paginate(
    cells: Sequence[Tile], axes: Mapping[str, Sequence[Any]], layout: Layout, chosen: int | None, prompts: int
) -> list[Page]:
    """The pages that have cells, those with the chosen cell first."""
    settings = [name for name in (*layout.pages, *layout.rows, *layout.columns) if name != PROMPT]
    index = {tuple(cell.params.get(name) for name in settings): i for i, cell in enumerate(cells)}

    def chunks(values: list[Key], size: int) -> list[list[Key]]:
        count = -(-len(values) // size)
        return [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]

    def keys(names: tuple[str, ...], shown: range) -> list[Key]:
        return list(product(*(shown if name == PROMPT else axes[name] for name in names)))

    def found(page: Key, rows: list[Key], columns: list[Key]) -> Iterator[tuple[tuple[Key, Key], int]]:
        for row, column in product(rows, columns):
            place = dict(zip((*layout.pages, *layout.rows, *layout.columns), (*page, *row, *column), strict=True))
            i = index.get(tuple(place[name] for name in settings))
            if i is not None:
                yield (row, column), i

    pages = []
    for page_key in keys(layout.pages, range(0)):
        for first in range(0, max(1, prompts), layout.prompts):
            shown = range(first, min(first + layout.prompts, max(1, prompts)))
            row_chunks = chunks(keys(layout.rows, shown), 2 * ROWS)
            column_chunks = chunks(keys(layout.columns, shown), 2 * COLUMNS)
            for rows, columns in product(row_chunks, column_chunks):
                there = dict(found(page_key, rows, columns))
                if there:
                    pages.append(Page(dict(zip(layout.pages, page_key, strict=True)), columns, rows, there))
    return sorted(pages, key=lambda page: chosen not in page.cells.values())
