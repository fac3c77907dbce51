"""What fine-tuning does to the miniature, by the ground truth: `python -m miniature.study` draws curves and grids.

Every subject is trained by the project's own trainer over learning rates and steps. At each checkpoint a classifier,
trained on renders alone, reads the samples: is it the subject, is the place the one asked for, has the plain class
prompt turned into the subject. The project's metrics (identity, CLIP) are measured on the same images, beside it.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, CLIPModel, CLIPTokenizer

from miniature import judge, sampling
from miniature.captions import PLACES
from miniature.labels import NAMES, encode_labels
from miniature.pretrain import clip, export
from miniature.pretrain.data import render_all, to_tensor
from miniature.subjects import FOLDER, IDENTITIES, NEW_CONTEXTS, SUBJECTS, instance_scenes
from trainers.families import family_of
from trainers.loop import train
from trainers.prior import make_class_images
from trainers.spec import ModelSpec, PriorSpec, SampleSpec, SubjectSpec, TrainSpec

DOCS = Path(__file__).parents[1] / "docs" / "miniature"
STEPS = (25, 50, 100, 200, 400, 800, 1200)
LRS = (1e-6, 2e-6, 5e-6)
LR_SCALE = 150
PLACED, PLAIN, CLASS = 16, 2, 8
"""Images a checkpoint: of the subject in new places, of the subject in no place, of the plain class prompt."""

MEASURES = {
    "attributes": "subject's attributes right,\nin new places",
    "context": "asked-for place right",
    "drift": "subject's attributes\nin the plain class prompt",
    "identity": "likeness to the instances\n(identity encoder)",
    "clip_t": "CLIP-T,\nwithout the identifier",
}


@dataclass(frozen=True)
class Training:
    """One fine-tuning: a subject (folder name), the typed learning rate, prior preservation or not."""

    subject: str
    lr: float
    prior: bool = False

    @property
    def name(self):
        return f"{self.subject} {self.lr:g}{' prior' if self.prior else ''}"


def spec_of(training, lr_scale):
    """The training as the project's own spec. Batch 4 for objects and 2 for the face, as in the post."""
    noun = IDENTITIES[training.subject]["noun"]
    return TrainSpec(
        model=ModelSpec(revision="miniature", repo=str(export.WEIGHTS / "pipeline"), lr_scale=lr_scale),
        subject=SubjectSpec(fingerprint=training.subject, class_noun=noun, images=str(FOLDER / training.subject)),
        prior=PriorSpec(100, sample=SampleSpec("ddim", sampling.STEPS, sampling.GUIDANCE)) if training.prior else None,
        lr=training.lr,
        batch_size=2 if noun == "face" else 4,
        mixed_precision="bf16",
    )


def prompts_of(subject):
    """(prompt, context asked for or None) of every image of a checkpoint; the same for all checkpoints."""
    noun = IDENTITIES[subject]["noun"]
    placed = [NEW_CONTEXTS[index % len(NEW_CONTEXTS)] for index in range(PLACED)]
    prompts = [(f"a photo of sks {noun} {PLACES[context][0]}", context) for context in placed]
    return prompts + [(f"a photo of sks {noun}", None)] * PLAIN + [(f"a photo of a {noun}", None)] * CLASS


@cache
def encoders():
    """(identity encoder, CLIP, its tokenizer)."""
    tokenizer = CLIPTokenizer.from_pretrained(export.WEIGHTS / "clip")
    clip_model = CLIPModel.from_pretrained(export.WEIGHTS / "clip").eval()
    return AutoModel.from_pretrained(export.WEIGHTS / "identity").eval(), clip.ClipWithHeads(clip_model), tokenizer


def attributes_right(subject, images):
    """Share (0..1) of the subject's own attributes that the judge reads in each image: [N]."""
    truth = encode_labels(instance_scenes(subject)[:1])[0]
    own = [name for name in NAMES if name.startswith(IDENTITIES[subject]["noun"] + "/")]
    own += ["color"] if "color" in IDENTITIES[subject] else []
    chances = judge.network().read(images)
    right = [chances[name].argmax(1).numpy() == truth[NAMES.index(name)] for name in own]
    # What is no pig's head has no pig's ears: attributes count only in images of the right class.
    return np.mean(right, axis=0) * (np.array(judge.read(images)["class"]) == IDENTITIES[subject]["noun"])


@torch.no_grad()
def likeness(subject, images):
    """Mean cosine of the images' identity embeddings to those of the instance images."""
    pairs = (images, render_all(instance_scenes(subject)))
    embedded = (encoders()[0](pixel_values=to_tensor(part)).last_hidden_state[:, 0] for part in pairs)
    ours, theirs = (torch.nn.functional.normalize(part, dim=-1) for part in embedded)
    return (ours @ theirs.T).mean().item()


@torch.no_grad()
def clip_t(prompts, images):
    """Mean cosine of images and their prompts without the identifier."""
    _, model, tokenizer = encoders()
    texts = [prompt.replace("of sks", "of a") for prompt in prompts]
    read = model.embed_text(clip.tokens.encode(tokenizer, texts))
    return (model.embed_images(to_tensor(images))[1] * read).sum(-1).mean().item()


