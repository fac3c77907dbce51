"""The contract of a model family: everything that is particular to one kind of pipeline, behind one interface.

What trains, samples and estimates asks a family by these names and knows nothing else of it. In particular the training
loop cannot tell diffusion from flow matching. The tests in tests/trainers/families ask every family for all of it.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainers.families.defaults import DEFAULTS, FamilyDefaults
from trainers.precision import DTYPES
from trainers.spec import ModelSpec, SampleSpec

Images = npt.NDArray[np.uint8]  # [N, H, W, 3]
Device = torch.device | str


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What prompts become: named tensors with a row for each prompt, as token ids or as encoded by the text encoders.

    A tensor that has a mask is a sequence [N, L, ...] and may be padded; the mask [N, L] is true where it is not.
    """

    tensors: Mapping[str, Tensor]  # [N, ...] each
    masks: Mapping[str, Tensor] = field(default_factory=dict)  # of some of the tensors, by the same names

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: Tensor | slice) -> "Conditioning":
        """Some of the rows, in the order asked for; a row may be asked for twice."""
        return Conditioning(
            {name: tensor[rows] for name, tensor in self.tensors.items()},
            {name: mask[rows] for name, mask in self.masks.items()},
        )

    def to(self, device: Device, dtype: torch.dtype | None = None) -> "Conditioning":
        """On `device`; floating-point tensors in `dtype`, where one is given."""
        return Conditioning(
            {
                name: tensor.to(device, dtype if tensor.is_floating_point() else None)
                for name, tensor in self.tensors.items()
            },
            {name: mask.to(device) for name, mask in self.masks.items()},
        )

    @staticmethod
    def cat(parts: "Sequence[Conditioning]") -> "Conditioning":
        """All rows of all parts. Sequences are padded at their ends, with zeros, to the longest."""
        masks = {name: _cat_padded([part.masks[name] for part in parts]) for name in parts[0].masks}
        tensors = {
            name: _cat_padded(given) if name in masks else torch.cat(given)
            for name, given in ((name, [part.tensors[name] for part in parts]) for name in parts[0].tensors)
        }
        return Conditioning(tensors, masks)


def _cat_padded(sequences: Sequence[Tensor]) -> Tensor:
    """[N_i, L_i, ...] -> [sum of N_i, the largest L_i, ...]"""
    longest = max(sequence.shape[1] for sequence in sequences)
    return torch.cat([_padded(sequence, longest) for sequence in sequences])


def _padded(sequence: Tensor, length: int) -> Tensor:
    missing = length - sequence.shape[1]
    if not missing:
        return sequence
    return torch.cat([sequence, sequence.new_zeros(len(sequence), missing, *sequence.shape[2:])], dim=1)


