"""Image and text features: a CLIP and a DINO-like encoder, each loaded once per process.

Any folder or hub repository in transformers' format serves: openai/clip-vit-base-patch32 and
-large-patch14, facebook/dino-vits16, DINOv2 with or without registers, the miniature's own.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, CLIPModel, CLIPTokenizer
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging

from evaluation.metrics import Images
from trainers.errors import SpecError

BATCH = 32  # images encoded at once


def encode(pixels: np.ndarray, clip: "ClipEncoder", dino: "DinoEncoder") -> Images:
    """Features of uint8 images [..., H, W, 3]."""
    flat = pixels.reshape(-1, *pixels.shape[-3:])
    arrays = (clip.images(flat), *dino.images(flat))
    return Images(pixels, *(a.reshape(pixels.shape[:-3] + a.shape[1:]) for a in arrays))


class ClipEncoder:
    """A CLIP model; images are squares."""

    def __init__(self, repo: str, revision: str | None = None, device: torch.device | str = "cpu"):
        with loading(repo):
            self.model = load(CLIPModel, repo, revision).to(device)
            self.tokenizer = CLIPTokenizer.from_pretrained(repo, revision=revision or "main")
            self.processor = image_processor(repo, revision)
        self.device = device

    @torch.inference_mode()
    def images(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] -> unit features [N, D]."""
        batches = preprocessed(self.processor, pixels, self.device)
        return unit([self.model.get_image_features(pixel_values=x).pooler_output for x in batches])

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit features [N, D]; what is longer than the model's context is cut."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        return unit([self.model.get_text_features(**tokens.to(self.device)).pooler_output])


class DinoEncoder:
    """A vision transformer whose class token is an image's feature."""

    def __init__(self, repo: str, revision: str | None = None, device: torch.device | str = "cpu"):
        with loading(repo):
            self.model = load(AutoModel, repo, revision).to(device)
            self.processor = image_processor(repo, revision)
        self.first_patch = 1 + getattr(self.model.config, "num_register_tokens", 0)
        self.device = device

    @torch.inference_mode()
    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, H, W, 3] -> unit class tokens [N, D] and unit patch tokens [N, T, D]."""
        batches = preprocessed(self.processor, pixels, self.device)
        hidden = [self.model(pixel_values=x).last_hidden_state for x in batches]
        return unit([h[:, 0] for h in hidden]), unit([h[:, self.first_patch :] for h in hidden])


@cache
def clip_encoder(repo: str, identity: str, device: str) -> ClipEncoder:
    """`identity` as in `EvalSpec.clip`: what follows an @ is the revision of a hub repository."""
    return ClipEncoder(repo, revision_of(identity), device)


@cache
def dino_encoder(repo: str, identity: str, device: str) -> DinoEncoder:
    return DinoEncoder(repo, revision_of(identity), device)


def revision_of(identity: str) -> str | None:
    return identity.partition("@")[2] or None


@contextmanager
def loading(repo: str) -> Iterator[None]:
    """Keeps transformers quiet and the global random numbers as they are: heads that a checkpoint lacks draw some."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except OSError as error:
        raise SpecError(
            f"encoder {repo} is no folder with weights, and none in the local cache of the hub or to be "
            f"downloaded: set evaluation.clip and evaluation.dino to folders ({str(error).splitlines()[0]})"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def load(kind: Any, repo: str, revision: str | None) -> Any:
    """Safetensors. The standard encoders are older and on the hub as pickled tensors only: where there is nothing else,
    those are read by an unpickler that knows tensors alone (weights_only). Raises UnpicklingError for all else."""
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "true")  # no requests for a converted copy
    model = kind.from_pretrained(repo, revision=revision, dtype=torch.float32, weights_only=True)
    return model.eval().requires_grad_(False)


def image_processor(repo: str, revision: str | None) -> CLIPImageProcessorPil:
    """The repository's preprocessing. Where its config says nothing of a crop (DINO's) the square is resized to `size`,
    as ViTImageProcessor does; CLIP's processor would crop to 224."""
    config, _ = ImageProcessingMixin.get_image_processor_dict(repo, revision=revision)
    config = {name: config[name] for name in PREPROCESSING if name in config}
    if not config.get("do_center_crop", "crop_size" in config):
        side = config["size"]
        size = side if isinstance(side, dict) else {"height": side, "width": side}
        config.update(size=size, do_center_crop=False)
    return CLIPImageProcessorPil(**config)


PREPROCESSING = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
                 "do_normalize", "image_mean", "image_std")  # fmt: skip


def preprocessed(
    processor: CLIPImageProcessorPil, pixels: np.ndarray, device: torch.device | str
) -> Iterator[torch.Tensor]:
    for start in range(0, len(pixels), BATCH):
        images = list(pixels[start : start + BATCH])
        batch = processor(images, input_data_format="channels_last", return_tensors="pt")
        yield batch["pixel_values"].to(device)


def unit(tensors: list[torch.Tensor]) -> np.ndarray:
    """Concatenated and scaled to unit length; a zero vector stays zero."""
    return torch.nn.functional.normalize(torch.cat(tensors).float(), dim=-1).cpu().numpy()
