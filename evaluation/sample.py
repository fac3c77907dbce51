"""Images of the held-out prompts from a checkpoint, with common random numbers: the noise of (prompt p, image k)
depends on (seed, p, k) alone, so every checkpoint and every baseline starts from the same."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from evaluation.files import image_path
from evaluation.spec import fill
from trainers.batches import ALONE, Share, in_batches, share_of
from trainers.families import family_of
from trainers.families.base import Components
from trainers.files import MANIFEST, read_json, write_bytes, write_json
from trainers.sampling_memory import images_at_once, sampling_kind
from trainers.spec import SampleSpec, canonical

Progress = Callable[[int, int], None]  # images done, of how many


def no_progress(done: int, total: int) -> None:
    pass


def generator(seed: int, prompt: int, image: int) -> torch.Generator:
    """The random numbers of an image of a prompt: first its latents, then a stochastic scheduler's noise."""
    digest = hashlib.sha256(f"{seed}/{prompt}/{image}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def sample_images(
    components: Components,
    spec: SampleSpec,
    words: str,
    prompts: Sequence[str],
    images_per_prompt: int,
    seed: int,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    progress: Progress = no_progress,
    first: tuple[int, int] = (0, 0),
    share: Share = ALONE,
) -> Path:
    """PNGs of `prompts` with `words` in them, as `image_path` names them. Returns `folder`, complete.

    share: of several processes each draws some (`share_of`); a call without then finds all, and completes the folder.
    first: the prompt and the image whose noise the first image has; those of a slice follow those of the one before.
    A killed call goes on with its first unfinished batch; a batch that does not fit the device's memory is halved, for
    good in this process.
    Raises ValueError if `folder` holds samples made otherwise.
    """
    texts = [fill(prompt, words) for prompt in prompts]
    request = {"prompts": texts, "images_per_prompt": images_per_prompt, "seed": seed, "sample": canonical(spec)}
    request |= {"first": list(first)} if first != (0, 0) else {}  # of a later slice
    begin(folder, request)
    wanted = [(p, k) for p in range(len(texts)) for k in range(images_per_prompt)]

    def draw(batch: Sequence[tuple[int, int]]) -> int:
        if not all(image_path(folder, p, k).exists() for p, k in batch):
            sample_batch(components, spec, texts, batch, seed, folder, device, first)
        return len(batch)

    done = 0
    if not (folder / MANIFEST).exists():
        most = images_at_once(components, spec, device, batch_size)
        mine = share_of(wanted, batch_size, share, device)
        for drawn in in_batches(mine, most, sampling_kind(components, spec, device), draw):
            done += drawn
            progress(done, len(mine))
    if share == ALONE:
        write_json(folder / MANIFEST, request)
    return folder


def begin(folder: Path, request: dict[str, Any]) -> None:
    """Notes what `folder` is for, so that a resumed call never mixes two kinds of samples."""
    note = folder / "request.json"
    if not note.exists():
        write_json(note, request)
    elif read_json(note) != request:
        raise ValueError(f"{folder} holds samples made with other settings; remove it to sample again")


def sample_batch(
    components: Components,
    spec: SampleSpec,
    texts: Sequence[str],
    batch: Sequence[tuple[int, int]],
    seed: int,
    folder: Path,
    device: torch.device | str,
    first: tuple[int, int] = (0, 0),
) -> None:
    """Samples the (prompt, image) pairs of `batch` and writes their PNGs."""
    family = family_of(components.model)
    shape = family.latent_shape(components, components.model.resolution)
    generators = [generator(seed, first[0] + p, first[1] + k) for p, k in batch]
    latents = torch.stack([torch.randn(shape, generator=g) for g in generators])
    pixels = family.sample(components, [texts[p] for p, _ in batch], latents, spec, generators, device)
    for (p, k), image in zip(batch, pixels, strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="png")
        write_bytes(image_path(folder, p, k), file.getvalue())


def read_images(folder: Path, prompts: int, images_per_prompt: int) -> np.ndarray:
    """The samples of a complete folder: uint8 [prompts, images, H, W, 3]."""
    rows = [[image_path(folder, p, k) for k in range(images_per_prompt)] for p in range(prompts)]
    return np.stack([np.stack([np.asarray(Image.open(path).convert("RGB")) for path in row]) for row in rows])