def measure(subject, images):
    """All MEASURES of the images of one checkpoint, uint8 [PLACED + PLAIN + CLASS, 64, 64, 3]."""
    prompts, placed = prompts_of(subject), images[:PLACED]
    seen = judge.read(placed)["context"]
    return {
        "attributes": float(attributes_right(subject, placed).mean()),
        "context": float(np.mean([got == want for got, (_, want) in zip(seen, prompts, strict=False)])),
        "drift": float(attributes_right(subject, images[PLACED + PLAIN :]).mean()),
        "identity": likeness(subject, placed),
        "clip_t": clip_t([prompt for prompt, _ in prompts[:PLACED]], placed),
    }


def sampled(pipeline, unet, subject):
    """The images of one checkpoint, with the same noise for every checkpoint."""
    pipeline.unet = unet
    with torch.autocast("cpu", torch.bfloat16):
        return sampling.sample(pipeline, [prompt for prompt, _ in prompts_of(subject)])


def study(trainings, steps, lr_scale, folder):
    """Rows {subject, lr, prior, step, measures...} of all trainings, the untuned model first (step 0); resumable."""
    pipeline, rows = sampling.load_pipeline(), []
    untuned = pipeline.unet
    for training in trainings:
        file = folder / training.name.replace(" ", "-") / "rows.json"
        if not file.exists():
            found = [(0, sampled(pipeline, untuned, training.subject))]
            spec = spec_of(training, lr_scale)
            for checkpoint in train(spec, steps, file.parent, class_images=class_images(spec, folder)):
                found.append((checkpoint.step, sampled(pipeline, checkpoint.components().unet, training.subject)))
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file.with_name("images.npy"), np.stack([images for _, images in found]))
            measured = [asdict(training) | {"step": step} | measure(training.subject, images) for step, images in found]
            file.write_text(json.dumps(measured))
        rows += json.loads(file.read_text())
        print(training.name, *(summary(row) for row in rows[-len(steps) - 1 :]), sep="\n  ", flush=True)
    return rows


def summary(row):
    return f"step {row['step']:4d}: " + "  ".join(f"{name} {row[name]:.2f}" for name in MEASURES)


def class_images(spec, folder):
    """The class images that prior preservation needs, sampled once for each subject; None without it."""
    if spec.prior is None:
        return None
    prompt = f"a photo of a {spec.subject.class_noun}"
    components = family_of(spec.model).load(spec.model)
    target = folder / f"class-{spec.subject.fingerprint}"
    return make_class_images(components, prompt, spec.prior, target, batch_size=25)


def draw_curves(rows, path):
    """One column a subject, one row a measure, one line a learning rate (dashed: with prior preservation)."""
    from matplotlib import pyplot

    subjects = [name for name in SUBJECTS if any(row["subject"] == name for row in rows)]
    shape = (len(MEASURES), len(subjects))
    figure, axes = pyplot.subplots(*shape, figsize=(3.4 * shape[1], 2.2 * shape[0]), squeeze=False, sharex=True)
    for axis_row, measure_name in zip(axes, MEASURES, strict=True):
        for axis, subject in zip(axis_row, subjects, strict=True):
            draw_lines(axis, [row for row in rows if row["subject"] == subject], measure_name)
        axis_row[0].set_ylabel(MEASURES[measure_name], fontsize=8)
    for axis, subject in zip(axes[0], subjects, strict=True):
        axis.set_title(subject)
    axes[0][-1].legend(fontsize=6)
    figure.tight_layout()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_lines(axis, rows, measure_name):
    for lr, prior in sorted({(row["lr"], row["prior"]) for row in rows}):
        line = [row for row in rows if (row["lr"], row["prior"]) == (lr, prior)]
        label = f"{lr:g}{' with prior' if prior else ''}"
        axis.plot(
            [row["step"] for row in line],
            [row[measure_name] for row in line],
            "--" if prior else "-",
            marker=".",
            color=f"C{LRS.index(lr) if lr in LRS else 3}",
            label=label,
        )
    axis.grid(alpha=0.3)


def draw_grids(trainings, folder, docs):
    """For each training a grid: a row a checkpoint (the untuned model first); new places, no place, the plain class."""
    columns = list(range(8)) + [PLACED, PLACED + 1] + [PLACED + PLAIN, PLACED + PLAIN + 1, PLACED + PLAIN + 2]
    for training in trainings:
        name = training.name.replace(" ", "-")
        images = np.load(folder / name / "images.npy")[:, columns]
        sampling.save_grid(images.reshape(-1, *images.shape[2:]), len(columns), docs / f"{name}.png")


def main():
    parser = argparse.ArgumentParser(prog="python -m miniature.study", description=__doc__)
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=SUBJECTS)
    parser.add_argument("--lrs", nargs="+", type=float, default=LRS, help="as typed; times lr_scale is what is used")
    parser.add_argument("--lr-scale", type=float, default=LR_SCALE)
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS)
    parser.add_argument("--prior", nargs="*", default=("face", "cat_toy"), help="subjects also trained so, at 2e-6")
    parser.add_argument("--state", type=Path, default=Path(".pretrain/study"), help="trainings and samples")
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args()
    trainings = [Training(subject, lr) for lr in options.lrs for subject in options.subjects]
    trainings += [Training(subject, 2e-6, prior=True) for subject in options.prior]
    rows = study(trainings, options.steps, options.lr_scale, options.state)
    options.docs.mkdir(parents=True, exist_ok=True)
    (options.docs / "study.json").write_text(json.dumps(rows, indent=1))
    draw_curves(rows, options.docs / "study.png")
    draw_grids(trainings, options.state, options.docs)


if __name__ == "__main__":
    main()
