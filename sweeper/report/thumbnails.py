"""Small images: data URIs that travel inside the page, and the grid of a checkpoint's samples."""

import base64
import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

BUDGET = 12_000_000  # bytes of images in one page
TYPICAL = {64: 1300, 96: 2400, 128: 3600}  # bytes of one tile of this many pixels, to share the budget out
LARGEST = 128  # pixels of a tile
GRID_TILE = 192  # pixels at most of an image in a grid


def thumbnail(path: Path, size: int) -> Image.Image:
    """A square image of `size` pixels: whole pixels when enlarged, smooth when reduced."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    side = min(image.size)
    left = (image.width - side) // 2
    top = (image.height - side) // 2
    method = Image.Resampling.NEAREST if side <= size else Image.Resampling.LANCZOS
    return image.resize((size, size), method, box=(left, top, left + side, top + side))


def data_uri(image: Image.Image, quality: int = 82) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(path: Path, largest: int) -> str:
    """One image, cut square, at most `largest` pixels."""
    with Image.open(path) as image:
        side = min(image.size)
    return data_uri(thumbnail(path, min(side, largest)), 86)


def tile_names(folders: Sequence[Path | None], count: int) -> tuple[list[str], int]:
    """Which samples of a checkpoint the page carries for `count` checkpoints, and their size in pixels.

    The first image of every prompt comes before the second of any. Many checkpoints have fewer samples each.
    """
    folder = next((f for f in folders if f and f.is_dir()), None)
    if folder is None:
        return [], LARGEST
    names = sorted((path.name for path in folder.glob("*-*.png")), key=lambda name: name.split("-")[::-1])
    if not names:
        return [], LARGEST
    with Image.open(folder / names[0]) as image:
        size = min(min(image.size), LARGEST)
    tile_bytes = next(typical for pixels, typical in TYPICAL.items() if size <= pixels)
    return names[: max(1, BUDGET // (tile_bytes * max(1, count)))], size


def strips(folders: Sequence[Path | None], order: Sequence[int], names: Sequence[str], size: int) -> list[str | None]:
    """One strip per folder with the samples `names` side by side, in the order given until the budget is spent."""
    found: list[str | None] = [None] * len(folders)
    wanted = [i for i in order if folders[i]]
    spent = 0

    def strip_of(i: int) -> str | None:
        return _strip(folders[i], names, size)

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(wanted), 64):
            chunk = wanted[start : start + 64]
            for i, strip in zip(chunk, pool.map(strip_of, chunk), strict=True):
                found[i] = strip
                spent += len(strip or "") * 3 // 4  # base64 takes four characters for three bytes
            if spent > BUDGET:
                break
    return found


def _strip(folder: Path | None, names: Sequence[str], size: int) -> str | None:
    if not folder:
        return None
    image = Image.new("RGB", (size * len(names), size), "#888888")
    there = False
    for i, name in enumerate(names):
        path = folder / name
        if path.exists():
            image.paste(thumbnail(path, size), (i * size, 0))
            there = True
    return data_uri(image) if there else None


def sample_grid(folder: Path) -> Image.Image | None:
    """The samples of one checkpoint as one image, about a square. Small samples are enlarged by whole pixels."""
    files = sorted(folder.glob("[0-9]*-[0-9]*.png"))
    if not files:
        return None
    root = math.isqrt(len(files) - 1) + 1
    across = next((n for n in range(root, 2 * root) if len(files) % n == 0), root)
    with Image.open(files[0]) as image:
        side = min(image.size)
    side = side * max(1, 128 // side) if side <= GRID_TILE else GRID_TILE
    sheet = Image.new("RGB", (across * side, -(-len(files) // across) * side), "white")
    for i, file in enumerate(files):
        sheet.paste(thumbnail(file, side), (i % across * side, i // across * side))
    return sheet
