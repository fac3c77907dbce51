"""What our training draws at random, in place of what diffusers' scripts draw: see benchmarks/against_script.py."""

from typing import Any

import torch
from torch import Tensor

from trainers.data import generator, order
from trainers.families import family_of
from trainers.images import instance_images
from trainers.spec import TrainSpec
from trainers.textual_inversion import TEMPLATES


class Draws:
    """What our training draws, in the order in which the script asks for it; stands in for the script's `torch`."""

    def __init__(self, spec: TrainSpec):
        family = family_of(spec.model)
        self.spec = spec
        self.shape = family.latent_shape(family.load(spec.model), spec.model.resolution)
        self.position = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def posterior(self, *_: Any, **__: Any) -> Tensor:
        """The first that the script draws in an accumulation step."""
        self.position += 1
        parts = [self.of(purpose, self.position) for purpose in ["instance", *["class"] * bool(self.spec.prior)]]
        self.timesteps, self.noise, posterior, self.shift, _ = (torch.cat(p) for p in zip(*parts, strict=True))
        return posterior

    def of(self, purpose: str, position: int) -> tuple[Tensor, ...]:
        """Timesteps, noise, latents, offsets of the noise; crop, flip and prompt."""
        size = self.spec.batch_size
        draws = generator(self.spec.seed, purpose, position)
        timesteps = torch.randint(0, 1000, (size,), generator=draws)
        noise, posterior = (torch.randn(size, *self.shape, generator=draws) for _ in range(2))
        uniform = torch.rand(size, 4, generator=draws)
        return timesteps, noise, posterior, torch.randn(size, self.shape[0], 1, 1, generator=draws), uniform

    def randn_like(self, _: Tensor) -> Tensor:
        return self.noise

    def randn(self, *_: Any, **__: Any) -> Tensor:
        return self.shift

    def randint(self, *_: Any, **__: Any) -> Tensor:
        return self.timesteps


class Ordered(torch.utils.data.Dataset):
    """The script's dataset in the order of our stream."""

    def __init__(self, dataset: Any, spec: TrainSpec, count: int):
        self.dataset = dataset
        images = instance_images(spec.subject.images)
        self.instances = order(spec.seed, "instance", len(images), 0, count)
        self.classes: list[int] = []
        self.templates: list[str] = []
        if spec.trainer.name == "textual_inversion":
            dataset.image_paths = images
            dataset.flip_transform = lambda image: image
            self.templates = _templates(spec, count)
        else:
            dataset.instance_images_path = images
        if spec.prior:
            dataset.class_images_path = instance_images(dataset.class_data_root)
            self.classes = order(spec.seed, "class", dataset.num_class_images, 0, count)

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, k: int) -> Any:
        if self.templates:
            self.dataset.templates = [self.templates[k]]
        if not self.classes:
            return self.dataset[self.instances[k]]
        ours = self.dataset.num_instance_images
        theirs = self.dataset.num_class_images
        pairs = range(self.instances[k], ours * theirs, ours)
        return self.dataset[next(j for j in pairs if j % theirs == self.classes[k])]


def _templates(spec: TrainSpec, count: int) -> list[str]:
    """The template that our training chooses for each of the first `count` samples."""
    draws = Draws(spec)
    steps = range(count // spec.batch_size)
    uniform = [u for position in steps for u in draws.of("instance", position)[-1][:, 3].tolist()]
    templates = TEMPLATES[spec.trainer.templates]
    return [templates[int(u * len(templates))] for u in uniform]
