"""A sheet of the photographs as they are trained: every crop that a training may see lies inside of these."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw

from trainers.files import write_bytes
from trainers.images import instance_images, load_image, resize
from trainers.spec import TrainSpec

TILE = 192  # pixels
MARGIN = 8
LINE = 16


def draw_crops(path: Path, spec: TrainSpec) -> Path:
    """A row for each photograph: where it is cropped at random, the crops at both ends and in the middle."""
    rows = [(file.name, list(_crops(file, spec))) for file in instance_images(spec.subject.images)]
    columns = max(len(crops) for _, crops in rows)
    height = TILE + LINE + MARGIN
    sheet = Image.new("RGB", (MARGIN + columns * (TILE + MARGIN), MARGIN + len(rows) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, crops) in enumerate(rows):
        top = MARGIN + row * height
        pen.text((MARGIN, top), name.encode("ascii", "replace").decode(), fill="black")
        for column, crop in enumerate(crops):
            sheet.paste(crop, (MARGIN + column * (TILE + MARGIN), top + LINE))
    data = BytesIO()
    sheet.save(data, "PNG")
    write_bytes(path, data.getvalue())
    return path


def _crops(file: Path, spec: TrainSpec) -> Iterator[Image.Image]:
    side = spec.model.resolution
    image = resize(load_image(file), side)
    room = (image.width - side, image.height - side)
    places = (0.5,) if spec.trainer.center_crop or not any(room) else (0.0, 0.5, 1.0)
    for place in places:
        left, top = (int(place * free) for free in room)
        yield image.crop((left, top, left + side, top + side)).resize((TILE, TILE), Image.Resampling.BILINEAR)
