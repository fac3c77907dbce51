"""Image and text features: a CLIP and a DINO-like encoder, each loaded once per process.

Any folder or hub repository in transformers' format serves: openai/clip-vit-base-patch32 and
-large-patch14, facebook/dino-vits16, DINOv2 with or without registers, the miniature's own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, CLIPModel, CLIPTokenizer
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging

from evaluation.backbones import CLIP, DINO
from evaluation.metrics import Images
from trainers.batches import in_batches
from trainers.errors import SpecError
from trainers.hub import Reads, Repository, fetch

BATCH = 32  # images encoded at once


def encode(pixels: np.ndarray, clip: "ClipEncoder", dino: "DinoEncoder") -> Images:
    """Features of uint8 images [..., H, W, 3]."""
    flat = pixels.reshape(-1, *pixels.shape[-3:])
    arrays = (clip.images(flat), *dino.images(flat))
    return Images(pixels, *(a.reshape(pixels.shape[:-3] + a.shape[1:]) for a in arrays))


class ClipEncoder:
    """A CLIP model; images are squares."""

    def __init__(self, folder: str, device: torch.device | str = "cpu"):
        with loading(folder):
            self.model = load(CLIPModel, folder).to(device)
            self.tokenizer = CLIPTokenizer.from_pretrained(folder)
            self.processor = image_processor(folder)
        self.device = device

    @torch.inference_mode()
    def images(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] -> unit features [N, D]."""

        def features(x: torch.Tensor) -> torch.Tensor:
            given: torch.Tensor = self.model.get_image_features(pixel_values=x).pooler_output
            return given

        return unit(encoded(self.processor, pixels, self.device, features))

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit features [N, D]; what is longer than the model's context is cut."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        return unit([self.model.get_text_features(**tokens.to(self.device)).pooler_output])


class DinoEncoder:
    """A vision transformer whose class token is an image's feature."""

    def __init__(self, folder: str, device: torch.device | str = "cpu"):
        with loading(folder):
            self.model = load(AutoModel, folder).to(device)
            self.processor = image_processor(folder)
        self.first_patch = 1 + getattr(self.model.config, "num_register_tokens", 0)
        self.device = device

    @torch.inference_mode()
    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, H, W, 3] -> unit class tokens [N, D] and unit patch tokens [N, T, D]."""

        def states(x: torch.Tensor) -> torch.Tensor:
            given: torch.Tensor = self.model(pixel_values=x).last_hidden_state
            return given

        hidden = encoded(self.processor, pixels, self.device, states)
        return unit([h[:, 0] for h in hidden]), unit([h[:, self.first_patch :] for h in hidden])


@cache
def clip_encoder(repo: str, identity: str, device: str) -> ClipEncoder:
    """`identity` as in `EvalSpec.clip`: what follows an @ is the revision of a hub repository."""
    return ClipEncoder(folder_of(repo, identity, CLIP), device)


@cache
def dino_encoder(repo: str, identity: str, device: str) -> DinoEncoder:
    return DinoEncoder(folder_of(repo, identity, DINO), device)


def folder_of(repo: str, identity: str, reads: Reads) -> str:
    """The folder of an encoder; what is on the hub only is downloaded. Raises SpecError."""
    if Path(repo).is_dir():
        return repo
    return str(fetch(Repository(repo, identity.partition("@")[2] or "main", reads)))


@contextmanager
def loading(folder: str) -> Iterator[None]:
    """Keeps transformers quiet and the global random numbers as they are: heads that a checkpoint lacks draw some."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except OSError as error:
        raise SpecError(
            f"{folder} is no folder with the weights of an encoder: set evaluation.clip and evaluation.dino "
            f"({str(error).splitlines()[0]})"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def load(kind: Any, folder: str) -> Any:
    """Safetensors. The standard encoders are older and on the hub as pickled tensors only: where there is nothing else,
    those are read by an unpickler that knows tensors alone (weights_only). Raises UnpicklingError for all else."""
    model = kind.from_pretrained(folder, dtype=torch.float32, weights_only=True)
    return model.eval().requires_grad_(False)


def image_processor(folder: str) -> CLIPImageProcessorPil:
    """The encoder's preprocessing. Where its config says nothing of a crop (DINO's) the square is resized to `size`,
    as ViTImageProcessor does; CLIP's processor would crop to 224."""
    config, _ = ImageProcessingMixin.get_image_processor_dict(folder)
    config = {name: config[name] for name in PREPROCESSING if name in config}
    if not config.get("do_center_crop", "crop_size" in config):
        side = config["size"]
        size = side if isinstance(side, dict) else {"height": side, "width": side}
        config.update(size=size, do_center_crop=False)
    return CLIPImageProcessorPil(**config)


PREPROCESSING = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
                 "do_normalize", "image_mean", "image_std")  # fmt: skip


def encoded(
    processor: CLIPImageProcessorPil,
    pixels: np.ndarray,
    device: torch.device | str,
    encode: Callable[[torch.Tensor], torch.Tensor],
) -> list[torch.Tensor]:
    """What `encode` makes of preprocessed images, in batches that fit the device."""

    def work(part: Sequence[int]) -> torch.Tensor:
        images = [pixels[index] for index in part]
        batch = processor(images, input_data_format="channels_last", return_tensors="pt")
        return encode(batch["pixel_values"].to(device))

    return list(in_batches(range(len(pixels)), BATCH, ("encoder", str(device)), work))


def unit(tensors: list[torch.Tensor]) -> np.ndarray:
    """Concatenated and scaled to unit length; a zero vector stays zero."""
    return torch.nn.functional.normalize(torch.cat(tensors).float(), dim=-1).cpu().numpy()
