"""A bank of images of the miniature's sweeps, as numbers: what the score is made of beside what the judge sees.

    python -m benchmarks.bank                    # goes on where it was; a file for each sweep, on one thread
    python -m benchmarks.bank --sweeps cat_toy-b1 face-b4

A sweep is three learning rates times five steps of one subject and recipe: 15 cells. Each cell has 64 images of the
quick evaluation, 8 prompts times 8 noises, and 4 of the plain class prompt. The images are not kept, only what is
measured on them, one by one. `benchmarks.error_sources` reads the files. Each cell is added to its
sweep's file as it is done: a killed call goes on, with equal results.
"""

import argparse
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.sweetspot_validation import MODEL, ROOT, WEIGHTS, quick
from evaluation.baselines import read_photographs
from evaluation.evaluate import encoders
from evaluation.features import encode
from evaluation.metrics import Images, noise_level
from evaluation.sample import read_images, sample_images
from evaluation.spec import EvalSpec, fill
from miniature import judge
from miniature.captions import PLACES
from miniature.pretrain.data import render_all
from miniature.study import attributes_right
from miniature.subjects import FOLDER, IDENTITIES, INSTANCE_CONTEXTS, held_out_scenes
from trainers.families import family_of
from trainers.families.base import Components
from trainers.files import write_bytes
from trainers.images import fingerprint
from trainers.loop import train
from trainers.prior import make_class_images
from trainers.prompts import class_words, subject_words
from trainers.spec import ModelSpec, PriorSpec, SampleSpec, SubjectSpec, TrainSpec

Arrays = dict[str, NDArray[np.generic]]

DATA = ROOT / "benchmarks" / "data"
LRS = (5e-6, 1e-6, 2e-6)  # in this order: the first of every sweep before the second of any
STEPS = (25, 50, 100, 200, 400)
IMAGES = 8  # of each prompt
HELD_OUT = 5  # photographs of the subject that no training sees, in the places and the style of those that it sees
SAMPLING = SampleSpec("dpm", inference_steps=8, guidance_scale=5.0)


@dataclass(frozen=True)
class Sweep:
    subject: str
    batch_size: int
    prior: bool = False
    text: bool = False  # trains the text encoder too

    @property
    def name(self) -> str:
        return f"{self.subject}-b{self.batch_size}{'-prior' * self.prior}{'-text' * self.text}"

    def training(self, lr: float, pipeline: Path, sample: SampleSpec) -> TrainSpec:
        noun = IDENTITIES[self.subject]["noun"]
        images = FOLDER / self.subject
        words = {"instance_prompt": f"a photo of sks {noun}", "class_prompt": f"a photo of a {noun}"}
        return TrainSpec(
            ModelSpec(revision="miniature", repo=str(pipeline)),
            SubjectSpec(fingerprint(images), noun, images=str(images), **words),
            prior=PriorSpec(num_class_images=32, sample=sample) if self.prior else None,
            lr=lr,
            train_text_encoder=self.text,
            batch_size=self.batch_size,
            lr_scale=yaml.safe_load(MODEL.read_text())["lr_scale"],
        )


SWEEPS = (  # in this order: any beginning has as many kinds as it can
    Sweep("cat_toy", 1),
    Sweep("face", 4),
    Sweep("pig_head", 1, prior=True),
    Sweep("potato_head", 1, text=True),
    Sweep("face", 1),
    Sweep("cat_toy", 4, prior=True),
    Sweep("potato_head", 1),
    Sweep("pig_head", 4),
    Sweep("face", 1, prior=True),
    Sweep("cat_toy", 1, text=True),
    Sweep("pig_head", 1),
    Sweep("potato_head", 4, prior=True),
)


@dataclass(frozen=True)
class Size:
    """How much is made. The defaults are the bank's; tests make less."""

    lrs: Sequence[float] = LRS
    steps: Sequence[int] = STEPS
    images: int = IMAGES
    prompts: int | None = None  # the first so many; None: all
    sample: SampleSpec = SAMPLING

    @property
    def evaluation(self) -> EvalSpec:
        evaluation = quick()
        return replace(evaluation, prompts=evaluation.prompts[: self.prompts], images_per_prompt=self.images)