@dataclass(frozen=True, eq=False)
class Components:
    """The networks of a pipeline and what goes with them. Trainings share them, so nothing here is changed in place."""

    model: ModelSpec
    parts: Mapping[str, nn.Module]  # by their names in diffusers' pipeline
    network_name: str  # of the part that removes the noise, which is what learns
    tokenizers: Mapping[str, Any]  # transformers' tokenizers, by the name of the text encoder that reads their tokens
    scheduler_config: Mapping[str, Any]
    aliases: tuple[tuple[str, str], ...] = ()  # (word in a prompt, learned token that stands for it)

    def __post_init__(self) -> None:
        for name in ("parts", "tokenizers", "scheduler_config"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def network(self) -> nn.Module:
        """The part that removes the noise, which is what learns."""
        return self.parts[self.network_name]

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The text encoders by name."""
        return {name: self.parts[name] for name in self.tokenizers}

    @property
    def autoencoder(self) -> nn.Module:
        """Between pixels and latents. Every pipeline of diffusers calls it `vae`."""
        return self.parts["vae"]

    def with_parts(self, parts: Mapping[str, nn.Module]) -> "Components":
        """The same with some parts in place of those of the same names."""
        return replace(self, parts={**self.parts, **parts})

    def to(self, device: Device, precision: str = "no") -> "Components":
        """Copies on `device` in fp32, fp16 or bf16; a part that is there already is not copied."""
        device = torch.device(device)
        dtype = DTYPES[precision]
        return self.with_parts({name: _placed(part, device, dtype) for name, part in self.parts.items()})


def _placed(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    weight = next(module.parameters())
    if weight.dtype == dtype and weight.device.type == device.type and device.index in (None, weight.device.index):
        return module
    memo: dict[int, Any] = {}  # what a deep copy takes rather than copy it: so nothing is on the CPU twice
    for parameter in module.parameters():
        moved = parameter.detach().to(device, dtype, copy=True)
        memo[id(parameter)] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.to(device, dtype if buffer.is_floating_point() else None, copy=True)
    return copy.deepcopy(module, memo)


class ForwardProcess(ABC):
    """How clean latents become noise, and what the network learns to predict on the way: diffusion, or a flow."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Timesteps [count] for training, on the CPU, in the units that `Family.predict` takes."""

    @abstractmethod
    def at(self, fraction: float, count: int) -> Tensor:
        """Timesteps [count], all of them at `fraction` of the way from clean (0) to noise (1)."""

    @abstractmethod
    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents [N, ...] on their way to `noise`, each at its timestep [N]."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should predict from the noised latents, [N, ...]."""

    @abstractmethod
    def weights(self, timesteps: Tensor, min_snr_gamma: float | None) -> Tensor | None:
        """Weights of the losses of samples, [N]; None where all weigh the same.

        Raises:
            SpecError: a gamma is given and the process has nothing like min-SNR weights.
        """


class Family(ABC):
    """One kind of pipeline. An instance holds no weights: these are in `Components`."""

    name: str  # its key in FAMILIES and DEFAULTS
    trainable_encoders: tuple[str, ...]  # the text encoders that can learn, and into which new words go

    @property
    def defaults(self) -> FamilyDefaults:
        """Resolution, precision, LoRA layers, sampling, and the learning rate of each trainer."""
        return DEFAULTS[self.name]

    # --- weights ---

    @abstractmethod
    def load(self, model: ModelSpec) -> Components:
        """The untuned model on the CPU in fp32, in eval mode, without gradients; the last one loaded stays at hand.

        Raises:
            SpecError: `model.repo` is no pipeline of this family, and neither in the local cache nor to be downloaded.
        """

    @abstractmethod
    def blank(self, model: ModelSpec) -> Components:
        """The architecture of `model` from its configuration files, its weights not loaded."""

    @abstractmethod
    def with_checkpoint(self, components: Components, folder: Path) -> Components:
        """The tuned weights in `folder` put over the untuned ones: whole networks, LoRA layers, learned tokens."""

    @abstractmethod
    def save_lora(self, folder: Path, network: nn.Module, encoders: Mapping[str, nn.Module]) -> None:
        """The adapters of networks that have some, as `load_lora_weights` of diffusers reads them."""

    @abstractmethod
    def save_tokens(self, folder: Path, learned: Mapping[str, Mapping[str, Tensor]]) -> None:
        """New tokens, {text encoder: {token: [vectors, width]}}, as `load_textual_inversion` of diffusers reads them.
        Writes nothing where nothing was learned."""

    @abstractmethod
    def save_pipeline(self, components: Components, folder: Path, scheduler: str | None = None) -> None:
        """A diffusers folder that `DiffusionPipeline.from_pretrained` loads. The default is the family's scheduler."""

    # --- images ---

    @abstractmethod
    def latent_shape(self, components: Components, resolution: int) -> tuple[int, ...]:
        """The shape of the latents of one square image of `resolution` pixels, channels first."""

    @abstractmethod
    def encode_images(self, autoencoder: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the scaled latents, in fp32, of pixels [N, 3, H, W] in [-1, 1]."""

    @abstractmethod
    def sample(
        self,
        components: Components,
        prompts: Sequence[str],
        latents: Tensor,
        spec: SampleSpec,
        generators: list[torch.Generator],
        device: Device = "cpu",
    ) -> Images:
        """Images from `latents` [N, ...], unit normal; a generator per image for the noise that some schedulers add.

        The same image whatever else is in the batch. Place the components once with `.to(device, precision)` when
        sampling many batches.
        """

    # --- text ---

    @abstractmethod
    def tokenize(self, components: Components, prompts: Sequence[str]) -> Conditioning:
        """Token ids of prompts, for `encode_text`; learned tokens stand in for their words. Longer prompts are cut."""

    @abstractmethod
    def encode_text(self, encoders: Mapping[str, nn.Module], tokens: Conditioning) -> Conditioning:
        """What `predict` takes, of what `tokenize` gives. Gradients reach the encoders where they are enabled."""

    @abstractmethod
    def blank_text(self, components: Components, count: int, encoded: bool) -> Conditioning:
        """Shaped as `count` prompts from `tokenize` or, if `encoded`, from `encode_text`; without their values."""

    def condition(self, components: Components, prompts: Sequence[str]) -> Conditioning:
        """Prompts as `predict` takes them, encoded where the text encoders are."""
        encoders = components.encoders
        device = next(parameter.device for encoder in encoders.values() for parameter in encoder.parameters())
        return self.encode_text(encoders, self.tokenize(components, prompts).to(device))

    # --- training ---

    @abstractmethod
    def forward_process(self, components: Components, device: Device = "cpu") -> ForwardProcess:
        """
        Raises:
            SpecError: the pipeline's scheduler is configured for a process that the family does not know.
        """

    @abstractmethod
    def predict(self, network: nn.Module, noisy: Tensor, timesteps: Tensor, text: Conditioning) -> Tensor:
        """What `ForwardProcess.target` is the truth of, shaped as `noisy` [N, ...], a row of `text` for each sample."""
