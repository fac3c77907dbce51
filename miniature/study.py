"""What fine-tuning does to the miniature, by the ground truth: `python -m miniature.study` draws curves and grids.

Every subject is trained by the project's own trainer at several learning rates. Images are sampled from each
checkpoint, and the judge reads three things in them: whether the subject is there, whether its context is the one asked
for, and whether images of the plain class prompt look like the subject too. The project's metrics (identity and CLIP-T)
are measured on the same images for comparison.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import nn
from torch.nn.functional import normalize
from transformers import AutoModel, CLIPModel, CLIPTokenizer, Dinov2Model

from miniature import judge, sampling
from miniature.captions import PLACES
from miniature.labels import truth
from miniature.pretrain import clip, export, identity
from miniature.pretrain import tokenizer as tokens
from miniature.pretrain.data import Images, render_all, to_tensor
from miniature.subjects import FOLDER, IDENTITIES, NEW_CONTEXTS, SUBJECTS, instance_scenes
from trainers.families import family_of
from trainers.loop import train
from trainers.prior import make_class_images
from trainers.spec import ModelSpec, PriorSpec, SampleSpec, SubjectSpec, TrainSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).parents[1] / "docs" / "miniature"
STEPS = (25, 50, 100, 200, 400, 800, 1200)
LRS = (1e-6, 2e-6, 5e-6)
LR_SCALE = 150

IN_CONTEXT = 16
"""Images of each checkpoint that show the subject in new contexts."""
WITHOUT_CONTEXT = 2
"""Images of each checkpoint whose prompt names the subject but no context."""
OF_CLASS = 8
"""Images of each checkpoint whose prompt names the class only."""

MEASURES = {
    "attributes": "subject's attributes right,\nin new places",
    "context": "asked-for place right",
    "drift": "subject's attributes\nin the plain class prompt",
    "identity": "likeness to the instances\n(identity encoder)",
    "clip_t": "CLIP-T,\nwithout the identifier",
}
"""Field of `Row` -> what the figure calls it."""


@dataclass(frozen=True)
class Training:
    """One fine-tuning: the subject (its folder's name), the learning rate as typed, and prior preservation or not."""

    subject: str
    lr: float
    prior: bool = False

    @property
    def name(self) -> str:
        return f"{self.subject} {self.lr:g}{' prior' if self.prior else ''}"

    @property
    def file_name(self) -> str:
        return self.name.replace(" ", "-")


@dataclass(frozen=True)
class Row:
    """The measures of one checkpoint; step 0 is the model before fine-tuning."""

    subject: str
    lr: float
    prior: bool
    step: int
    attributes: float  # share of the subject's attributes that are right, in images with a context
    context: float  # share of those images whose context is the one asked for
    drift: float  # share of the subject's attributes in images of the class
    identity: float  # mean cosine to the instance images
    clip_t: float  # mean cosine of image and prompt


class Prompt(NamedTuple):
    text: str
    context: str | None


def spec_of(training: Training, lr_scale: float) -> TrainSpec:
    """The training in the project's terms. As in the post, the batch size is 4 for objects and 2 for the face."""
    noun = IDENTITIES[training.subject]["noun"]
    prior = PriorSpec(100, sample=SampleSpec("ddim", sampling.STEPS, sampling.GUIDANCE))
    return TrainSpec(
        model=ModelSpec(revision="miniature", repo=str(export.WEIGHTS / "pipeline")),
        subject=SubjectSpec(fingerprint=training.subject, class_noun=noun, images=str(FOLDER / training.subject)),
        prior=prior if training.prior else None,
        lr=training.lr,
        batch_size=2 if noun == "face" else 4,
        mixed_precision="bf16",
        lr_scale=lr_scale,
    )


def prompts_of(subject: str) -> list[Prompt]:
    """The prompts of every checkpoint's images: IN_CONTEXT, then WITHOUT_CONTEXT, then OF_CLASS."""
    noun = IDENTITIES[subject]["noun"]
    contexts = [NEW_CONTEXTS[index % len(NEW_CONTEXTS)] for index in range(IN_CONTEXT)]
    in_context = [Prompt(f"a photo of sks {noun} {PLACES[context][0]}", context) for context in contexts]
    without_context = [Prompt(f"a photo of sks {noun}", None)] * WITHOUT_CONTEXT
    of_class = [Prompt(f"a photo of a {noun}", None)] * OF_CLASS
    return in_context + without_context + of_class


@cache
def identity_encoder() -> Dinov2Model:
    encoder: Dinov2Model = AutoModel.from_pretrained(export.WEIGHTS / "identity").eval()
    return encoder


@cache
def clip_model() -> CLIPModel:
    model: CLIPModel = CLIPModel.from_pretrained(export.WEIGHTS / "clip").eval()
    return model


@cache
def clip_tokenizer() -> CLIPTokenizer:
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(export.WEIGHTS / "clip")
    return tokenizer


def attributes_right(subject: str, images: Images) -> npt.NDArray[np.float64]:
    """Share (0..1) of the subject's own attributes that the judge reads in each image: [N].

    It is 0 in an image of another class, whatever that image has in common with the subject.
    """
    noun = IDENTITIES[subject]["noun"]
    facts = truth(instance_scenes(subject)[0])
    own = {name: value for name, value in facts.items() if name == "color" or name.startswith(f"{noun}/")}
    seen = judge.read(images)
    right = np.array([np.array(seen[name]) == value for name, value in own.items()])
    is_of_the_class = np.array(seen["class"]) == noun
    share: npt.NDArray[np.float64] = right.mean(axis=0) * is_of_the_class
    return share


@torch.no_grad()
def likeness(subject: str, images: Images) -> float:
    """Mean cosine of the images' identity embeddings to those of the instance images."""
    instances = render_all(instance_scenes(subject))
    ours = normalize(identity.embed(identity_encoder(), to_tensor(images)), dim=-1)
    theirs = normalize(identity.embed(identity_encoder(), to_tensor(instances)), dim=-1)
    return (ours @ theirs.T).mean().item()


@torch.no_grad()
def clip_t(prompts: Sequence[str], images: Images) -> float:
    """Mean cosine of images and their prompts, in which "a" replaces the identifier."""
    texts = [prompt.replace("of sks", "of a") for prompt in prompts]
    text_embeddings = clip.embed_text(clip_model(), tokens.encode(clip_tokenizer(), texts))
    _, image_embeddings = clip.embed_images(clip_model(), to_tensor(images))
    return (image_embeddings * text_embeddings).sum(-1).mean().item()


def measure(subject: str, images: Images) -> dict[str, float]:
    """All MEASURES of one checkpoint's images, uint8 [N, 64, 64, 3] in the order of `prompts_of`."""
    prompts = prompts_of(subject)[:IN_CONTEXT]
    in_context = images[:IN_CONTEXT]
    of_class = images[IN_CONTEXT + WITHOUT_CONTEXT :]
    seen = judge.read(in_context)["context"]
    return {
        "attributes": float(attributes_right(subject, in_context).mean()),
        "context": float(np.mean([got == prompt.context for got, prompt in zip(seen, prompts, strict=True)])),
        "drift": float(attributes_right(subject, of_class).mean()),
        "identity": likeness(subject, in_context),
        "clip_t": clip_t([prompt.text for prompt in prompts], in_context),
    }


def sampled(pipeline: StableDiffusionPipeline, unet: nn.Module, subject: str) -> Images:
    """The images of one checkpoint, whose U-Net is `unet`; the noise is the same for every checkpoint."""
    pipeline.unet = unet
    with torch.autocast("cpu", torch.bfloat16):
        return sampling.sample(pipeline, [prompt.text for prompt in prompts_of(subject)])


def class_images(spec: TrainSpec, folder: Path) -> Path | None:
    """The folder of class images, sampled once for each subject; None without prior preservation."""
    if spec.prior is None:
        return None
    prompt = f"a photo of a {spec.subject.class_noun}"
    components = family_of(spec.model).load(spec.model)
    target = folder / f"class-{spec.subject.fingerprint}"
    return make_class_images(components, prompt, spec.prior, target, batch_size=25)


def study_one(
    training: Training, steps: Sequence[int], lr_scale: float, pipeline: StableDiffusionPipeline, folder: Path
) -> list[Row]:
    """Train, sample and measure. Rows and images are kept in `folder`; rows that are there are read instead."""
    target = folder / training.file_name
    file = target / "rows.json"
    if file.exists():
        return [Row(**row) for row in json.loads(file.read_text())]
    untuned = pipeline.unet
    images_at = {0: sampled(pipeline, untuned, training.subject)}
    spec = spec_of(training, lr_scale)
    for checkpoint in train(spec, steps, target, class_images=class_images(spec, folder)):
        images_at[checkpoint.step] = sampled(pipeline, checkpoint.components().network, training.subject)
    pipeline.unet = untuned
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / "images.npy", np.stack(list(images_at.values())))
    rows = [
        Row(training.subject, training.lr, training.prior, step, **measure(training.subject, images))
        for step, images in images_at.items()
    ]
    file.write_text(json.dumps([asdict(row) for row in rows]))
    return rows


