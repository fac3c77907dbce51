"""Tiny random pipelines of every family, and what the tests of the contract share.

A new family needs an entry in PIPELINES: a function that writes a pipeline of it.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from tests.trainers import tiny
from trainers.spec import SampleSpec

PIPELINES: dict[str, dict[str, Callable[[Path], Path]]] = {
    "stable_diffusion": {
        "1.x": tiny.make_pipeline,
        "2.x": lambda folder: tiny.make_pipeline(folder, prediction="v_prediction", second=True),
    },
}
KINDS = [(family, kind) for family, kinds in PIPELINES.items() for kind in kinds]
PROMPTS = ["a photo of sks dog", "a photo of a cat on the beach"]
TOKEN = "<new>"


def members(contract: type) -> set[str]:
    """The public methods, properties and attributes of an abstract class."""
    names = {*vars(contract), *getattr(contract, "__annotations__", {})}
    return {name for name in names if not name.startswith("_")}


def untested(contract: type, module: str) -> set[str]:
    """The members of an abstract class that no test of a test module is named after."""
    tests = [name for name in vars(sys.modules[module]) if name.startswith("test_")]
    return {member for member in members(contract) if not any(test.startswith(f"test_{member}_") for test in tests)}


def draw(family, components, count=2, seed=0):
    """Latents and the generators they came from."""
    shape = family.latent_shape(components, tiny.RESOLUTION)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return torch.stack([torch.randn(shape, generator=g) for g in generators]), generators


def sampled(family, components, prompts=PROMPTS, steps=2, **options):
    latents, generators = draw(family, components, len(prompts))
    spec = SampleSpec(**{"scheduler": family.defaults.scheduler, "inference_steps": steps, **options})
    return family.sample(components, prompts, latents, spec, generators)
