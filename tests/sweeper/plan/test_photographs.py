"""What is said of the photographs before a training begins."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sweeper.plan.photographs import ALIKE, CUT, SIDE, SOFT, Photograph, is_alike, look, remarks
from sweeper.report.crops import LINE, MARGIN, TILE, draw_crops
from trainers.spec import ModelSpec, SubjectSpec, TrainerSpec, TrainSpec

RESOLUTION = 64


def scene(seed, size=(96, 96)):
    """Rectangles of many colours: a picture with edges."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size[1], size[0], 3), np.uint8) + 128
    for _ in range(30):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(8, 40, 2)
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return Image.fromarray(image)


@pytest.fixture
def said(tmp_path):
    """The remarks on pictures by name."""

    def look_at(center_crop=False, **pictures):
        for name, picture in pictures.items():
            picture.save(tmp_path / f"{name}.png")
        seen = [look(tmp_path / f"{name}.png", RESOLUTION) for name in pictures]
        return list(remarks(seen, RESOLUTION, center_crop))

    return look_at


def test_of_good_photographs_nothing_is_said(said):
    assert said(a=scene(0), b=scene(1), c=scene(2)) == []


def test_a_small_one_is_said(said):
    (line,) = said(a=scene(0), b=scene(1, (63, 64)), c=scene(2, (64, 64)))
    assert line.startswith("b.png has 63 x 64 pixels and is enlarged to 64")


def test_what_the_crop_cuts_off_is_said(said):
    assert said(a=scene(0, (100, int(100 * (1 - CUT)) + 1)), b=scene(1)) == []
    (line,) = said(a=scene(0, (200, 100)), b=scene(1))
    assert line.startswith("a.png loses 50% to the crop, a square at a random place")
    (line,) = said(True, a=scene(0, (100, 200)), b=scene(1))
    assert "its middle" in line


def test_a_blurred_one_is_said(said):
    pictures = {"a": scene(0), "b": scene(1), "c": scene(2)}
    (line,) = said(**pictures, d=scene(3).filter(ImageFilter.GaussianBlur(6)))
    assert line.startswith("d.png looks blurred")


@pytest.mark.parametrize(("share", "blurred"), [(SOFT * 1.01, False), (SOFT * 0.99, True)])
def test_how_much_softer_a_blurred_one_is(share, blurred):
    rng = np.random.default_rng(0)
    seen = [Photograph(str(i), (64, 64), 1.0, rng.uniform(0, 255, (SIDE, SIDE))) for i in range(3)]
    seen.append(Photograph("x", (64, 64), share, rng.uniform(0, 255, (SIDE, SIDE))))
    assert any("blurred" in line for line in remarks(seen, 64, False)) == blurred


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.point(lambda value: int(value * 0.9)),
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.crop((1, 1, 95, 95)),
    ],
)
def test_nearly_the_same_picture_twice_is_said(said, change):
    (line,) = said(a=scene(0), b=scene(1), c=change(scene(0)))
    assert line.startswith("a.png and c.png are nearly the same picture")


@pytest.mark.parametrize(("apart", "alike"), [(ALIKE * 0.99, True), (ALIKE * 1.01, False)])
def test_how_far_apart_two_pictures_are(apart, alike):
    one = np.tile([0.0, 0.0, 0.0, 255.0], (SIDE, SIDE // 4))
    noise = np.tile([[apart], [-apart]], (SIDE // 2, SIDE))
    assert is_alike(one, one + noise) == alike


def test_a_jpeg_on_its_side_is_seen_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    scene(0, (1200, 600)).save(tmp_path / "a.jpg", exif=exif)
    assert look(tmp_path / "a.jpg", RESOLUTION).size == (600, 1200)


@pytest.mark.parametrize(("center_crop", "columns"), [(False, 3), (True, 1)])
def test_the_sheet_shows_the_crops_as_they_are_trained(tmp_path, center_crop, columns):
    folder = tmp_path / "own"
    folder.mkdir()
    wide = Image.new("RGB", (192, 64), "red")
    wide.paste("blue", (64, 0, 128, 64))
    wide.paste("lime", (128, 0, 192, 64))
    wide.save(folder / "a.png")
    scene(0).save(folder / "b.png")
    spec = TrainSpec(
        ModelSpec("m", resolution=64),
        SubjectSpec("", "dog", images=str(folder)),
        trainer=TrainerSpec("dreambooth", center_crop=center_crop),
    )
    sheet = Image.open(draw_crops(tmp_path / "sheet.png", spec))
    assert sheet.size == (MARGIN + columns * (TILE + MARGIN), MARGIN + 2 * (TILE + LINE + MARGIN))
    middle = [
        sheet.getpixel((MARGIN + i * (TILE + MARGIN) + TILE // 2, MARGIN + LINE + TILE // 2)) for i in range(columns)
    ]
    colours = [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    assert middle == (colours if columns == 3 else colours[1:2])
