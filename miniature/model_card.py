"""How good the shipped weights are, by the ground truth: `python -m miniature.model_card` writes it into README.md.

Samples are read by the judge, a classifier trained on renders alone, which shares nothing with the U-Net's text tower.
"""

import argparse
import copy
import random
import re
import time
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from transformers import AutoModel, CLIPModel, CLIPTokenizer

from miniature import judge
from miniature.attributes import CLASSES, SUBJECT_CLASSES
from miniature.captions import PLACES
from miniature.labels import encode_labels
from miniature.pretrain import clip, export, identity, vae
from miniature.pretrain.data import HELD_OUT_SEED, render_all, scene_from_seed
from miniature.sampling import GUIDANCE, STEPS, load_pipeline, sample, save_grid
from miniature.world import STYLES

CARD = Path(__file__).parent / "README.md"
GRID = Path(__file__).parents[1] / "docs" / "miniature" / "samples.png"


def held_out_prompts(count, seed=HELD_OUT_SEED):
    """`count` (prompt, class, context, colour or None): every class in turn, contexts and colours at random."""
    rng, prompts = random.Random(seed), []
    for index in range(count):
        noun = CLASSES[index % len(CLASSES)]
        context = rng.choice(tuple(PLACES))
        color = scene_from_seed(rng.randrange(HELD_OUT_SEED, 2 * HELD_OUT_SEED), noun=noun).facts.get("color")
        words = f"{color} {noun}" if color else noun
        article = "an" if words[0] in "aeiou" else "a"
        prompts.append((f"a photo of {article} {words} {PLACES[context][0]}", noun, context, color))
    return prompts


def sample_accuracy(pipeline, count, **sampling):
    """Share (0..1) of samples from held-out prompts whose class, context and named colour are right."""
    prompts = held_out_prompts(count)
    seen = judge.read(sample(pipeline, [prompt for prompt, *_ in prompts], **sampling))
    asked = {"class": [p[1] for p in prompts], "context": [p[2] for p in prompts], "color": [p[3] for p in prompts]}
    return {
        name: float(np.mean([got == want for got, want in zip(seen[name], wanted, strict=True) if want is not None]))
        for name, wanted in asked.items()
    }


def judge_accuracy(scenes, images):
    """Share (0..1) right on unseen renders: class, context, style, colour and all other attributes together."""
    seen, truth = judge.network().read(images), encode_labels(scenes)
    right = {}
    for column, (name, chances) in enumerate(seen.items()):
        known = truth[:, column] >= 0
        group = name if "/" not in name else "attributes"
        right.setdefault(group, []).extend(chances.argmax(1).numpy()[known] == truth[known, column])
    return {name: float(np.mean(values)) for name, values in right.items()}


def vae_psnr(autoencoder, scenes, images):
    """Mean PSNR in dB of all, and of each style."""
    quality, styles = vae.psnr(autoencoder, images).numpy(), np.array([scene.style for scene in scenes])
    return {"all": quality.mean()} | {style: quality[styles == style].mean() for style in STYLES}


def identity_accuracy(count=100):
    """Nearest-neighbour accuracy (0..1) among `count` unseen objects: of all classes mixed, and of one class each."""
    encoder = AutoModel.from_pretrained(export.WEIGHTS / "identity").eval()
    figures = {"mixed": np.mean([identity.nearest_is_same(encoder, HELD_OUT_SEED + k * 10**6) for k in range(5)])}
    return figures | {noun: identity.nearest_is_same(encoder, HELD_OUT_SEED, noun, count) for noun in SUBJECT_CLASSES}


def clip_accuracy(scenes, images):
    """Zero-shot accuracy (0..1) of class, context and colour on unseen photographs."""
    model = CLIPModel.from_pretrained(export.WEIGHTS / "clip").eval()
    return clip.zero_shot(model, CLIPTokenizer.from_pretrained(export.WEIGHTS / "clip"), scenes, images)


def step_seconds(unet, batch=4, steps=10):
    """Processor seconds of one full fine-tuning step of the U-Net (fp32, AdamW, eager attention)."""
    unet = copy.deepcopy(unet).train()
    unet.set_attn_processor(AttnProcessor())
    optimizer, started = torch.optim.AdamW(unet.parameters(), 1e-5), None
    noisy, text = torch.randn(batch, 8, 16, 16), torch.randn(batch, 32, 128)
    for step in range(steps + 2):
        if step == 2:
            started = time.process_time()
        optimizer.zero_grad()
        unet(noisy, torch.arange(batch) * 100, text).sample.square().mean().backward()
        optimizer.step()
    return (time.process_time() - started) / steps


def percent(figures):
    return " · ".join(f"{name} {100 * value:.1f} %" for name, value in figures.items())


def figures(count, guidance):
    """Every figure of the model card: what -> text. The slowest part is sampling (minutes)."""
    scenes = [scene_from_seed(HELD_OUT_SEED + index) for index in range(1000)]
    images, pipeline = render_all(scenes), load_pipeline()
    quality = vae_psnr(pipeline.vae, scenes, images)
    started = time.process_time()
    right = sample_accuracy(pipeline, count, guidance=guidance)
    seconds = (time.process_time() - started) / count
    return {
        "VAE, PSNR": " · ".join(f"{name} {value:.1f} dB" for name, value in quality.items()),
        "CLIP, zero-shot on unseen photographs": percent(clip_accuracy(scenes, images)),
        "Identity, the same object among 100": percent(identity_accuracy()),
        "The judge itself, on unseen renders": percent(judge_accuracy(scenes, images)),
        f"Samples ({count} held-out prompts, DDIM {STEPS}, guidance {guidance:g})": percent(right),
        "Processor time of an image, so sampled": f"{seconds:.2f} s",
        "Processor time of a fine-tuning step, batch 4": f"{step_seconds(pipeline.unet):.3f} s",
    }


def write_card(table):
    """Replace the figures between the markers of the model card."""
    rows = "\n".join(["| what | measured |", "|---|---|"] + [f"| {what} | {value} |" for what, value in table.items()])
    marked = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)
    CARD.write_text(marked.sub(lambda _: rows + "\n", CARD.read_text()))


def main():
    parser = argparse.ArgumentParser(prog="python -m miniature.model_card", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="images to sample")
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    options = parser.parse_args()
    table = figures(options.count, options.guidance)
    for what, value in table.items():
        print(f"{what}: {value}")
    write_card(table)
    prompts = [f"a photo of a {noun} {place[0]}" for noun in CLASSES for place in PLACES.values()]
    save_grid(sample(load_pipeline(), prompts, guidance=options.guidance), len(PLACES), GRID)


if __name__ == "__main__":
    main()
