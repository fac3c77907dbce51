"""Train the whole miniature from nothing: `python -m miniature.pretrain`. If interrupted, it resumes."""

import argparse
import math
from pathlib import Path

import torch

from miniature import subjects
from miniature.pretrain import classifier, clip, export, identity, unet, vae
from miniature.pretrain.data import cached_renders, scene_from_seed

SCENES = 40_000
IDENTITIES = 8_000
STEPS = {"vae": 10_000, "clip-vision": 1500, "clip": 4200, "clip-polish": 3000, "identity": 3000, "judge": 7000}
UNET_STEPS = 4000
PARTS = ("vae", "clip", "identity", "judge", "unet")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m miniature.pretrain", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".pretrain"), help="checkpoints and cached renders")
    parser.add_argument("--weights", type=Path, default=export.WEIGHTS, help="where the finished parts go")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what to train; the U-Net needs the VAE and CLIP first"
    )
    parser.add_argument("--unet-steps", type=int, default=UNET_STEPS, help="batches of 64 that the U-Net sees")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies all numbers of steps and scenes; 0.002 for a quick trial"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    state: Path = options.state
    weights: Path = options.weights
    parts: list[str] = options.parts
    state.mkdir(parents=True, exist_ok=True)
    subjects.write_instances()
    scenes = [scene_from_seed(seed) for seed in range(max(1000, round(options.scale * SCENES)))]
    images = cached_renders(scenes, state / f"scenes-{len(scenes)}.npy")
    steps = {part: math.ceil(options.scale * count) for part, count in STEPS.items()}
    if "identity" in parts:
        identities = max(500, round(options.scale * IDENTITIES))
        encoder = identity.train(state, identities, steps["identity"])
        export.export_identity(encoder, weights / "identity")
    if "judge" in parts:
        judge = classifier.train(scenes, images, state, steps["judge"])
        classifier.save(judge, weights / "judge")
    if "vae" in parts or "unet" in parts:
        autoencoder = vae.train(images, state, steps["vae"])
    if "clip" in parts or "unet" in parts:
        clip_model, tokenizer = clip.train(
            scenes, images, state, steps["clip-vision"], steps["clip"], steps["clip-polish"]
        )
        export.export_clip(clip_model, tokenizer, weights / "clip")
    if "unet" in parts:
        latents = unet.cached_latents(autoencoder, images, state)
        text_encoder = export.text_encoder_of(clip_model)
        unet_steps = math.ceil(options.scale * options.unet_steps)
        denoiser = unet.train(scenes, latents, text_encoder, tokenizer, state, unet_steps)
        export.export_pipeline(autoencoder, clip_model, tokenizer, denoiser, weights / "pipeline")


if __name__ == "__main__":
    main()
