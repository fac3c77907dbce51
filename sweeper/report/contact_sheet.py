"""The contact sheet: one image per cell, the varying axes as labelled rows and columns, further axes as further pages.

Every image of a page column shares its prompt and its initial noise. The photographs and the untuned model come
first, the chosen cell is framed, and a cell that failed says so.
"""

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, product
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from evaluation.spec import show
from sweeper.plan.axes import axis_of
from sweeper.report.thumbnails import thumbnail
from trainers.files import write_bytes

COLUMNS, ROWS, PAGES = 12, 12, 12  # at most, of cells on a page and of pages
GAP, GROUP_GAP, MARGIN = 4, 12, 24
PAPER, INK, SOFT, HOLE, FAULT, ACCENT = "#ffffff", "#1c1c1e", "#6e6e73", "#f2f2f4", "#fbeceb", "#c2410c"
Font = ImageFont.FreeTypeFont
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
    """Which axes run along the columns (the last one fastest), the rows and the pages."""

    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    prompts: int = 1  # how many stand side by side


@dataclass(frozen=True)
class Page:
    """A raster of cells: keys are values along the layout's axes; a column key starts with the prompt's index."""

    heading: dict[str, Any]
    columns: list[Key]
    rows: list[Key]
    cells: dict[tuple[Key, Key], int] = field(default_factory=dict)  # (row key, column key without prompt) -> index


