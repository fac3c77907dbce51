"""What a plan will take in time and disk, and whether its models are at hand. Imports no torch."""

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from sweeper.plan import Left, Plan
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


def disk(left: Sequence[Left], keep: str = "all") -> int:
    """Bytes that the work will add at most, of checkpoints, training states (weights and two moments) and samples.

    Where losing checkpoints are deleted: those of one training at work, and those that are kept.
    """
    sizes: dict[tuple[ModelSpec, bool], int] = {}
    samples = 0
    weights = []
    for each in left:
        spec = each.training.spec
        key = spec.model, spec.train_text_encoder
        sizes[key] = sizes.get(key) or checkpoint_bytes(spec)
        checkpoints = len({point.step for point in each.missing})
        weights.append(sizes[key] * (checkpoints + 3 * bool(each.missing)))
        samples += sum(point.images for point in each.missing) * spec.model.resolution**2
    if keep == "all":
        return sum(weights) + samples
    kept = 1 if keep == "best" else int(keep)
    return min(sum(weights), max(weights, default=0) + kept * max(sizes.values(), default=0)) + samples


def seconds(left: Sequence[Left], store: Store) -> float | None:
    """Of the work that is left, on one device; None where this machine has not trained such a model yet."""
    rates = read_json(store.rates) if store.rates.exists() else {}
    total = start = 0.0
    for each in left:
        if each.missing:
            model = each.training.spec.model
            rate = rates.get(model.revision, MINIATURE if model.name == "miniature" else None)
            if rate is None:
                return None
            total, start = total + _seconds(each, rate), rate["start"]
    return total + start


def _seconds(left: Left, rate: dict[str, float]) -> float:
    last = max(point.step for point in left.missing)
    steps = last - min(left.trained, last)
    images = sum(point.images * point.sample.inference_steps for point in left.missing)
    return steps * images_per_step(left.training.spec) * rate["step"] + images * rate["image"]


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
            fetch(repo, revision.partition("@")[2], pipeline)


def _weights(folder: str) -> bool:
    return any(any(Path(folder).glob(name)) for name in ("*.safetensors", "pytorch_model.bin"))


def fetch(repo: str, revision: str, pipeline: bool) -> None:
    """Has a repository in the hub's cache. Raises SpecError if it cannot be had, or holds no weights."""
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    from huggingface_hub import snapshot_download

    patterns = (
        ["*/*.safetensors", "*/*.json", "*/*.txt", "*.json"] if pipeline else ["*.safetensors", "*.json", "*.txt"]
    )
    for offline in (True, False):
        try:
            folder = snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=offline)
            if not pipeline and not _weights(folder):  # some encoders are older than safetensors
                snapshot_download(
                    repo, revision=revision, allow_patterns=["pytorch_model.bin"], local_files_only=offline
                )
            if pipeline or _weights(folder):
                return
        except Exception:  # whatever the hub's client meets: no network, no such repository, no permission
            continue
    raise SpecError(
        f"{repo} is not in the local cache and cannot be downloaded from here. With a network: hf download {repo}; "
        "or give a local folder (model.repo=, model.clip=, model.dino=); model=miniature needs neither."
    )