@dataclass(frozen=True)
class Yardstick:
    """What the images of a subject are compared with."""

    subject: str
    evaluation: EvalSpec
    photographs: Images  # [N, ...] that the training sees
    held_out: Images  # [H, ...] that it does not
    texts: NDArray[np.float32]  # [P, D] of the prompts without the identifier

    @classmethod
    def of(cls, subject: str, evaluation: EvalSpec) -> "Yardstick":
        clip, dino = encoders(evaluation, "cpu")
        photographs = encode(read_photographs(FOLDER / subject, 64), clip, dino)
        unseen = encode(render_all(held_out_scenes(subject, HELD_OUT, contexts=INSTANCE_CONTEXTS)), clip, dino)
        words = class_words(IDENTITIES[subject]["noun"])
        return cls(
            subject, evaluation, photographs, unseen, clip.text([fill(prompt, words) for prompt in evaluation.prompts])
        )

    def photograph_values(self) -> Arrays:
        """Cosines of the photographs with each other and with the prompts; every name begins with photographs_."""
        seen = self.photographs
        unseen = self.held_out
        values = {
            "dino": seen.dino @ seen.dino.T,
            "held_out": unseen.dino @ unseen.dino.T,
            "seen_and_held_out": seen.dino @ unseen.dino.T,
            "clip": seen.clip @ seen.clip.T,
            "text": self.texts @ seen.clip.T,
            "noise": noise_level(seen.pixels),
        }
        return {f"photographs_{name}": value.astype(np.float32) for name, value in values.items()}


def measured(pixels: NDArray[np.uint8], of_class: NDArray[np.uint8], yardstick: Yardstick) -> Arrays:
    """Image by image: cosines with each photograph and prompt, and what the judge reads.

    pixels: [P, K, H, W, 3] of the prompts; of_class: [C, H, W, 3] of the plain class prompt. Gives, float32 or bool:
    dino, clip [P, K, N] to the photographs; held_out [P, K, H]; text [P, K, P] to every prompt; alike [P, K, K] patch
    by patch to the images of the same prompt; noise [P, K]; subject [P, K], the share of the subject's attributes that
    are right; noun, place, style [P, K], whether class, place and style are those asked for; class_dino [C, N] and
    class_subject [C] of the plain class prompt.
    """
    clip, dino = encoders(yardstick.evaluation, "cpu")
    images = encode(pixels, clip, dino)
    plain = encode(of_class, clip, dino)
    flat = pixels.reshape(-1, *pixels.shape[2:])
    seen = {name: np.array(values).reshape(pixels.shape[:2]) for name, values in judge.read(flat).items()}
    asked = np.array([asked_for(prompt) for prompt in yardstick.evaluation.prompts])
    cosines = {
        "dino": images.dino @ yardstick.photographs.dino.T,
        "held_out": images.dino @ yardstick.held_out.dino.T,
        "clip": images.clip @ yardstick.photographs.clip.T,
        "text": images.clip @ yardstick.texts.T,
        "alike": np.einsum("pktd,pltd->pkl", images.patches, images.patches) / images.patches.shape[2],
        "noise": noise_level(pixels),
        "subject": attributes_right(yardstick.subject, flat).reshape(pixels.shape[:2]),
        "class_dino": plain.dino @ yardstick.photographs.dino.T,
        "class_subject": attributes_right(yardstick.subject, of_class),
    }
    return {name: value.astype(np.float32) for name, value in cosines.items()} | {
        "noun": seen["class"] == IDENTITIES[yardstick.subject]["noun"],
        "place": seen["context"] == asked[:, :1],
        "style": seen["style"] == asked[:, 1:],
    }


def asked_for(prompt: str) -> tuple[str, str]:
    """Place and style in the judge's words. Raises StopIteration for a prompt without a place."""
    place = next(place for place, wordings in PLACES.items() if wordings[0] in prompt)
    return place, "painting" if "painting" in prompt else "photo"


