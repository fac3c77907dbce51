"""Any folder of photographs."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainers.errors import ImageError
from trainers.images import caption, fingerprint, instance_images, load_image, resize

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([RAMP, RAMP.T, 255 - RAMP], -1)


def saved(path, image, **kwargs):
    image.save(path, **kwargs)
    return path


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".JPEG"])
def test_formats(tmp_path, suffix):
    lossless = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(COLOUR), **lossless)
    assert instance_images(tmp_path) == [path]
    image = load_image(path)
    assert image.mode == "RGB"
    difference = np.abs(np.asarray(image).astype(int) - COLOUR)
    assert difference.mean() < 40 if suffix.lower() in (".jpg", ".jpeg") else difference.max() == 0


def test_modes(tmp_path):
    grey = load_image(saved(tmp_path / "grey.png", Image.fromarray(RAMP)))
    assert np.array_equal(np.asarray(grey), np.stack([RAMP] * 3, -1))
    sixteen = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(load_image(saved(tmp_path / "16.png", sixteen))), np.stack([RAMP] * 3, -1))
    alpha = np.dstack([COLOUR, RAMP])
    seen = np.asarray(load_image(saved(tmp_path / "alpha.png", Image.fromarray(alpha, "RGBA")))).astype(float)
    opacity = RAMP[..., None] / 255
    assert np.abs(seen - (COLOUR * opacity + 255 * (1 - opacity))).max() <= 1
    palette = Image.fromarray(COLOUR).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(np.asarray(load_image(saved(tmp_path / "palette.png", palette))), expected)
    cmyk = load_image(saved(tmp_path / "cmyk.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95))
    assert cmyk.mode == "RGB"
    red, green, blue = np.asarray(cmyk)[4, 4]
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = np.zeros((8, 12, 3), np.uint8)
    upright[:4, :6] = 255  # top left
    undone = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", Image.fromarray(np.ascontiguousarray(undone)), exif=exif)
    assert np.array_equal(np.asarray(load_image(path)), upright)


def test_what_is_no_image_is_named(tmp_path):
    saved(tmp_path / "good.png", Image.fromarray(COLOUR))
    (tmp_path / ".hidden").write_text("ignored")
    assert len(instance_images(tmp_path)) == 1
    (tmp_path / "notes.pdf").write_text("no image")
    (tmp_path / "orphan.txt").write_text("a caption of nothing")
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "PNG")
    (tmp_path / "broken.png").write_bytes(buffer.getvalue()[:60])
    saved(tmp_path / "moving.gif", Image.fromarray(COLOUR))
    with pytest.raises(ImageError) as caught:
        instance_images(tmp_path)
    for name in ("notes.pdf", "orphan.txt", "broken.png", "moving.gif: GIF"):
        assert name in str(caught.value)
    assert "good.png" not in str(caught.value)


def test_no_folder_and_no_images(tmp_path):
    with pytest.raises(ImageError, match=r"^subject.images=.*absent is no folder"):
        instance_images(tmp_path / "absent")
    with pytest.raises(ImageError, match="holds no image"):
        instance_images(tmp_path)


def test_fingerprint_is_of_bytes_order_and_captions(tmp_path):
    saved(tmp_path / "a.png", Image.fromarray(COLOUR))
    saved(tmp_path / "b.png", Image.fromarray(RAMP))
    first = fingerprint(tmp_path)
    (tmp_path / "a.png").rename(tmp_path / "aa.png")
    assert fingerprint(tmp_path) == first
    (tmp_path / "aa.txt").write_text("a photo of sks dog at the beach\n")
    assert caption(tmp_path / "aa.png") == "a photo of sks dog at the beach"
    (tmp_path / "aa.txt").rename(tmp_path / "aa.TXT")
    (tmp_path / "aa.TXT").write_bytes(b"\xef\xbb\xbfa photo of sks dog at the beach\r\n")  # as Notepad writes it
    assert caption(tmp_path / "aa.png") == "a photo of sks dog at the beach"
    captioned = fingerprint(tmp_path)
    assert captioned != first
    (tmp_path / "aa.TXT").unlink()
    (tmp_path / "aa.png").rename(tmp_path / "z.png")
    assert fingerprint(tmp_path) not in (first, captioned)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64))
def test_resize_keeps_the_shape(width, height, resolution):
    size = resize(Image.new("RGB", (width, height)), resolution).size
    assert min(size) == resolution
    assert max(size) == int(resolution * max(width, height) / min(width, height))


def test_imports_no_torch():
    modules = "trainers.images, trainers.validate, trainers.stages, trainers.schedulers"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_a_caption_that_is_not_utf8_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "aa.png")
    (tmp_path / "aa.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(ImageError, match=r"aa.txt: this caption is not UTF-8 at byte 3; save it as UTF-8"):
        fingerprint(tmp_path)


@pytest.mark.parametrize("name", ["b.png", "a.txt"])
def test_nothing_is_read_from_a_pipe_or_a_device(tmp_path, name):
    """It would never end."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / name)
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match=f"{name}: no regular file; zero.png: no regular file; remove or convert"):
        instance_images(tmp_path)


def test_a_photograph_that_is_too_large_and_a_broken_link_are_named(tmp_path, monkeypatch):
    Image.new("RGB", (40, 50)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "nowhere.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ImageError, match="a.png: more than 0 megapixels, make it smaller; b.jpg: FileNotFoundError"):
        instance_images(tmp_path)
