"""What a plan will take in time and disk. Imports no torch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeper.disk import Disk, disk
from sweeper.plan.gpus import count_gpus, lacks_gpu
from sweeper.plan.inversions import inversion_steps, inversions
from sweeper.plan.types import Remaining
from sweeper.store import Store
from trainers.errors import SpecError
from trainers.files import read_json, understood, write_json
from trainers.sizes import pipeline_bytes
from trainers.spec import ModelSpec, TrainSpec
from trainers.stages import inversion_stage

# Seconds of a training step per image in the batch, of an image per inference step, and of the start: the miniature on
# two cores. Replaced by what was measured here once a training has run.
MINIATURE = {"step": 0.02, "image": 0.011, "start": 20.0}
DAYS = 2 * 86400.0  # seconds, from which on a sweep without a GPU has to be forced
GPU = {"step": 0.1}  # calculated for Stable Diffusion 1.5 on an RTX 4090 in fp32; says how often a state is saved


# The same for Stable Diffusion 1.5 at 512 pixels on one core of a processor, calculated: 2.4 and 1.6 TFLOP, 40 GFLOPS.
CORE = {"step": 60.0, "image": 40.0, "start": 30.0}


@dataclass(frozen=True)
class Capacity:
    """What an engine has."""

    workers: int  # at once
    sharing: int = 1  # workers that share one device, and so are as fast together as one alone

    @property
    def devices(self) -> int:
        """Groups of devices that train at full speed."""
        return max(1, self.workers // self.sharing)


def disk_of(left: Sequence[Remaining], store: Store, keep: str, capacity: Capacity) -> Disk:
    """What the work takes on what an engine has. How often a state is saved depends on the speed, which is measured
    here, or calculated for a GPU of 24 GB."""
    rates = _rates(store)

    def step_seconds(spec: TrainSpec) -> float:
        known = MINIATURE if spec.model.name == "miniature" else GPU
        return spec.images_per_step * float(rates.get(spec.model.revision, known)["step"])

    return disk(left, keep, capacity.workers, step_seconds)


def seconds(left: Sequence[Remaining], store: Store, devices: int, own_inversions: bool = False) -> float | None:
    """Until the work that is left is done; None where this machine has not trained such a model yet.

    own_inversions: each training starts from a textual inversion of its own, even where those in `left` are equal.
    """
    longest = total = start = 0.0
    shared = inversions(left, store.cache)
    counted = set()
    for each in left:
        if each.missing:
            model = each.training.spec.model
            rate = rate_of(store, model, sharing=1)
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


def rate_of(store: Store, model: ModelSpec, sharing: int) -> dict[str, float] | None:
    """What a trial is expected to measure where `sharing` have one device; None where nothing is known."""
    rate = _rates(store).get(model.revision, MINIATURE if model.name == "miniature" else _on_processor(model))
    return {"step": rate["step"] * sharing, "image": rate["image"] * sharing, "start": rate["start"]} if rate else None


def _on_processor(model: ModelSpec) -> dict[str, float] | None:
    """What a model that has never run here takes without a GPU; None with one."""
    if count_gpus():
        return None
    size = pipeline_bytes(model) / pipeline_bytes(replace(model, repo="on/hub")) * (model.resolution / 512) ** 2
    cores = os.cpu_count() or 1
    return {"step": CORE["step"] * size / cores, "image": CORE["image"] * size / cores, "start": CORE["start"]}


def basis(store: Store, model: ModelSpec) -> str:
    """What the time is calculated from."""
    if model.revision in _rates(store):
        return "as measured here"
    return (
        "as the miniature takes on two cores" if model.name == "miniature" else f"calculated for {os.cpu_count()} cores"
    )


def check_patience(seconds: float | None, model: ModelSpec, force: bool) -> None:
    """Raises SpecError where a real model would take days on a processor."""
    if lacks_gpu(model) and seconds is not None and seconds >= DAYS and not force:
        raise SpecError(
            f"model={model.name} takes about {seconds / 86400:,.0f} days here, where no GPU is visible: take a machine "
            "with one, fewer cells or steps, or type force=true to run it here."
        )


def _seconds(left: Remaining, rate: dict[str, float]) -> float:
    images = sum(point.planned_images * point.sample.inference_steps for point in left.missing)
    return left.untrained * left.training.spec.images_per_step * rate["step"] + images * rate["image"]


def remember(store: Store, model: ModelSpec, sharing: int, step: float, image: float, start: float) -> None:
    """Keeps for the next plan what a trial measured here, `sharing` of which had one device."""
    rates = _rates(store)
    rate = {"step": step / sharing, "image": image / sharing, "start": start}
    write_json(store.rates, {**rates, model.revision: rate})


def _rates(store: Store) -> dict[str, Any]:
    with understood(store.rates):
        return dict(read_json(store.rates).items()) if store.rates.exists() else {}
