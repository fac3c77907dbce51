"""What a plan will take in time and disk, and whether its models are at hand. Imports no torch."""

import json
import os
import struct
from pathlib import Path

from sweeper.plan import Plan, Training
from sweeper.store import Store
from trainers.errors import SpecError
from trainers.files import read_json, write_json
from trainers.spec import ModelSpec, TrainSpec

# Parameters of what the hub models train: U-Net, text encoder (CompVis/stable-diffusion-v1-4, stable-diffusion-2-1).
HUB_PARAMETERS = {"stable_diffusion": (865_910_724, 340_387_840)}
# Seconds of a training step per image in the batch, of an image per inference step, and of the start: the miniature on
# two cores. Replaced by what was measured here once a training has run.
MINIATURE = {"step": 0.02, "image": 0.011, "start": 20.0}


def _parameters(folder: Path) -> int:
    """The number of weights in the safetensors files of `folder`, read from their headers."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, entry in header.items():
            if name != "__metadata__":
                size = 1
                for extent in entry["shape"]:
                    size *= extent
                count += size
    return count


def checkpoint_bytes(spec: TrainSpec) -> int:
    """Of one checkpoint: fp32 weights of what is trained."""
    folder = Path(spec.model.repo)
    if folder.is_dir():
        unet, text_encoder = _parameters(folder / "unet"), _parameters(folder / "text_encoder")
    else:
        unet, text_encoder = HUB_PARAMETERS[spec.model.family]
    return 4 * (unet + text_encoder * spec.train_text_encoder)


def disk(plan: Plan, store: Store, keep: str) -> int:
    """Bytes that the plan will add, of checkpoints, training states (weights and two moments) and samples."""
    sizes: dict[tuple[ModelSpec, bool], int] = {}
    total = largest = 0
    for training in plan.trainings:
        spec = training.spec
        size = sizes.setdefault((spec.model, spec.train_text_encoder), 0) or checkpoint_bytes(spec)
        sizes[spec.model, spec.train_text_encoder] = size
        missing = sum(not store.checkpoint(spec, step).exists() for step in training.steps)
        total += size * missing + (3 * size if missing else 0)
        total += sum(p.images for p in training.points if not store.is_scored(spec, p)) * spec.model.resolution**2
        largest = max(largest, size)
    return total


def seconds(plan: Plan, store: Store) -> float | None:
    """Of the work that is left, on one device; None where this machine has not trained such a model yet."""
    rates = read_json(store.rates) if store.rates.exists() else {}
    total = 0.0
    for training in plan.trainings:
        rate = rates.get(training.spec.model.revision) or (
            MINIATURE if training.spec.model.name == "miniature" else None
        )
        if rate is None:
            return None
        total += _seconds(training, store, rate)
    return total + (rate["start"] if total else 0)


def _seconds(training: Training, store: Store, rate: dict[str, float]) -> float:
    spec = training.spec
    missing = [p for p in training.points if not store.is_scored(spec, p)]
    if not missing:
        return 0.0
    steps = max(p.step for p in missing) - min(store.trained_steps(spec), max(p.step for p in missing))
    return steps * rate["step"] * images_per_step(spec) + sum(
        p.images * p.sample.inference_steps * rate["image"] for p in missing
    )


def images_per_step(spec: TrainSpec) -> int:
    """Instance and class images of an optimizer step."""
    return spec.batch_size * spec.gradient_accumulation_steps * (2 if spec.prior else 1)


def remember(store: Store, model: ModelSpec, step: float, image: float, start: float) -> None:
    """Keeps what was measured here, for the next plan."""
    rates = read_json(store.rates) if store.rates.exists() else {}
    write_json(store.rates, {**rates, model.revision: {"step": step, "image": image, "start": start}})


def check_models(plan: Plan) -> None:
    """Fetches what is on the hub. Raises SpecError where a model is neither a folder, nor cached, nor to be had."""
    wanted: dict[tuple[str, str], bool] = {}
    for training in plan.trainings:
        model = training.spec.model
        wanted[model.repo, model.revision] = True
        for run in training.runs:
            wanted[run.evaluation.clip_repo, run.evaluation.clip] = False
            wanted[run.evaluation.dino_repo, run.evaluation.dino] = False
    for (repo, revision), pipeline in wanted.items():
        if Path(repo).is_dir():
            if pipeline and not (Path(repo) / "model_index.json").exists():
                raise SpecError(f"model.repo={repo}: no diffusers pipeline there (no model_index.json).")
        else:
            _fetch(repo, revision.partition("@")[2], pipeline)


def _fetch(repo: str, revision: str, pipeline: bool) -> None:
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    from huggingface_hub import snapshot_download

    patterns = (
        ["*/*.safetensors", "*/*.json", "*/*.txt", "*.json"] if pipeline else ["*.safetensors", "*.json", "*.txt"]
    )
    for offline in (True, False):
        try:
            snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=offline)
            return
        except Exception:  # whatever the hub's client meets: no network, no such repository, no permission
            continue
    raise SpecError(
        f"{repo} is not in the local cache and cannot be downloaded from here. With a network: hf download {repo}; "
        "or give a local folder (model.repo=, model.clip=, model.dino=); model=miniature needs neither."
    )
