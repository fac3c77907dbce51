"""What sampling needs, and how many images are sampled at once."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.trainers import tiny
from trainers import sampling_memory as module
from trainers.families import family_of
from trainers.families.base import Conditioning
from trainers.live_bytes import LiveBytes
from trainers.sampling_memory import ROOM, images_at_once, sampling_memory
from trainers.spec import SampleSpec


@pytest.fixture
def model(pipelines):
    return tiny.model_spec(pipelines["epsilon"])


@pytest.fixture
def components(model):
    return family_of(model).load(model)


@pytest.mark.parametrize("guided", [True, False])
def test_it_is_what_a_real_image_needs(model, components, guided):
    family, size = family_of(model), 2 if guided else 1
    text = Conditioning({"states": torch.zeros(size, 16, 32)})
    needed = sampling_memory(model, "no", guided)
    with torch.no_grad():
        with LiveBytes() as denoising:
            family.predict(components.network, torch.randn(size, 4, 8, 8), torch.ones(size), text)
        with LiveBytes() as decoding:
            components.autoencoder.decode(torch.randn(1, 4, 8, 8))
        with LiveBytes() as encoding:
            family.encode_images(components.autoencoder, torch.randn(1, 3, 16, 16))
    assert needed.denoising == pytest.approx(denoising.peak, rel=0.02)
    assert needed.autoencoder == pytest.approx(max(decoding.peak, encoding.peak), rel=0.02)
    assert needed.weights == 4 * sum(w.numel() for part in components.parts.values() for w in part.parameters())


def test_it_grows_with_the_batch_and_halves_with_the_precision(model, components):
    family = family_of(model)
    with torch.no_grad(), LiveBytes() as four:
        text = Conditioning({"states": torch.zeros(4, 16, 32)})
        family.predict(components.network, torch.randn(4, 4, 8, 8), torch.ones(4), text)
    one, half = sampling_memory(model, "no", False), sampling_memory(model, "fp16", False)
    assert four.peak == pytest.approx(4 * one.denoising, rel=0.05)
    assert half.weights == one.weights / 2
    assert half.denoising == pytest.approx(one.denoising / 2, rel=0.1)


def test_as_many_images_as_fit_on_a_gpu(components, monkeypatch):
    spec = SampleSpec()
    needed = sampling_memory(components.model, spec.precision, True).denoising

    def at_once(free, spec=spec, most=16):
        monkeypatch.setattr(module, "free", lambda device: free)
        return images_at_once(components, spec, "cuda", most)

    four = -int(-4 * needed / ROOM // 1)
    assert at_once(four + 1) == 4
    assert at_once(four - 10) == 3
    assert at_once(0) == 1  # it may still fit: what is out of memory is told then
    assert at_once(100 * needed) == 16
    assert at_once(four + 1, replace(spec, guidance_scale=1.0)) == 8


@pytest.mark.parametrize(
    ("nobodys", "fraction", "found"),
    [
        (10, 1.0, 10 + 3),  # with 3 that are kept without use
        (2, 1.0, 2 + 3),  # others have the rest
        (10, 0.5, 12 - 8 + 3),  # of its part it has 8
        (10, 0.25, 6 - 5),  # more than its part: it can have back what it keeps
    ],
)
def test_what_is_free_is_no_more_than_the_part_of_the_process(nobodys, fraction, found, monkeypatch):
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "mem_get_info", lambda device: (nobodys, 24))
    monkeypatch.setattr(cuda, "memory_reserved", lambda device: 8)
    monkeypatch.setattr(cuda, "memory_allocated", lambda device: 5)
    monkeypatch.setattr(cuda, "get_per_process_memory_fraction", lambda index: {None: fraction}[index])
    assert module.free(torch.device("cuda")) == found


def test_on_a_cpu_as_many_as_ever(components, monkeypatch):
    monkeypatch.setattr(module, "free", lambda device: 0)
    assert images_at_once(components, SampleSpec(), "cpu", 16) == 16


class TooManyImages(torch.nn.Module):
    """A network on a card with memory for one image."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images, *args, **kwargs):
        if len(images) > 1:
            raise torch.OutOfMemoryError("no room")
        return self.network(images, *args, **kwargs)


def test_images_are_decoded_one_by_one_on_a_gpu(components, monkeypatch):
    family = family_of(components.model)
    placed = components.with_parts({"vae": copy.deepcopy(components.autoencoder)})
    latents = [torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    generators = [torch.Generator() for _ in range(3)]
    arguments = (["a dog"] * 3, latents[0], SampleSpec("ddim", 1), generators)
    at_once = family.sample(components, *arguments)
    placed.autoencoder.decoder = TooManyImages(placed.autoencoder.decoder)
    with pytest.raises(torch.OutOfMemoryError):
        family.sample(placed, *arguments)
    monkeypatch.setattr("trainers.families.stable_diffusion.sliced", lambda device: True)
    one_by_one = family.sample(placed, *arguments)
    assert abs(one_by_one.astype(int) - at_once).max() <= 1
