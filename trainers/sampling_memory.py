"""How much memory sampling needs, and how many images fit at once."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from trainers.families import family_of
from trainers.families.base import Components
from trainers.live_bytes import LiveBytes, parameter_bytes, without_data
from trainers.precision import DTYPES
from trainers.spec import ModelSpec, SampleSpec

ROOM = 0.9  # of the free memory that a batch may take: what is freed has holes, and kernels have workspaces


@dataclass(frozen=True)
class SamplingMemory:
    """Bytes on the device, of one image. Those of a step grow with the images in proportion."""

    weights: int  # of the whole pipeline
    denoising: int  # the most that is alive at once in a step
    autoencoder: int  # the same of the image's way to its latents, or back

    @property
    def total(self) -> int:
        """The least that sampling needs."""
        return self.weights + max(self.denoising, self.autoencoder)


@lru_cache(maxsize=64)
def sampling_memory(model: ModelSpec, precision: str, guided: bool) -> SamplingMemory:
    """Of sampling one image. guided: with a guidance scale above 1 the network sees it with and without the prompt."""
    family = family_of(model)
    dtype = DTYPES[precision]
    with torch.device("meta"):
        components = family.blank(model)
    components = components.with_parts({name: part.to(dtype) for name, part in components.parts.items()})
    network = components.network.eval()
    autoencoder: Any = components.autoencoder.eval()
    size = 2 if guided else 1
    shape = family.latent_shape(components, model.resolution)
    process = family.forward_process(components)
    with without_data(network, autoencoder), torch.no_grad():
        timesteps = process.at(0.5, size)
        rows = torch.zeros(size, dtype=torch.long)
        text = family.blank_text(components, 1, encoded=True).to("cpu", dtype)[rows]
        with LiveBytes() as denoising:
            family.predict(network, torch.empty(size, *shape, dtype=dtype), timesteps, text)
        with LiveBytes() as decoding:
            autoencoder.decode(torch.empty(1, *shape, dtype=dtype))
        with LiveBytes() as encoding:
            family.encode_images(autoencoder, torch.empty(1, 3, model.resolution, model.resolution))
    weights = parameter_bytes(*components.parts.values())
    return SamplingMemory(weights, denoising.peak, max(decoding.peak, encoding.peak))


def images_at_once(components: Components, spec: SampleSpec, device: torch.device | str, most: int) -> int:
    """How many images to sample at once, `most` or fewer, with `components` on the device already.

    On a GPU as many as fit beside what is there, a training for example. What else is in the batch changes the rounding
    of an image only. On a CPU `most`.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return most
    needed = sampling_memory(components.model, spec.precision, spec.guidance_scale > 1).denoising
    return max(1, min(most, int(ROOM * free(device)) // needed))


def free(device: torch.device) -> int:
    """Bytes of a GPU that this process can still have: what nobody has, or is left of the part that it was given
    (`torch.cuda.set_per_process_memory_fraction`), and what it keeps without using it."""
    nobodys, total = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device)
    part = int(total * torch.cuda.get_per_process_memory_fraction(device.index))  # of "cuda" it takes no device
    return min(nobodys, part - reserved) + reserved - torch.cuda.memory_allocated(device)


def sampling_kind(components: Components, spec: SampleSpec, device: torch.device | str) -> Hashable:
    """What says how many images fit at once: the name of this work for `in_batches`."""
    return "sampling", str(device), spec.precision, components.model.family, components.model.resolution