def study(trainings: Sequence[Training], steps: Sequence[int], lr_scale: float, folder: Path) -> list[Row]:
    """The rows of all trainings; those that were finished before are not trained again."""
    pipeline = sampling.load_pipeline()
    rows = []
    for training in trainings:
        found = study_one(training, steps, lr_scale, pipeline, folder)
        print(training.name, *(summary(row) for row in found), sep="\n  ", flush=True)
        rows += found
    return rows


def summary(row: Row) -> str:
    return f"step {row.step:4d}: " + "  ".join(f"{name} {getattr(row, name):.2f}" for name in MEASURES)


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """One figure: a row of axes for each measure, a column for each subject, a line for each training."""
    from matplotlib import pyplot

    subjects = [name for name in SUBJECTS if any(row.subject == name for row in rows)]
    height = 2.2 * len(MEASURES)
    width = 3.4 * len(subjects)
    figure, axes = pyplot.subplots(len(MEASURES), len(subjects), figsize=(width, height), squeeze=False, sharex=True)
    for axes_row, measure_name in zip(axes, MEASURES, strict=True):
        for ax, subject in zip(axes_row, subjects, strict=True):
            draw_lines(ax, [row for row in rows if row.subject == subject], measure_name)
        axes_row[0].set_ylabel(MEASURES[measure_name], fontsize=8)
    for ax, subject in zip(axes[0], subjects, strict=True):
        ax.set_title(subject)
    axes[0][-1].legend(fontsize=6)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_lines(ax: "Axes", rows: Sequence[Row], measure_name: str) -> None:
    """A line for each training, dashed with prior preservation; the colour tells the learning rate."""
    for lr, prior in sorted({(row.lr, row.prior) for row in rows}):
        line = [row for row in rows if (row.lr, row.prior) == (lr, prior)]
        color = LRS.index(lr) if lr in LRS else len(LRS)
        ax.plot(
            [row.step for row in line],
            [getattr(row, measure_name) for row in line],
            "--" if prior else "-",
            marker=".",
            color=f"C{color}",
            label=f"{lr:g}{' with prior' if prior else ''}",
        )
    ax.grid(alpha=0.3)


