"""The images of report.html: the pictures beside the answer, and the samples that its scripts show."""

import os
import random
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

from PIL import Image

from sweeper.report.thumbnails import picture, strips, tile_names
from sweeper.results.types import Results

BESIDE = 4  # images of each kind beside the answer
PICTURE = 256  # pixels of one of them
WITH_FOLDERS = 1000  # rows at most for which the page knows where the samples lie


class Picture(TypedDict):
    uri: str
    words: str  # what it shows
    original: str  # where the file lies, seen from the page; empty where the page carries it in full size


class Strip(TypedDict):
    title: str
    images: list[Picture]


class ImageTile(TypedDict):
    """Which sample a place in a strip shows, counted from 0."""

    prompt: int
    image: int


class PageImages(TypedDict):
    """What the scripts cut tiles from. A strip is one image with the tiles of a checkpoint side by side, a data URI."""

    tiles: list[ImageTile]  # of every strip, from left to right
    size: int  # pixels of a tile
    full: int  # pixels of the sample itself
    rows: list[str | None]  # the strip of each row, where there is one
    untuned: list[str | None]  # the strips of the untuned model
    untuned_of: list[int]  # for each row, the position of its strip in `untuned`
    folders: list[str | None]  # of the samples of each row, seen from the page; empty where there are too many
    untuned_folders: list[str | None]  # the same of `untuned`


def page_images(results: Results) -> PageImages:
    """The strips of samples, and the untuned model's in the same order of tiles."""
    folders = [row.samples for row in results.rows]
    names, size = tile_names(folders, len(folders))
    untuned = [row.untuned for row in results.rows]
    untuned_once = list(dict.fromkeys(untuned))
    few = len(folders) <= WITH_FOLDERS
    return {
        "tiles": [{"prompt": int(name[:2]), "image": int(name[3:5])} for name in names],
        "size": size,
        "full": _full_size(folders, size),
        "rows": strips(folders, _by_interest(results), names, size),
        "untuned": strips(untuned_once, range(len(untuned_once)), names, size),
        "untuned_of": [untuned_once.index(folder) for folder in untuned],
        "folders": [_from_page(folder, results.folder) for folder in folders] if few else [],
        "untuned_folders": [_from_page(folder, results.folder) for folder in untuned_once],
    }


def _full_size(folders: list[Path | None], size: int) -> int:
    """Pixels of a sample on the disk."""
    path = next((path for folder in folders if folder for path in folder.glob("*-*.png")), None)
    if path is None:
        return size
    with Image.open(path) as image:
        return min(image.size)


def _from_page(path: Path | None, folder: Path) -> str | None:
    """A link from the page in `folder` to `path`."""
    return quote(os.path.relpath(path, folder)) if path else None


def _by_interest(results: Results) -> list[int]:
    """Rows in the order in which they get images: the best, the Pareto front, the others spread evenly, as the budget
    may end before the rows do."""
    best = [] if results.best is None else [results.best]
    first = list(dict.fromkeys(best + results.positions(results.sweet_spot.pareto)))
    others = sorted(set(range(len(results.rows))) - set(first))
    random.Random(0).shuffle(others)
    return first + others


def pictures(results: Results) -> list[Strip]:
    """The images beside the answer: photographs, the untuned model, the chosen checkpoint."""
    found: list[Strip] = [
        {
            "title": "Photographs",
            "images": [
                _picture(path, f"photograph {i}", results.folder)
                for i, path in enumerate(results.instance_images[:BESIDE], 1)
            ],
        }
    ]
    best = None if results.best is None else results.rows[results.best]
    if results.rows:
        untuned = (best or results.rows[0]).untuned
        found.append({"title": "Untuned model", "images": _samples(untuned, results)})
    if best:
        found.append({"title": "Chosen checkpoint", "images": _samples(best.samples, results)})
    return [strip for strip in found if strip["images"]]


def _samples(folder: Path | None, results: Results) -> list[Picture]:
    """The first sample of each of the first prompts."""
    files = sorted(folder.glob("*-00.png"))[:BESIDE] if folder else []
    return [_picture(file, prompt, results.folder) for file, prompt in zip(files, results.prompts, strict=False)]


def _picture(path: Path, words: str, folder: Path) -> Picture:
    with Image.open(path) as image:
        whole = image.width == image.height <= PICTURE
    return {"uri": picture(path, PICTURE), "words": words, "original": "" if whole else _from_page(path, folder) or ""}
