"""Class images for prior preservation: sampled from the untuned model, or the user's own."""

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image

from trainers.batches import ALONE, Share, in_batches, share_of
from trainers.data import generator
from trainers.device import phase
from trainers.families import family_of
from trainers.families.base import Components
from trainers.files import MANIFEST, is_complete, write_bytes, write_json
from trainers.images import instance_images, load_image, own_class_images
from trainers.sampling_memory import images_at_once, sampling_kind
from trainers.spec import PriorSpec, canonical

SHEET = "sheet.jpg"  # beside the folder of class images


@phase()
def make_class_images(
    components: Components,
    prompt: str,
    prior: PriorSpec,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 4,
    share: Share = ALONE,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Path:
    """`prior.num_class_images` PNGs of `prompt` in `folder`, made where missing; with `prior.folder`, that folder.

    Image k comes from a generator seeded by (`prior.seed`, k), so the batch size changes its rounding only, and the
    training's randomness is not touched. A killed call goes on with its first unfinished batch, bit for bit on a CPU; a
    batch that does not fit the device's memory is halved, for good in this process.
    `progress` gets (images done, images in all). A sheet of all of them is put beside the folder.

    share: of several processes each makes some (`share_of`); a call without then finds all, and completes the folder.
    """
    if prior.folder:
        return own_class_images(prior.folder, prior.num_class_images)
    if is_complete(folder):
        return folder
    family = family_of(components.model)
    shape = family.latent_shape(components, components.model.resolution)
    placed = components.to(device, prior.sample.precision)

    def draw(batch: Sequence[int]) -> None:
        if all((folder / f"{k:05d}.png").exists() for k in batch):
            return
        generators = [generator(prior.seed, "class image", k) for k in batch]
        latents = torch.stack([torch.randn(shape, generator=g) for g in generators])
        images = family.sample(placed, [prompt] * len(batch), latents, prior.sample, generators, device)
        for k, image in zip(batch, images, strict=True):
            write_bytes(folder / f"{k:05d}.png", png(Image.fromarray(image)))
        progress(batch[-1] + 1, prior.num_class_images)

    mine = share_of(range(prior.num_class_images), batch_size, share, device)
    most = images_at_once(components, prior.sample, device, batch_size)
    for _ in in_batches(mine, most, sampling_kind(components, prior.sample, device), draw):
        pass
    if share != ALONE:
        return folder
    review_sheet(folder)
    made_with = {name: value for name, value in canonical(prior).items() if name != "weight"}
    write_json(folder / MANIFEST, {"prompt": prompt, **made_with})
    return folder


def review_sheet(folder: Path, tile: int = 128, columns: int = 16) -> Path:
    """All class images of `folder` on one sheet beside it, to look at before they are trained with."""
    paths = instance_images(folder)
    rows = -(-len(paths) // columns)
    sheet = Image.new("RGB", (tile * min(columns, len(paths)), tile * rows), "white")
    for place, image in _tiles(paths, tile, columns):
        sheet.paste(image, place)
    target = folder.parent / f"{folder.name}-{SHEET}"
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=90)
    write_bytes(target, buffer.getvalue())
    return target


def _tiles(paths: list[Path], tile: int, columns: int) -> Iterable[tuple[tuple[int, int], Image.Image]]:
    for i, path in enumerate(paths):
        image = load_image(path)
        image.thumbnail((tile, tile))
        yield ((i % columns) * tile, (i // columns) * tile), image


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
