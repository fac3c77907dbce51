"""Build the whole miniature from nothing: `python -m miniature.pretrain`. Interrupted, it goes on where it was."""

import argparse
import math
from pathlib import Path

import torch

from miniature import subjects
from miniature.pretrain import classifier, clip, export, identity, unet, vae
from miniature.pretrain.data import cached_renders, scene_from_seed

SCENES, IDENTITIES = 40_000, 8_000
STEPS = {"vae": 10_000, "clip-vision": 1500, "clip": 4200, "clip-polish": 3000, "identity": 3000, "judge": 7000}
UNET_STEPS = 4000
PARTS = ("vae", "clip", "identity", "judge", "unet")


def parse():
    parser = argparse.ArgumentParser(prog="python -m miniature.pretrain", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".pretrain"), help="checkpoints and cached renders")
    parser.add_argument("--weights", type=Path, default=export.WEIGHTS, help="where the finished parts go")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to train; the U-Net comes last")
    parser.add_argument("--unet-steps", type=int, default=UNET_STEPS, help="batches of 64 that the U-Net sees")
    parser.add_argument("--scale", type=float, default=1.0, help="of all steps and scenes; 0.002 to see that it runs")
    return parser.parse_args()


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    state, parts = options.state, options.parts
    state.mkdir(parents=True, exist_ok=True)
    subjects.write_instances()
    scenes = [scene_from_seed(seed) for seed in range(max(1000, round(options.scale * SCENES)))]
    images = cached_renders(scenes, state / f"scenes-{len(scenes)}.npy")
    steps = {part: math.ceil(options.scale * count) for part, count in STEPS.items()}
    if "identity" in parts:
        identities = max(500, round(options.scale * IDENTITIES))
        export.export_identity(identity.train(state, identities, steps["identity"]), options.weights / "identity")
    if "judge" in parts:
        classifier.save(classifier.train(scenes, images, state, steps["judge"]), options.weights / "judge")
    if "vae" in parts or "unet" in parts:
        autoencoder = vae.train(images, state, steps["vae"])
    if "clip" in parts or "unet" in parts:
        phases = (steps[name] for name in ("clip-vision", "clip", "clip-polish"))
        towers, tokenizer = clip.train(scenes, images, state, *phases)
        export.export_clip(towers, tokenizer, options.weights / "clip")
    if "unet" in parts:
        latents = unet.cached_latents(autoencoder, images, state)
        text_encoder = export.text_encoder_of(towers)
        unet_steps = math.ceil(options.scale * options.unet_steps)
        denoiser = unet.train(scenes, latents, text_encoder, tokenizer, state, unet_steps)
        export.export_pipeline(autoencoder, towers, tokenizer, denoiser, options.weights / "pipeline")


if __name__ == "__main__":
    main()
