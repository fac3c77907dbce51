"""Photographs in a folder: which they are, how they are read, what they hash to. Imports no torch."""

import hashlib
from pathlib import Path

from PIL import Image, ImageOps

from trainers.errors import ImageError
from trainers.files import MANIFEST

FORMATS = {"JPEG", "MPO", "PNG", "WEBP"}  # MPO: how phones write JPEG
CAPTIONS = (".txt", ".TXT")
IGNORED = {MANIFEST, "Thumbs.db", "desktop.ini"}


def instance_images(folder: Path | str) -> list[Path]:
    """The images of `folder` in order of their names. A `.txt` of the same name is an image's caption.

    Raises:
        ImageError: the folder is missing or empty, or holds a file that is neither image nor caption.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"subject.images={folder} is no folder; give one that holds JPEG, PNG or WebP images")
    files = sorted(
        f for f in folder.iterdir() if not f.is_dir() and not f.name.startswith(".") and f.name not in IGNORED
    )
    images = [f for f in files if f.suffix not in CAPTIONS]
    stems = {f.stem for f in images}
    orphans = [f.name for f in files if f.suffix in CAPTIONS and f.stem not in stems]
    refused = [reason for f in files if (reason := why_refused(f))] + [f"{name}: no image" for name in orphans]
    if refused:
        raise ImageError(
            f"{folder} holds what cannot be read as JPEG, PNG or WebP image: {'; '.join(refused)}; remove or convert"
        )
    if not images:
        raise ImageError(f"{folder} holds no image; put JPEG, PNG or WebP images there")
    return images


def own_class_images(folder: Path | str, count: int) -> Path:
    """The folder of the user's own class images.

    Raises:
        ImageError: it is no folder, or holds fewer than `count` images.
    """
    made = "or leave prior.folder out and the model makes them"
    if not Path(folder).is_dir():
        raise ImageError(f"prior.folder={folder} is no folder; give one that holds JPEG, PNG or WebP images, {made}")
    found = len(instance_images(folder))
    if found < count:
        raise ImageError(
            f"prior.folder={folder} holds {found} images and prior.num_class_images={count}; ask for {found}, {made}"
        )
    return Path(folder)


def why_refused(file: Path) -> str | None:
    """What is wrong with `file` as an image, or as a caption; None if nothing is."""
    if file.exists() and not file.is_file():
        return f"{file.name}: no regular file"  # reading a pipe or a device may never end
    if file.suffix in CAPTIONS:
        return None
    try:
        with Image.open(file) as image:
            if image.format not in FORMATS:
                return f"{file.name}: {image.format}"
            image.load()
    except Image.DecompressionBombError:
        return f"{file.name}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels, make it smaller"
    except Exception as error:  # Pillow raises whatever its decoders raise
        return f"{file.name}: {type(error).__name__}"
    return None


def load_image(path: Path | str) -> Image.Image:
    """RGB, 8 bit, upright: the EXIF orientation applied, 16 bit scaled, transparency laid on white."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # Pillow's own conversion clips 16 bit at 255
        import numpy as np

        image = Image.fromarray(np.round(np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def caption(path: Path | str) -> str | None:
    """The text of the `.txt` beside an image; None if there is none or it is empty.

    Raises:
        ImageError: it is not UTF-8.
    """
    files = (Path(path).with_suffix(suffix) for suffix in CAPTIONS)
    file = next((file for file in files if file.exists()), None)
    try:
        return (file.read_text(encoding="utf-8-sig").strip() or None) if file else None
    except UnicodeDecodeError as error:
        raise ImageError(f"{file}: this caption is not UTF-8 at byte {error.start}; save it as UTF-8") from error


def fingerprint(folder: Path | str) -> str:
    """16 hexadecimal digits: SHA-256 of the images' bytes and captions in order; the names do not matter."""
    digest = hashlib.sha256()
    for path in instance_images(folder):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
        digest.update(hashlib.sha256((caption(path) or "").encode()).digest())
    return digest.hexdigest()[:16]


def resize(image: Image.Image, resolution: int) -> Image.Image:
    """The shorter side becomes `resolution` pixels, the shape stays: bilinear, as torchvision's `Resize`."""
    width, height = image.size
    short = min(width, height)
    size = (int(resolution * width / short), int(resolution * height / short))
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
