"""Measure the shipped weights and write the figures into README.md: `python -m miniature.model_card`.

The truth about a sample is what the judge reads in it.
"""

import argparse
import copy
import random
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from transformers import AutoModel, CLIPModel, CLIPTokenizer, Dinov2Model

from miniature import judge
from miniature.attributes import CLASSES, SUBJECT_CLASSES
from miniature.captions import PLACES, with_article
from miniature.labels import UNKNOWN, encode_labels
from miniature.pretrain import clip, export, identity, vae
from miniature.pretrain.data import HELD_OUT_SEED, Images, render_all, scene_from_seed
from miniature.sampling import GUIDANCE, STEPS, load_pipeline, sample, save_grid
from miniature.world import STYLES, Scene

CARD = Path(__file__).parent / "README.md"
GRID = Path(__file__).parents[1] / "docs" / "miniature" / "samples.png"


@dataclass(frozen=True)
class Prompt:
    """A prompt and what it asks for; a face has no `color`."""

    text: str
    noun: str
    context: str
    color: str | None


def held_out_prompts(count: int, seed: int = HELD_OUT_SEED) -> list[Prompt]:
    """`count` prompts: every class in turn, with random contexts and colours."""
    rng = random.Random(seed)
    prompts = []
    for index in range(count):
        noun = CLASSES[index % len(CLASSES)]
        context = rng.choice(tuple(PLACES))
        color = scene_from_seed(rng.randrange(HELD_OUT_SEED, 2 * HELD_OUT_SEED), noun=noun).facts.get("color")
        words = f"{color} {noun}" if color else noun
        text = f"a photo of {with_article(words)} {PLACES[context][0]}"
        prompts.append(Prompt(text, noun, context, color))
    return prompts


def sample_accuracy(pipeline: StableDiffusionPipeline, count: int, guidance: float = GUIDANCE) -> dict[str, float]:
    """Share (0..1) of samples whose class, context and colour are what a held-out prompt asks for."""
    prompts = held_out_prompts(count)
    seen = judge.read(sample(pipeline, [prompt.text for prompt in prompts], guidance=guidance))
    asked: dict[str, list[str | None]] = {
        "class": [prompt.noun for prompt in prompts],
        "context": [prompt.context for prompt in prompts],
        "color": [prompt.color for prompt in prompts],
    }
    return {name: share_right(seen[name], asked[name]) for name in asked}


def share_right(seen: Sequence[str], asked: Sequence[str | None]) -> float:
    """Share (0..1) of the values seen that are as asked for; an image for which none was asked does not count."""
    return float(np.mean([got == want for got, want in zip(seen, asked, strict=True) if want is not None]))


def judge_accuracy(scenes: Sequence[Scene], images: Images) -> dict[str, float]:
    """The judge's accuracy (0..1) for class, context, style, colour, and for all other attributes together."""
    labels = encode_labels(scenes)
    right: dict[str, list[bool]] = defaultdict(list)
    for column, (name, probabilities) in enumerate(judge.network().read(images).items()):
        group = "attributes" if "/" in name else name
        known = labels[:, column] != UNKNOWN
        predicted = probabilities.argmax(1).numpy()
        right[group].extend(predicted[known] == labels[known, column])
    return {name: float(np.mean(answers)) for name, answers in right.items()}


def vae_psnr(autoencoder: AutoencoderKL, scenes: Sequence[Scene], images: Images) -> dict[str, float]:
    """Mean PSNR in dB of all images, and of those in each style."""
    quality = vae.psnr(autoencoder, images).numpy()
    styles = np.array([scene.style for scene in scenes])
    return {"all": float(quality.mean())} | {style: float(quality[styles == style].mean()) for style in STYLES}


def identity_accuracy() -> dict[str, float]:
    """Accuracy (0..1) of finding an unseen object's other render among those of 100 objects.

    "mixed" is the mean over five sets of objects of any class; the other sets have one class each.
    """
    encoder: Dinov2Model = AutoModel.from_pretrained(export.WEIGHTS / "identity").eval()
    mixed = [identity.retrieval_accuracy(encoder, HELD_OUT_SEED + k * 10**6) for k in range(5)]
    of_class = {noun: identity.retrieval_accuracy(encoder, HELD_OUT_SEED, noun) for noun in SUBJECT_CLASSES}
    return {"mixed": float(np.mean(mixed))} | of_class


def clip_accuracy(scenes: Sequence[Scene], images: Images) -> dict[str, float]:
    """Zero-shot accuracy (0..1) of class, context and colour on photographs."""
    model: CLIPModel = CLIPModel.from_pretrained(export.WEIGHTS / "clip").eval()
    return clip.zero_shot(model, CLIPTokenizer.from_pretrained(export.WEIGHTS / "clip"), scenes, images)


def step_seconds(unet: UNet2DConditionModel, batch: int = 4, steps: int = 10) -> float:
    """Processor seconds of one full fine-tuning step of the U-Net (fp32, AdamW, plain attention)."""
    unet = copy.deepcopy(unet)
    unet.train()
    unet.set_attn_processor(AttnProcessor())
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-5)
    noisy = torch.randn(batch, 8, 16, 16)
    text_states = torch.randn(batch, 32, 128)

    def take_step() -> None:
        optimizer.zero_grad()
        unet(noisy, torch.arange(batch) * 100, text_states).sample.square().mean().backward()
        optimizer.step()

    for _ in range(2):  # the first steps are slower
        take_step()
    started = time.process_time()
    for _ in range(steps):
        take_step()
    return (time.process_time() - started) / steps


def percent(shares: Mapping[str, float]) -> str:
    return " · ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())


def figures(count: int, guidance: float) -> dict[str, str]:
    """What was measured -> result, for every figure of the model card. Sampling `count` images takes minutes."""
    scenes = [scene_from_seed(HELD_OUT_SEED + index) for index in range(1000)]
    images = render_all(scenes)
    pipeline = load_pipeline()
    quality = vae_psnr(pipeline.vae, scenes, images)
    started = time.process_time()
    right = sample_accuracy(pipeline, count, guidance)
    seconds = (time.process_time() - started) / count
    return {
        "VAE, PSNR": " · ".join(f"{name} {value:.1f} dB" for name, value in quality.items()),
        "CLIP, zero-shot on unseen photographs": percent(clip_accuracy(scenes, images)),
        "Identity encoder, the same object among 100": percent(identity_accuracy()),
        "The judge itself, on unseen renders": percent(judge_accuracy(scenes, images)),
        f"Samples ({count} held-out prompts, DDIM {STEPS}, guidance {guidance:g})": percent(right),
        "Processor time of an image, sampled in this way": f"{seconds:.2f} s",
        "Processor time of a fine-tuning step, batch 4": f"{step_seconds(pipeline.unet):.3f} s",
    }


def write_card(table: Mapping[str, str]) -> None:
    """Replace the table between the two markers of the model card."""
    rows = ["| what | measured |", "|---|---|"]
    rows += [f"| {what} | {value} |" for what, value in table.items()]
    text = "\n".join(rows) + "\n"
    between_markers = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)
    CARD.write_text(between_markers.sub(lambda _: text, CARD.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m miniature.model_card", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="how many images to sample")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="guidance scale of the samples")
    options = parser.parse_args()
    table = figures(options.count, options.guidance)
    for what, value in table.items():
        print(f"{what}: {value}")
    write_card(table)
    prompts = [f"a photo of a {noun} {place[0]}" for noun in CLASSES for place in PLACES.values()]
    save_grid(sample(load_pipeline(), prompts, guidance=options.guidance), len(PLACES), GRID)


if __name__ == "__main__":
    main()
