"""Does the sweet spot pick what the truth would? On the miniature the truth is known: a classifier trained on renders
reads from samples whether the subject's attributes are kept, the place is the one asked for, the class is still itself.

    python benchmarks/sweetspot_validation.py            # trains, samples and judges; resumable; writes the table

Compared with what people do: the last checkpoint, the lowest validation loss, the best CLIP-I, the best CLIP-T, and
DVAR's stop (Voronov et al., arXiv:2302.04841), each on every curve, that is one training. The truth is measured on
images of its own, of other prompts and noise than those that the sweet spot sees.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import yaml

from evaluation.evaluate import evaluate, prepare
from evaluation.sample import read_images, sample_images
from evaluation.spec import EvalSpec
from evaluation.sweetspot import Candidate, find
from miniature import judge
from miniature.captions import PLACES
from miniature.study import attributes_right
from miniature.subjects import FOLDER, IDENTITIES, NEW_CONTEXTS, SUBJECTS
from trainers.families import family_of
from trainers.files import read_json, write_json
from trainers.images import fingerprint
from trainers.loop import train
from trainers.prior import make_class_images
from trainers.prompts import subject_words
from trainers.spec import ModelSpec, PriorSpec, SampleSpec, SubjectSpec, TrainSpec

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "miniature" / "weights"
MODEL = ROOT / "conf" / "model" / "miniature.yaml"
PLACED, CLASS, TRUTH_SEED = 4, 8, 1000  # images a new place, images of the plain class prompt, their noise
SAMPLING = SampleSpec("dpm", inference_steps=12, guidance_scale=5.0, precision="bf16")


PRIOR = PriorSpec(num_class_images=32, sample=SAMPLING)
RECIPES = {  # the first overfits soon; the second is asked to keep the class, so the truth asks it too
    "text": {"lr": 5e-6, "train_text_encoder": True},
    "prior": {"lr": 5e-6, "prior": PRIOR},
}


@dataclass(frozen=True)
class Curve:
    subject: str
    recipe: str  # of RECIPES
    seed: int

    @property
    def name(self) -> str:
        return f"{self.subject}-{self.recipe}-{self.seed}"


def spec_of(curve: Curve, pipeline: Path, lr_scale: float) -> TrainSpec:
    noun = IDENTITIES[curve.subject]["noun"]
    images = FOLDER / curve.subject
    model = ModelSpec(revision="miniature", repo=str(pipeline))
    words = {"instance_prompt": f"a photo of sks {noun}", "class_prompt": f"a photo of a {noun}"}
    subject = SubjectSpec(fingerprint(images), noun, images=str(images), **words)
    return TrainSpec(model, subject, seed=curve.seed, batch_size=2, lr_scale=lr_scale, **RECIPES[curve.recipe])


def quick() -> EvalSpec:
    """conf/evaluation/quick.yaml with the miniature's encoders."""
    config = yaml.safe_load((ROOT / "conf" / "evaluation" / "quick.yaml").read_text())
    counts = {name: config[name] for name in ("images_per_prompt", "class_images", "seed")}
    encoders = {"clip_repo": str(WEIGHTS / "clip"), "dino_repo": str(WEIGHTS / "identity")}
    return EvalSpec(
        tuple(config["prompts_by_kind"]["object"]), clip="miniature", dino="miniature", **counts, **encoders
    )


# --- measuring ---------------------------------------------------------------------------------------------------


def truth(components, curve: Curve, words: str, folder: Path) -> dict[str, float]:
    """Shares 0..1 on images of their own: subject's attributes right, asked-for place right, class turned into it."""
    noun = IDENTITIES[curve.subject]["noun"]
    prompts = [f"a photo of {{}} {PLACES[context][0]}" for context in NEW_CONTEXTS]
    placed = sample_images(components, SAMPLING, words, prompts, PLACED, TRUTH_SEED, folder / "placed")
    placed = read_images(placed, len(prompts), PLACED).reshape(-1, 64, 64, 3)
    plain = sample_images(components, SAMPLING, "", [f"a photo of a {noun}"], CLASS, TRUTH_SEED, folder / "plain")
    plain = read_images(plain, 1, CLASS)[0]
    right = np.array(judge.read(placed)["context"]) == np.repeat(NEW_CONTEXTS, PLACED)
    return {
        "subject": float(attributes_right(curve.subject, placed).mean()),
        "place": float(right.mean()),
        "drift": float(attributes_right(curve.subject, plain).mean()),
    }


def measure(curve: Curve, pipeline: Path, steps: list[int], lr_scale: float, state: Path) -> dict:
    """Everything about one curve, from its file where it is done: steps, scorecards, truths and the untuned model's."""
    file = state / curve.name / "measured.json"
    if file.exists():
        return read_json(file)
    spec = spec_of(curve, pipeline, lr_scale)
    evaluation = quick()
    judged = (spec.subject, SAMPLING, evaluation)
    untuned = family_of(spec.model).load(spec.model)
    noun = spec.subject.class_noun
    folder = state / f"untuned-{curve.subject}"
    reference, baselines = prepare(untuned, *judged, folder)
    found = {"untuned": truth(untuned, curve, f"a {noun}", folder), "cards": [], "truths": []}
    class_images = None
    if spec.prior:
        class_images = make_class_images(
            untuned, spec.subject.class_prompt, spec.prior, state / f"class-{curve.subject}", batch_size=16
        )
    for checkpoint in train(spec, steps, file.parent, class_images=class_images, cache=state / "cache"):
        components = checkpoint.components()
        folder = file.parent / f"{checkpoint.step:06d}"
        found["cards"].append(evaluate(components, *judged, reference, folder).to_json())
        found["truths"].append(truth(components, curve, subject_words("sks", noun), folder))
    found |= {"steps": steps, "baselines": baselines.to_json()}
    write_json(file, found)
    shutil.rmtree(file.parent / "checkpoints")
    shutil.rmtree(file.parent / "state")
    return found