def sampled(components: Components, words: str, size: Size, yardstick: Yardstick, folder: Path) -> Arrays:
    """Samples in `folder`, where the images are not there yet, and measures."""
    prompts = size.evaluation.prompts
    evaluation = size.evaluation
    plain = f"a photo of {class_words(IDENTITIES[yardstick.subject]['noun'])}"
    of_class = folder / "class"
    sample_images(components, size.sample, words, prompts, size.images, evaluation.seed, folder)
    sample_images(components, size.sample, "", [plain], evaluation.class_images, evaluation.seed, of_class)
    pixels = read_images(folder, len(prompts), size.images)
    return measured(pixels, read_images(of_class, 1, evaluation.class_images)[0], yardstick)


def make(sweep: Sweep, lr: float, size: Size, work: Path, target: Path, pipeline: Path = WEIGHTS / "pipeline") -> Path:
    """Makes the cells of one training that the sweep's file does not have yet, and adds each of them to the file.

    Names that begin with untuned_ are of the untuned model, with photographs_ of the photographs. The others have an
    entry for each cell, in order of `lr` and `steps`.
    """
    file = target / f"{sweep.name}.npz"
    folder = work / sweep.name / f"{lr:g}"
    known = read_arrays(file) if file.exists() else {}
    to_do = [step for step in size.steps if not has_cell(known, lr, step)]
    if to_do:
        yardstick = Yardstick.of(sweep.subject, size.evaluation)
        noun = IDENTITIES[sweep.subject]["noun"]
        spec = sweep.training(lr, pipeline, size.sample)
        untuned = family_of(spec.model).load(spec.model)
        before = sampled(untuned, class_words(noun), size, yardstick, work / "untuned" / sweep.subject)
        of_all = {f"untuned_{name}": value for name, value in before.items()} | yardstick.photograph_values()
        plain = class_images(untuned, spec, work)
        start = time.perf_counter()
        for checkpoint in train(spec, to_do, folder / "training", class_images=plain, cache=work / "cache"):
            place = folder / f"{checkpoint.step:06d}"
            values = sampled(checkpoint.components(), subject_words("sks", noun), size, yardstick, place)
            known = with_cell(known, lr, checkpoint.step, values) | of_all
            write_arrays(file, known)
            shutil.rmtree(place)
            shutil.rmtree(checkpoint.folder)
            print(f"{sweep.name} {lr:g} {checkpoint.step}: {time.perf_counter() - start:.0f} s", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return file


def has_cell(arrays: Arrays, lr: float, step: int) -> bool:
    return bool(arrays) and bool(((arrays["lr"] == lr) & (arrays["steps"] == step)).any())


def with_cell(known: Arrays, lr: float, step: int, values: Arrays) -> Arrays:
    """`known` cells and one more, in order of lr and steps."""
    added = {name: value[None] for name, value in values.items()} | {"lr": np.array([lr]), "steps": np.array([step])}
    cells = {name: np.concatenate([known[name], value]) if known else value for name, value in added.items()}
    order = np.lexsort((cells["steps"], cells["lr"]))
    return {name: value[order] for name, value in cells.items()}


def class_images(untuned: Components, spec: TrainSpec, work: Path) -> Path | None:
    """For prior preservation; made once for a subject."""
    if spec.prior is None:
        return None
    folder = work / f"class-{spec.subject.class_noun.replace(' ', '_')}"
    return make_class_images(untuned, spec.subject.class_prompt, spec.prior, folder, batch_size=16)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Complete or not at all, and the same bytes for the same arrays."""
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    write_bytes(path, packed.getvalue())


def read_arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def main(arguments: list[str] | None = None) -> None:
    names = {sweep.name: sweep for sweep in SWEEPS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", choices=names, default=list(names), metavar="NAME")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "bank", help="what is done so far")
    parser.add_argument("--to", type=Path, default=DATA, help="the folder of the files")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # more threads round otherwise
    for lr, name in product(LRS, options.sweeps):
        print(make(names[name], lr, Size(), options.work, options.to), flush=True)


if __name__ == "__main__":
    main()