def arrange(axes: Mapping[str, Sequence[Any]], prompts: int) -> Layout:
    """Steps run to the right and learning rates (axes on a logarithmic scale) downwards. An axis joins a side while the
    page stays readable."""
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
    return Layout(tuple(columns), tuple(rows), tuple(pages), max(1, min(prompts, COLUMNS // wide)))


def paginate(
    cells: Sequence[Tile], axes: Mapping[str, Sequence[Any]], layout: Layout, chosen: int | None
) -> list[Page]:
    """The pages that have cells, the one with the chosen cell first."""

    def keys(names: tuple[str, ...]) -> list[Key]:
        return list(product(*(axes[name] for name in names)))

    def chunks(values: list[Key], size: int) -> list[list[Key]]:
        count = -(-len(values) // size)
        return [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]

    def place(cell: Tile, names: tuple[str, ...]) -> Key:
        return tuple(cell.params.get(name) for name in names)

    index = {
        (place(cell, layout.pages), place(cell, layout.rows), place(cell, layout.columns)): i
        for i, cell in enumerate(cells)
    }
    row_chunks = chunks(keys(layout.rows), 2 * ROWS)
    column_chunks = chunks(keys(layout.columns), 2 * COLUMNS)
    pages = []
    for page_key, rows, columns in product(keys(layout.pages), row_chunks, column_chunks):
        found = {(r, c): index[page_key, r, c] for r in rows for c in columns if (page_key, r, c) in index}
        if found:
            across = [(p, *c) for p in range(layout.prompts) for c in columns]
            pages.append(Page(dict(zip(layout.pages, page_key, strict=True)), across, rows, found))
    return sorted(pages, key=lambda page: chosen not in page.cells.values())


def draw(
    path: Path,
    cells: Sequence[Tile],
    axes: Mapping[str, Sequence[Any]],
    *,
    title: str,
    prompts: Sequence[str],
    photographs: Sequence[Path],
    chosen: int | None = None,
) -> list[Path]:
    """Writes `path`, and `path` with -2, -3, ... for further pages; returns what was written."""
    layout = arrange(axes, len(prompts))
    pages = paginate(cells, axes, layout, chosen)
    written = []
    for number, page in enumerate(pages[:PAGES], start=1):
        heading = [title] + [f"{axis} = {show(value)}" for axis, value in page.heading.items()]
        if len(pages) > PAGES:
            heading.append(f"page {number} of {len(pages)} ({PAGES} drawn)")
        elif len(pages) > 1:
            heading.append(f"page {number} of {len(pages)}")
        image = _Sheet(page, layout, cells, prompts, "   ·   ".join(heading)).paint(photographs, chosen)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=5)
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        write_bytes(target, buffer.getvalue())
        written.append(target)
    for stale in path.parent.glob(f"{path.stem}-*{path.suffix}"):
        if stale not in written:
            stale.unlink()
    return written


@lru_cache(maxsize=16)
def _font(size: int, bold: bool = False) -> Font:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _lines(text: str, font: Font, room: float, most: int) -> list[str]:
    """The text in `most` lines or fewer. What has no room stays in the last line, to be cut there."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > room and len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _runs(keys: Sequence[Key], length: int | None) -> Iterator[list[int]]:
    """Positions of neighbours that agree in the first `length` values of their keys; None: in all."""
    for _, group in groupby(range(len(keys)), lambda i: keys[i][:length]):
        yield list(group)


class _Sheet:
    """Places and paints one page."""

    def __init__(self, page: Page, layout: Layout, cells: Sequence[Tile], prompts: Sequence[str], title: str) -> None:
        self.page = page
        self.layout = layout
        self.cells = cells
        self.prompts = prompts
        self.title = title
        self.tile = self._tile()
        self.label_widths = [self._label_width(level) for level in range(len(layout.rows))]
        self.left = MARGIN + max(110, sum(self.label_widths))
        self.xs = self._columns()
        self.reference = MARGIN + 40  # top of the photographs
        self.header = self.reference + 2 * (self.tile + GAP) + GROUP_GAP
        self.prompt_lines = 1 if len(layout.columns) else 2
        self.top = self.header + 4 + 22 * (self.prompt_lines + len(layout.columns))
        self.pitch = self.tile + 20
        title_room = MARGIN * 2 + int(_font(17, True).getlength(title))
        width = max(self.xs[-1] + self.tile + MARGIN, 640, title_room)
        self.image = Image.new("RGB", (width, self.top + self.pitch * len(page.rows) + MARGIN), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    def _tile(self) -> int:
        """Pixels of a cell: the sample's own size times a whole number where it is small."""
        samples = next((cell.samples for cell in self.cells if cell.samples), None)
        first = next(iter(sorted(samples.glob("*.png"))), None) if samples else None
        if first is None:
            return 128
        with Image.open(first) as image:
            side = min(image.size)
        return side * max(1, 128 // side) if side <= 192 else 192

    def _label_width(self, level: int) -> int:
        name = self.layout.rows[level]
        texts = [f"{name}", *(show(row[level]) for row in self.page.rows)]
        return 14 + max(int(_font(13).getlength(textwrap.shorten(text, 28))) for text in texts)

    def _columns(self) -> list[int]:
        """Left edges; a wider gap where the prompt or an outer axis changes."""
        xs = []
        x = self.left
        for before, key in zip([None, *self.page.columns], self.page.columns, strict=False):
            x += GROUP_GAP if before and before[:-1] != key[:-1] else 0
            xs.append(x)
            x += self.tile + GAP
        return xs

    def paint(self, photographs: Sequence[Path], chosen: int | None) -> Image.Image:
        self._text(MARGIN, MARGIN, self.title, _font(17, True), self.image.width)
        self._references(photographs)
        self._headers()
        for r, row in enumerate(self.page.rows):
            for c, column in enumerate(self.page.columns):
                index = self.page.cells.get((row, column[1:]))
                place = self.xs[c], self.top + r * self.pitch
                self._cell(place, None if index is None else self.cells[index], column[0], index == chosen)
        return self.image

    def _text(self, x: int, y: int, text: str, font: Font, room: float, fill: str = INK, anchor: str = "la") -> None:
        """One line, cut with an ellipsis where there is no room; control characters become spaces."""
        text = "".join(c if c.isprintable() else " " for c in text)
        while text and font.getlength(text) > room:
            text = text[:-2] + "…" if len(text) > 2 else ""
        self.pen.text((x, y), text, font=font, fill=fill, anchor=anchor)

    def _references(self, photographs: Sequence[Path]) -> None:
        y = self.reference
        self._text(MARGIN, y + self.tile // 2, "photographs", _font(13), self.left - MARGIN, SOFT, "lm")
        room = max(4, (self.xs[-1] - self.left) // (self.tile + GAP) + 1)
        for i, path in enumerate(photographs[:room]):
            self.image.paste(thumbnail(path, self.tile), (self.left + i * (self.tile + GAP), y))
        y += self.tile + GAP
        self._text(MARGIN, y + self.tile // 2, "untuned model", _font(13), self.left - MARGIN, SOFT, "lm")
        steps_last = bool(self.layout.columns) and self.layout.columns[-1] == "steps"
        for group in _runs(self.page.columns, -1 if steps_last else None):
            column = group[0]
            key = self.page.columns[column]
            folders = (self.cells[i].untuned for (_, c), i in self.page.cells.items() if c == key[1:])
            self._sample((self.xs[column], y), next(folders, None), key[0])

    def _headers(self) -> None:
        columns = self.page.columns
        y = self.header
        for level in range(len(self.layout.columns) + 1):
            for span in _runs(columns, level + 1):
                x = self.xs[span[0]]
                end = self.xs[span[-1]] + self.tile
                if level == 0:
                    words = f"“{self.prompts[columns[span[0]][0]]}”"
                    for i, line in enumerate(_lines(words, _font(13, True), end - x, self.prompt_lines)):
                        self._text(x, y + 18 * i, line, _font(13, True), end - x)
                else:
                    name = self.layout.columns[level - 1]
                    value = show(columns[span[0]][level])
                    self._text((x + end) // 2, y, f"{name} {value}", _font(13), end - x, SOFT, "ma")
            y += 22 * (self.prompt_lines if level == 0 else 1)
        x = MARGIN
        for level, name in enumerate(self.layout.rows):
            self._text(x, self.top - 20, name, _font(13), self.label_widths[level], SOFT)
            for group in _runs(self.page.rows, level + 1):
                first = group[0]
                y = self.top + first * self.pitch
                text = show(self.page.rows[first][level])
                self._text(x, y + self.tile // 2, text, _font(13, True), self.label_widths[level] - 8, anchor="lm")
                if first and level == 0:
                    self.pen.line((MARGIN, y - 2, self.image.width - MARGIN, y - 2), fill="#d8d8dc")
            x += self.label_widths[level]

    def _cell(self, place: tuple[int, int], cell: Tile | None, prompt: int, chosen: bool) -> None:
        x, y = place
        if cell is None or cell.fault:
            self.pen.rectangle((x, y, x + self.tile - 1, y + self.tile - 1), fill=FAULT if cell else HOLE)
        if cell is None:
            return
        if cell.fault:
            for i, line in enumerate(_lines(cell.fault, _font(11), self.tile - 10, self.tile // 15 - 1)):
                self._text(x + 6, y + 6 + 15 * i, line, _font(11), self.tile - 10)
        else:
            self._sample(place, cell.samples, prompt)
        self._text(x, y + self.tile + 2, cell.caption, _font(11), self.tile, SOFT)
        if chosen:
            self.pen.rectangle((x - 3, y - 3, x + self.tile + 2, y + self.tile + 2), outline=ACCENT, width=4)
            label = "sweet spot"
            font = _font(11, True)
            self.pen.rectangle((x - 3, y - 3, x + 9 + int(font.getlength(label)), y + 15), fill=ACCENT)
            self._text(x + 3, y, label, font, self.tile, PAPER)

    def _sample(self, place: tuple[int, int], folder: Path | None, prompt: int) -> None:
        path = folder / f"{prompt:02d}-00.png" if folder else None
        if path and path.exists():
            self.image.paste(thumbnail(path, self.tile), place)
        else:
            x, y = place
            self.pen.rectangle((x, y, x + self.tile - 1, y + self.tile - 1), fill=HOLE)
