"""The contact sheet: one image per cell and prompt, the varying axes and the prompts as labelled rows and columns; what
has no room there is on further pages.

Images of one prompt share their initial noise. The photographs and the untuned model come first, the chosen cell is
framed, and a cell that failed says so.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, product
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from evaluation.spec import show
from sweeper.plan.axes import axis_of
from sweeper.report.sheet_layout import PROMPT, Key, Layout, Page, Tile, arrange, paginate
from sweeper.report.thumbnails import thumbnail
from trainers.files import write_bytes

PAGES = 12  # drawn at most
GAP, GROUP_GAP, MARGIN = 4, 12, 24
LABEL, LINES = 200, 8  # pixels of a row's label and lines of a text at most
LINE = 17  # pixels
PAPER, INK, SOFT, HOLE, FAULT, ACCENT = "#ffffff", "#1c1c1e", "#6e6e73", "#f2f2f4", "#fbeceb", "#c2410c"
Font = ImageFont.FreeTypeFont


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
    pages = paginate(cells, axes, layout, chosen, len(prompts))
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
        # Where the prompts run downwards, the untuned model's images are a column, else a row.
        self.first = self.left + (self.tile + GAP + GROUP_GAP if PROMPT in layout.rows else 0)
        self.xs = self._columns()
        self.reference = MARGIN + 40  # top of the photographs
        self.header = self.reference + (self.tile + GAP) * (1 if PROMPT in layout.rows else 2) + GROUP_GAP
        self.levels = [self._level(level) for level in range(len(layout.columns))]
        self.top = self.header + 10 + sum(LINE * max(map(len, texts.values())) + 5 for texts in self.levels) + 12
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

    def _words(self, name: str, value: Any) -> str:
        if name != PROMPT:
            return show(value)
        return f"“{self.prompts[value]}”" if value < len(self.prompts) else ""

    def _label_width(self, level: int) -> int:
        name = self.layout.rows[level]
        texts = [name, *(self._words(name, row[level]) for row in self.page.rows)]
        return 14 + max(int(_font(13, True).getlength(line)) for text in texts for line in self._label(text))

    def _label(self, text: str) -> list[str]:
        """The lines of a row's label."""
        return _lines(text, _font(13, True), LABEL, LINES)

    def _level(self, level: int) -> dict[tuple[int, int], list[str]]:
        """The lines of each heading of one axis of the columns, by its first and last column."""
        name = self.layout.columns[level]
        found = {}
        for span in _runs(self.page.columns, level + 1):
            room = self.xs[span[-1]] + self.tile - self.xs[span[0]]
            words = self._words(name, self.page.columns[span[0]][level])
            text = words if name == PROMPT else f"{name} {words}"
            found[span[0], span[-1]] = _lines(text, self._heading_font(name), room, LINES)
        return found

    def _heading_font(self, name: str) -> Font:
        """Smaller where the name of an axis is wider than a tile."""
        return _font(13 if _font(13).getlength(name) <= self.tile else 11, name == PROMPT)

    def _columns(self) -> list[int]:
        """Left edges; a wider gap where the prompt or an outer axis changes."""
        xs = []
        x = self.first
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
                index = self.page.cells.get((row, column))
                place = self.xs[c], self.top + r * self.pitch
                prompt = self._prompt(row, column)
                self._cell(place, None if index is None else self.cells[index], prompt, index == chosen)
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
        if PROMPT in self.layout.rows:
            self._text(self.left, self.top - LINE - 5, "untuned model", _font(13), self.tile, SOFT)
            for rows in _runs(self.page.rows, 1):
                place = self.left, self.top + rows[0] * self.pitch
                self._untuned(place, [self.page.rows[r] for r in rows], self.page.columns)
            return
        y += self.tile + GAP
        self._text(MARGIN, y + self.tile // 2, "untuned model", _font(13), self.left - MARGIN, SOFT, "lm")
        for columns in self._sampled_alike():
            keys = [self.page.columns[c] for c in columns]
            self._untuned((self.xs[columns[0]], y), self.page.rows, keys)

    def _sampled_alike(self) -> Iterator[list[int]]:
        """Neighbouring columns for which the untuned model makes the same image."""
        names = self.layout.columns
        counts = [k for k, name in enumerate(names) if name == PROMPT or axis_of(name).stage in ("sample", "judge")]
        keys = [tuple(column[k] for k in counts) for column in self.page.columns]
        return _runs(keys, None)

    def _untuned(self, place: tuple[int, int], rows: Sequence[Key], columns: Sequence[Key]) -> None:
        """The untuned model's image for the first of these cells that has one."""
        for row, column in product(rows, columns):
            index = self.page.cells.get((row, column))
            if index is not None and self.cells[index].untuned:
                return self._sample(place, self.cells[index].untuned, self._prompt(row, column))
        return self._sample(place, None, 0)

    def _prompt(self, row: Key, column: Key) -> int:
        """The position of a place's prompt: the first of its row's or of its column's values."""
        return int(row[0] if PROMPT in self.layout.rows else column[0])

    def _headers(self) -> None:
        y = self.header
        for name, texts in zip(self.layout.columns, self.levels, strict=True):
            font = self._heading_font(name)
            for (first, last), lines in texts.items():
                x = self.xs[first]
                end = self.xs[last] + self.tile
                for i, line in enumerate(lines):
                    if name == PROMPT:
                        self._text(x, y + LINE * i, line, font, end - x)
                    else:
                        self._text((x + end) // 2, y + LINE * i, line, font, end - x, SOFT, "ma")
            y += LINE * max(map(len, texts.values())) + 5
        x = MARGIN
        for level, name in enumerate(self.layout.rows):
            self._text(x, self.top - LINE - 5, name, _font(13), self.label_widths[level], SOFT)
            for group in _runs(self.page.rows, level + 1):
                first = group[0]
                y = self.top + first * self.pitch
                lines = self._label(self._words(name, self.page.rows[first][level]))
                middle = y + self.tile // 2 - LINE * (len(lines) - 1) // 2
                for i, line in enumerate(lines):
                    self._text(x, middle + LINE * i, line, _font(13, True), self.label_widths[level] - 8, anchor="lm")
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
