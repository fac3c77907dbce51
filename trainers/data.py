"""What each step sees: which images, which crop, which noise, which timesteps.

Everything is a function of the seed and the position in the stream, so that nothing has to be remembered to resume,
and the number of processes does not matter: each computes the draws of the whole batch and takes its share.
"""

import copy
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from trainers.device import moved, phase
from trainers.errors import SpecError
from trainers.families import family_of
from trainers.families.base import Components, ForwardProcess
from trainers.files import write_bytes
from trainers.images import caption, instance_images, load_image, resize
from trainers.loss import offset_noise
from trainers.prompts import class_prompt, instance_prompt
from trainers.spec import TrainSpec, signature
from trainers.textual_inversion import template_prompts

Crop = tuple[int, int, bool]  # top, left, flipped
CROPS_KEPT = 1024  # 134 MB at 512 pixels; photographs of 4:3 have 171 crops each
Encode = Callable[[Tensor], tuple[Tensor, Tensor]]  # pixels [1, 3, H, W] -> mean, deviation [1, C, h, w]


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose: on every device and in every process the same numbers."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, purpose: str, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=generator(seed, purpose, "order", epoch)).tolist())


def order(seed: int, purpose: str, count: int, start: int, length: int) -> list[int]:
    """Elements `start` to `start + length` of an endless stream of shuffled passes over `count` things."""
    return [_permutation(seed, purpose, i // count, count)[i % count] for i in range(start, start + length)]


@dataclass(frozen=True)
class Batch:
    """One process's share of an accumulation step: first the instance images, then as many class images."""

    latents: Tensor  # [N, C, h, w]
    noise: Tensor  # [N, C, h, w]
    timesteps: Tensor  # [N]
    prompts: list[str]  # N
    instances: int

    @staticmethod
    def of(parts: "list[Batch]") -> "Batch":
        """One batch of what each stream gives, the instance images' first."""
        return Batch(
            latents=torch.cat([part.latents for part in parts]),
            noise=torch.cat([part.noise for part in parts]),
            timesteps=torch.cat([part.timesteps for part in parts]),
            prompts=[prompt for part in parts for prompt in part.prompts],
            instances=parts[0].instances,
        )


class Latents:
    """Mean and deviation of the latents of crops of images, [C, h, w] each, encoded one by one.

    With `keep`, the last crops are kept in the host's memory. Images that have one crop each, being square or cropped
    at their centres, are encoded at the start and kept in a file for other trainings. After that the autoencoder is
    not needed.
    """

    def __init__(self, paths: list[Path], resolution: int, center_crop: bool, flips: bool, encode: Encode, keep: bool):
        self.photos = [np.asarray(resize(load_image(path), resolution)) for path in paths]
        self.resolution = resolution
        self.center_crop = center_crop
        self.flips = flips
        self.encode: Encode | None = encode
        self.moments: dict[tuple[int, Crop], tuple[Tensor, Tensor]] = {}  # of all crops, once filled
        self.encoded = functools.lru_cache(CROPS_KEPT if keep else 0)(self._encoded)

    @property
    def fixed(self) -> bool:
        """Whether each image has one crop."""
        return self.center_crop or all(photo.shape[0] == photo.shape[1] for photo in self.photos)

    def fill(self, file: Path, device: torch.device) -> None:
        """Encodes every crop that there can be, or reads them from `file`."""
        crops = [
            (i, self.crop(i, torch.tensor([0, 0, flip]))) for i in range(len(self.photos)) for flip in self.flip_draws
        ]
        if file.exists():
            stored = {k: v.to(device) for k, v in load_file(file).items()}  # safetensors knows no cpu:0
        else:
            assert self.encode
            moments = [self.encode(self.pixels(i, crop)) for i, crop in crops]
            stored = {"mean": torch.cat([m for m, _ in moments]), "std": torch.cat([s for _, s in moments])}
            write_bytes(file, save({k: v.cpu().contiguous() for k, v in stored.items()}))
        self.moments = dict(zip(crops, zip(stored["mean"], stored["std"], strict=True), strict=True))
        self.encode = None  # frees the autoencoder

    @property
    def flip_draws(self) -> tuple[float, ...]:
        return (0.0, 0.9) if self.flips else (0.9,)

    def crop(self, index: int, draws: Tensor) -> Crop:
        """The crop of image `index` that three uniform draws choose: top, left, flip."""
        height, width = self.photos[index].shape[:2]
        spare = (height - self.resolution, width - self.resolution)
        flipped = self.flips and float(draws[2]) < 0.5
        if self.center_crop:
            return round(spare[0] / 2), round(spare[1] / 2), flipped
        return int(draws[0] * (spare[0] + 1)), int(draws[1] * (spare[1] + 1)), flipped

    def pixels(self, index: int, crop: Crop) -> Tensor:
        """[1, 3, H, W] in [-1, 1]."""
        top, left, flipped = crop
        square = self.photos[index][top : top + self.resolution, left : left + self.resolution]
        if flipped:
            square = square[:, ::-1]
        return torch.from_numpy(square.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]

    def __call__(self, index: int, crop: Crop) -> tuple[Tensor, Tensor]:
        if (index, crop) in self.moments:
            return self.moments[index, crop]
        return self.encoded(index, crop)

    def _encoded(self, index: int, crop: Crop) -> tuple[Tensor, Tensor]:
        assert self.encode
        mean, std = self.encode(self.pixels(index, crop))
        return mean[0].cpu(), std[0].cpu()


@dataclass(frozen=True)
class ImageStream:
    """An endless stream of the instance images, or of the class images, with what is drawn for each."""

    purpose: str  # "instance" | "class"
    seed: int
    latents: Latents
    prompts: list[list[str]]  # of each image, those to choose from
    latent_shape: tuple[int, ...]
    draw_timesteps: Callable[[int, torch.Generator], Tensor]
    repeats: int = 1
    offset_noise: float = 0.0

    def batch(self, position: int, size: int, share: slice, device: torch.device) -> Batch:
        """Rows `share` of the `size` samples of accumulation step `position`."""
        draws = generator(self.seed, self.purpose, position)
        timesteps = self.draw_timesteps(size, draws)
        noise = torch.randn(size, *self.latent_shape, generator=draws)
        posterior = torch.randn(size, *self.latent_shape, generator=draws)
        uniform = torch.rand(size, 4, generator=draws)
        if self.offset_noise:
            noise = offset_noise(noise, self.offset_noise, draws)
        count = len(self.prompts)
        indices = [i % count for i in order(self.seed, self.purpose, count * self.repeats, position * size, size)]
        rows = range(size)[share]
        moments = [self.latents(indices[row], self.latents.crop(indices[row], uniform[row])) for row in rows]
        mean = torch.stack([m for m, _ in moments])
        std = torch.stack([s for _, s in moments])
        return Batch(
            latents=moved(mean, device) + moved(std, device) * moved(posterior[share], device),
            noise=moved(noise[share], device),
            timesteps=moved(timesteps[share], device),
            prompts=[_choice(self.prompts[indices[row]], float(uniform[row, 3])) for row in rows],
            instances=len(rows),
        )


def _choice(options: list[str], draw: float) -> str:
    return options[int(draw * len(options))]


def make_streams(
    spec: TrainSpec,
    components: Components,
    process: ForwardProcess,
    class_images: Path | None,
    cache: Path,
    device: torch.device,
) -> list[ImageStream]:
    """The stream of the instance images and, with prior preservation, that of the class images."""
    paths = instance_images(spec.subject.images)
    sources = [("instance", paths, [instance_prompts(spec, path) for path in paths])]
    if spec.prior is not None:
        if class_images is None:
            raise SpecError("prior_preservation=true needs the folder of class images; see trainers.prior")
        paths = instance_images(class_images)[: spec.prior.num_class_images]
        sources.append(("class", paths, [[class_prompt(spec.subject)]] * len(paths)))
    encode = _encoder(spec, components, device)
    family = family_of(spec.model)
    return [
        ImageStream(
            purpose=purpose,
            seed=spec.seed,
            latents=_latents(spec, paths, encode, cache, device),
            prompts=prompts,
            latent_shape=family.latent_shape(components, spec.model.resolution),
            draw_timesteps=process.draw,
            repeats=spec.trainer.repeats if purpose == "instance" else 1,
            offset_noise=spec.trainer.offset_noise,
        )
        for purpose, paths, prompts in sources
    ]


def _encoder(spec: TrainSpec, components: Components, device: torch.device) -> Encode:
    autoencoder = components.autoencoder
    if device.type != "cpu":
        autoencoder = copy.deepcopy(autoencoder).to(device)
    encode_images = family_of(spec.model).encode_images

    @torch.no_grad()
    @phase()  # trainings share what is encoded, with TF32 or without
    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return encode_images(autoencoder, pixels.to(device))

    return encode


def _latents(spec: TrainSpec, paths: list[Path], encode: Encode, cache: Path, device: torch.device) -> Latents:
    trainer = spec.trainer
    resolution = spec.model.resolution
    latents = Latents(paths, resolution, trainer.center_crop, trainer.random_flip, encode, trainer.cache_latents)
    if trainer.cache_latents and latents.fixed:
        settings = (resolution, trainer.center_crop, trainer.random_flip)
        latents.fill(_latents_file(cache, spec.model.revision, paths, settings), device)
    return latents


def _latents_file(cache: Path, revision: str, paths: list[Path], settings: tuple[int, bool, bool]) -> Path:
    """Where the latents of these images by this model are kept."""
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return cache / "latents" / f"{signature(revision, contents, *settings)}.safetensors"


def instance_prompts(spec: TrainSpec, path: Path) -> list[str]:
    """What an instance image can be trained with: its caption if it has one, else the instance prompt, or the
    templates of textual inversion."""
    own = caption(path) if spec.trainer.captions else None
    if own:
        return [own]
    return template_prompts(spec) if spec.trainer.name == "textual_inversion" else [instance_prompt(spec.subject)]