# --- choosing ----------------------------------------------------------------------------------------------------


def goodness(curve: Curve, measured: dict) -> np.ndarray:
    """How good each checkpoint of a curve truly is, 0..1: harmonic mean of the subject's attributes gained over the
    untuned model, the place, and, where it was asked for, the class kept."""
    before = measured["untuned"]
    parts = [
        [(truth["subject"] - before["subject"]) / (1 - before["subject"]) for truth in measured["truths"]],
        [truth["place"] for truth in measured["truths"]],
    ]
    if RECIPES[curve.recipe].get("prior"):
        parts.append([1 - (t["drift"] - before["drift"]) / (1 - before["drift"]) for t in measured["truths"]])
    return len(parts) / (1 / np.clip(parts, 1e-3, 1)).sum(0)


def metric(measured: dict, name: str) -> np.ndarray:
    return np.array([card["metrics"][name] for card in measured["cards"]])


def dvar(measured: dict) -> int:
    """The first checkpoint where the frozen loss has settled: variance of the last three under 0.15 of all so far."""
    loss = metric(measured, "validation_loss")
    settled = (i for i in range(3, len(loss)) if loss[i - 2 : i + 1].var() < 0.15 * loss[: i + 1].var())
    return next(settled, len(loss) - 1)


def by_sweet_spot(curve: Curve, measured: dict) -> int:
    """Where none is found, the checkpoint of the best score, which is what a user would turn to."""
    lr = RECIPES[curve.recipe]["lr"]
    candidates = [
        Candidate(str(step), curve.name, curve.name, step, lr, words=f"step {step}") for step in measured["steps"]
    ]
    spot = find(candidates, measured["cards"], [measured["baselines"]] * len(candidates))
    print(f"{curve.name}: {spot.verdict}. {spot.reason} {spot.suggestion}")
    return spot.best if spot.found else int(np.nanargmax(spot.score))


PLAIN = {
    "last checkpoint": lambda m: len(m["steps"]) - 1,
    "lowest validation loss": lambda m: int(metric(m, "validation_loss").argmin()),
    "best CLIP-I": lambda m: int(metric(m, "clip_i").argmax()),
    "best DINO": lambda m: int(metric(m, "dino").argmax()),
    "best CLIP-T": lambda m: int(metric(m, "clip_t").argmax()),
    "DVAR's stop": dvar,
}


def compare(curves: dict[Curve, dict]) -> dict[str, dict[str, float]]:
    """For each way of choosing on one curve: how often within one checkpoint of the truth's choice, and the regret."""
    picks = {name: [choose(m) for m in curves.values()] for name, choose in PLAIN.items()}
    picks["sweet spot"] = [by_sweet_spot(c, m) for c, m in curves.items()]
    truths = [goodness(c, m) for c, m in curves.items()]
    table = {}
    for name, chosen in picks.items():
        regret = np.array([good.max() - good[i] for good, i in zip(truths, chosen, strict=True)])
        near = np.mean([abs(good.argmax() - i) <= 1 for good, i in zip(truths, chosen, strict=True)])
        table[name] = {"near": float(near), "regret": float(regret.mean())} | bounds(regret, list(curves))
    return table


def bounds(regret: np.ndarray, curves: list[Curve]) -> dict[str, float]:
    """95 % of the mean regret, subjects and seeds resampled as blocks of their recipes."""
    blocks: dict[tuple[str, int], list[int]] = {}
    for i, curve in enumerate(curves):
        blocks.setdefault((curve.subject, curve.seed), []).append(i)
    means = np.array([regret[block].mean() for block in blocks.values()])
    drawn = np.random.default_rng(0).choice(means, (2000, len(means))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=SUBJECTS)
    parser.add_argument("--recipes", nargs="+", default=tuple(RECIPES), choices=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--steps", nargs="+", type=int, default=(12, 25, 50, 100, 150, 200))
    parser.add_argument("--lr-scale", type=float, default=yaml.safe_load(MODEL.read_text())["lr_scale"])
    parser.add_argument("--pipeline", type=Path, default=WEIGHTS / "pipeline")
    parser.add_argument("--state", type=Path, default=ROOT / "outputs" / "validation")
    options = parser.parse_args()
    curves = {}
    for seed, recipe, subject in product(options.seeds, options.recipes, options.subjects):
        curve = Curve(subject, recipe, seed)
        curves[curve] = measure(curve, options.pipeline, list(options.steps), options.lr_scale, options.state)
        print(curve.name, *(f"{good:.2f}" for good in goodness(curve, curves[curve])), flush=True)
    table = compare(curves)
    for name, row in sorted(table.items(), key=lambda item: item[1]["regret"]):
        regret = "{regret:.3f} [{low:.3f}, {high:.3f}]".format(**row)
        print(f"{name:24} within one checkpoint {row['near']:4.0%}   regret {regret}")
    (options.state / "table.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
