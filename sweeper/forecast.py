"""What a plan will take in time and disk. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.plan.inversions import inversion_steps, inversions
from sweeper.plan.types import Remaining
from sweeper.store import Store
from trainers.files import read_json, understood, write_json
from trainers.sizes import checkpoint_bytes
from trainers.spec import ModelSpec, TrainerSpec
from trainers.stages import inversion_stage

# Seconds of a training step per image in the batch, of an image per inference step, and of the start: the miniature on
# two cores. Replaced by what was measured here once a training has run.
MINIATURE = {"step": 0.02, "image": 0.011, "start": 20.0}
STATE = 3  # a training state in checkpoints: the weights and two moments
SPARE = 3  # checkpoints that are kept before the end besides those asked for, as they may still be chosen


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
