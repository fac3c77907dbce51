"""Bytes on disk of what a training leaves. Imports nothing heavy: the plan adds them up."""

import json
import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from trainers.spec import ModelSpec, TrainSpec

# Of the hub models, U-Net and text encoder (Stable Diffusion 2.1, the largest): their parameters, and those of an
# adapter for each unit of its rank, on the attention projections; and those of the autoencoder.
HUB_PARAMETERS = {"stable_diffusion": (865_910_724, 340_387_840)}
HUB_ADAPTERS = {"stable_diffusion": (199_296, 73_728)}
HUB_AUTOENCODER = {"stable_diffusion": 83_653_863}
HOST = 3 * 1024**3  # of the machine's memory, assumed: what a process with a GPU takes before it loads a model
WIDEST = 1024  # of a token's embedding, in Stable Diffusion 2.x
SAVE_EVERY = 300.0  # seconds of training between two states
LARGE_STATE = 10**9  # bytes, from which on one training of a sweep keeps its last state, and not each that may go on
BYTES = {"no": 4, "fp16": 2, "bf16": 2}  # of a weight
# Bytes of an optimizer's state for each weight that learns: two moments in fp32; in 8 bits, with a scale for each block
# of 256; two moments, the start and the sum of gradients; a row and a column of each matrix, which of kernels of 3 x 3
# are two thirds: of the U-Net of Stable Diffusion 1.5.
OPTIMIZER_BYTES = {"adamw": 8, "adamw8bit": 2.04, "prodigy": 16, "adafactor": 2.13}


def _shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """The weights in the safetensors files of `folder`, read from their headers."""
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        yield from ((name, entry["shape"]) for name, entry in header.items() if name != "__metadata__")


@lru_cache(maxsize=64)  # the trainings of a plan ask for the same
def _parameters(folder: Path, targets: tuple[str, ...] | None = None) -> int:
    """The number of weights in `folder`; with `targets`, of adapters of rank 1 on the layers of such names."""
    if targets is None:
        return sum(math.prod(shape) for _, shape in _shapes(folder))
    layers = tuple(f".{target}.weight" for target in targets)
    return sum(shape[0] + math.prod(shape[1:]) for name, shape in _shapes(folder) if name.endswith(layers))


def learned(spec: TrainSpec) -> int:
    """The number of weights that learn; of a hub model that of the family's largest."""
    trainer = spec.trainer
    folder = Path(spec.model.repo)
    lora = trainer.name == "dreambooth_lora"
    if trainer.name == "textual_inversion":
        return trainer.vectors * WIDEST
    if folder.is_dir():
        network = _parameters(folder / "unet", trainer.lora_targets if lora else None)
        encoder = _parameters(folder / "text_encoder", trainer.lora_text_targets if lora else None)
    else:
        network, encoder = (HUB_ADAPTERS if lora else HUB_PARAMETERS)[spec.model.family]
    return (network + encoder * spec.train_text_encoder) * (trainer.lora_rank if lora else 1)


def checkpoint_bytes(spec: TrainSpec, precision: str = "no") -> int:
    """Of one checkpoint: what learns, and its moving average where there is one. Only whole networks are stored in
    another precision than fp32."""
    return (
        learned(spec) * (BYTES[precision] if spec.trainer.whole_networks else 4) * (2 if spec.trainer.ema_decay else 1)
    )


def state_bytes(spec: TrainSpec) -> int:
    """Of the state to go on from: what learns in fp32, its moving average, and the optimizer's state."""
    optimizer = "adamw8bit" if spec.use_8bit_adam else spec.trainer.optimizer
    return int(learned(spec) * (4 + (4 if spec.trainer.ema_decay else 0) + OPTIMIZER_BYTES[optimizer]))


def host_bytes(model: ModelSpec) -> int:
    """Of the machine's memory that a process needs whose training is on a GPU: the untuned pipeline, which stays, and
    what learns twice, as it is read from a checkpoint and copied on its way to the GPU."""
    folder = Path(model.repo)
    network = _parameters(folder / "unet") if folder.is_dir() else HUB_PARAMETERS[model.family][0]
    return HOST + pipeline_bytes(model) + 2 * 4 * network


def pipeline_bytes(model: ModelSpec) -> int:
    """Of the whole model as a diffusers folder, in fp32."""
    folder = Path(model.repo)
    if folder.is_dir():
        return 4 * sum(_parameters(folder / part) for part in ("unet", "text_encoder", "vae"))
    return 4 * (sum(HUB_PARAMETERS[model.family]) + HUB_AUTOENCODER[model.family])