def draw_grids(trainings: Sequence[Training], folder: Path, docs: Path) -> None:
    """A grid of images for each training, with a row for each checkpoint; the first is the untuned model.

    From left to right: the subject in new contexts, the subject without a context, the class alone.
    """
    without_context = IN_CONTEXT
    of_class = IN_CONTEXT + WITHOUT_CONTEXT
    columns = [*range(8), *range(without_context, without_context + 2), *range(of_class, of_class + 3)]
    for training in trainings:
        images = np.load(folder / training.file_name / "images.npy")[:, columns]
        flat = images.reshape(-1, *images.shape[2:])
        sampling.save_grid(flat, len(columns), docs / f"{training.file_name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m miniature.study", description=__doc__)
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=SUBJECTS)
    parser.add_argument("--lrs", nargs="+", type=float, default=LRS, help="as typed: lr_scale multiplies them")
    parser.add_argument("--lr-scale", type=float, default=LR_SCALE)
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS, help="which steps get a checkpoint")
    parser.add_argument(
        "--prior", nargs="*", default=("face", "cat_toy"), help="subjects to train with prior preservation too, at 2e-6"
    )
    parser.add_argument("--state", type=Path, default=Path(".pretrain/study"), help="trainings and samples")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the curves and grids go")
    options = parser.parse_args()
    trainings = [Training(subject, lr) for lr in options.lrs for subject in options.subjects]
    trainings += [Training(subject, 2e-6, prior=True) for subject in options.prior]
    rows = study(trainings, options.steps, options.lr_scale, options.state)
    options.docs.mkdir(parents=True, exist_ok=True)
    (options.docs / "study.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    draw_curves(rows, options.docs / "study.png")
    draw_grids(trainings, options.state, options.docs)


if __name__ == "__main__":
    main()
