"""What a plan will take in time and disk. Imports no torch."""

import json
import math
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.plan.inversions import inversion_steps, inversions
from sweeper.plan.types import Remaining
from sweeper.store import Store
from trainers.files import read_json, understood, write_json
from trainers.spec import ModelSpec, TrainerSpec, TrainSpec
from trainers.stages import inversion_stage

# Of the hub models, U-Net and text encoder (CompVis/stable-diffusion-v1-4): their parameters, and those of an adapter
# for each unit of its rank, on the attention projections.
HUB_PARAMETERS = {"stable_diffusion": (865_910_724, 340_387_840)}
HUB_ADAPTERS = {"stable_diffusion": (199_296, 73_728)}
WIDEST = 1024  # of a token's embedding, in Stable Diffusion 2.x
# Seconds of a training step per image in the batch, of an image per inference step, and of the start: the miniature on
# two cores. Replaced by what was measured here once a training has run.
MINIATURE = {"step": 0.02, "image": 0.011, "start": 20.0}
STATE = 3  # a training state in checkpoints: the weights and two moments
SPARE = 3  # checkpoints that are kept before the end besides those asked for, as they may still be chosen


def _shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """The weights in the safetensors files of `folder`, read from their headers."""
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        yield from ((name, entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _parameters(folder: Path, targets: Collection[str] | None) -> int:
    """The number of weights in `folder`; with `targets`, of adapters of rank 1 on the layers of such names."""
    if targets is None:
        return sum(math.prod(shape) for _, shape in _shapes(folder))
    layers = tuple(f".{target}.weight" for target in targets)
    return sum(shape[0] + math.prod(shape[1:]) for name, shape in _shapes(folder) if name.endswith(layers))


def checkpoint_bytes(spec: TrainSpec) -> int:
    """Of one checkpoint: fp32 weights of what is trained, and their moving average where there is one."""
    trainer, folder = spec.trainer, Path(spec.model.repo)
    lora = trainer.name == "dreambooth_lora"
    if trainer.name == "textual_inversion":
        unet, text_encoder = 0, trainer.vectors * WIDEST
    elif folder.is_dir():
        unet = _parameters(folder / "unet", trainer.lora_targets if lora else None)
        text_encoder = _parameters(folder / "text_encoder", trainer.lora_text_targets if lora else None)
    else:
        unet, text_encoder = (HUB_ADAPTERS if lora else HUB_PARAMETERS)[spec.model.family]
    learns_text = spec.train_text_encoder or trainer.name == "textual_inversion"
    count = (unet + text_encoder * learns_text) * (trainer.lora_rank if lora else 1)
    return 4 * count * (2 if trainer.ema_decay else 1)


@dataclass(frozen=True)
class Capacity:
    """What an engine has."""

    workers: int  # at once
    sharing: int = 1  # workers that share one device, and so are as fast together as one alone

    @property
    def devices(self) -> int:
        """Groups of devices that train at full speed."""
        return max(1, self.workers // self.sharing)


def time_and_disk(
    left: Sequence[Remaining], store: Store, keep: str, capacity: Capacity, own_inversions: bool = False
) -> tuple[float | None, int]:
    """`seconds` and `disk` of the work on what an engine has."""
    return seconds(left, store, capacity.devices, own_inversions), disk(left, keep, capacity.workers)


def checkpoints_kept(keep: str, final: bool) -> int:
    """How many checkpoints of a sweep stay with keep=best or a number: at its end, or before it."""
    return (1 if keep == "best" else int(keep)) + SPARE * (not final)


def disk(left: Sequence[Remaining], keep: str, at_once: int) -> int:
    """Bytes that the work will add at most, of checkpoints, training states (weights and two moments) and samples.

    A state takes the place of the one before when it is written. Where losing checkpoints are deleted, there are those
    that are kept, and of each training at work the last two: one is trained while the one before is scored.
    """
    sizes: dict[tuple[ModelSpec, TrainerSpec, bool], int] = {}
    samples = 0
    weights = []
    for each in left:
        spec = each.training.spec
        key = spec.model, spec.trainer, spec.train_text_encoder
        if key not in sizes:
            sizes[key] = checkpoint_bytes(spec)
        checkpoints = len({point.step for point in each.missing})
        weights.append(sizes[key] * (checkpoints + STATE * bool(each.missing)))
        samples += sum(point.images for point in each.missing) * spec.model.resolution**2
    largest = max(sizes.values(), default=0)
    at_work = min(at_once, sum(map(bool, weights)))
    whole = sum(weights) + STATE * largest * at_work
    if keep != "all":
        whole = min(whole, ((2 * STATE + 2) * at_work + checkpoints_kept(keep, False)) * largest)
    return whole + samples


def seconds(left: Sequence[Remaining], store: Store, devices: int, own_inversions: bool = False) -> float | None:
    """Until the work that is left is done; None where this machine has not trained such a model yet.

    own_inversions: each training starts from a textual inversion of its own, even where those in `left` are equal.
    """
    rates = _rates(store)
    longest = total = start = 0.0
    shared = inversions(left, store.cache)
    counted = set()
    for each in left:
        if each.missing:
            model = each.training.spec.model
            rate = rates.get(model.revision, MINIATURE if model.name == "miniature" else None)
            if rate is None:
                return None
            start = rate["start"]
            taken = _seconds(each, rate)
            longest = max(longest, taken)
            total += taken
            if each.untrained and inversion_steps(each.training.spec):  # one trains the word, all wait for it
                inversion = shared[inversion_stage(each.training.spec).signature]
                steps = inversion.steps if own_inversions else inversion.left
                waited = steps * inversion.spec.images_per_step * rate["step"]
                longest = max(longest, waited + taken)
                if own_inversions or inversion.spec not in counted:
                    total += waited
                counted.add(inversion.spec)
    return max(longest, total / devices) + start


def _seconds(left: Remaining, rate: dict[str, float]) -> float:
    images = sum(point.images * point.sample.inference_steps for point in left.missing)
    return left.untrained * left.training.spec.images_per_step * rate["step"] + images * rate["image"]


def remember(store: Store, model: ModelSpec, sharing: int, step: float, image: float, start: float) -> None:
    """Keeps for the next plan what a trial measured here, `sharing` of which had one device."""
    rates = _rates(store)
    rate = {"step": step / sharing, "image": image / sharing, "start": start}
    write_json(store.rates, {**rates, model.revision: rate})


def _rates(store: Store) -> dict[str, Any]:
    with understood(store.rates):
        return dict(read_json(store.rates).items()) if store.rates.exists() else {}
