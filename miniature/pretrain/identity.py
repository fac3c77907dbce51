"""The identity encoder, which takes DINO's place: two renders of one object get similar embeddings in any context."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import Dinov2Config, Dinov2Model

from miniature.attributes import CLASSES
from miniature.contexts import CONTEXTS
from miniature.labels import Heads, encode_labels, heads_loss
from miniature.pretrain.data import Images, cached_renders, render_all, scene_from_seed, to_tensor
from miniature.pretrain.loop import default_device, fit, on_device
from miniature.pretrain.vision import ATTENTION, sincos_positions
from miniature.world import Scene, sample_pose

WIDTH = 128
VIEWS = 4
"""Renders of each object."""
TEMPERATURE = 0.1
IDENTITY_SEED = 5 * 10**8
"""The training objects' seeds start here, far from those of the other parts and from the held-out ones."""
GROUP = 8
"""A batch has two groups of this many objects of one class, and as many of any class."""


def build() -> Dinov2Model:
    """An untrained Dinov2Model (0.8 M parameters)."""
    config = Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        mlp_ratio=4,
        image_size=64,
        patch_size=8,
        initializer_range=0.06,
        use_mask_token=False,
    )
    model: Dinov2Model = Dinov2Model._from_config(config, attn_implementation=ATTENTION)
    model.embeddings.position_embeddings.data.copy_(sincos_positions(8, WIDTH)[None])
    return model


def embed(encoder: Dinov2Model, pixels: Tensor) -> Tensor:
    """Embeddings [B, width] of pixels [B, 3, 64, 64] in -1..1: the class token's output, as with DINO."""
    embeddings: Tensor = encoder(pixel_values=pixels).last_hidden_state[:, 0]
    return embeddings


class IdentityWithHeads(torch.nn.Module):
    """The encoder, and classifiers on its embeddings that make it learn the attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = build()
        self.heads = Heads(WIDTH)


def views(seed: int, count: int = VIEWS) -> list[Scene]:
    """`count` scenes of object number `seed`, each in another context and pose; one in ten is a painting."""
    rng = random.Random(seed)
    scene = scene_from_seed(seed, style="photo")
    contexts = rng.sample(tuple(CONTEXTS), count)
    styles = [rng.choices(("photo", "painting"), weights=(9, 1))[0] for _ in contexts]
    return [
        replace(scene, context=context, style=style, pose=sample_pose(rng), seed=rng.randrange(2**31))
        for context, style in zip(contexts, styles, strict=True)
    ]


def cached_views(folder: Path, identities: int) -> tuple[list[list[Scene]], Images]:
    """The views of each object, and their images [identities, VIEWS, 64, 64, 3]; the images are kept in `folder`."""
    scenes = [views(IDENTITY_SEED + index) for index in range(identities)]
    images = cached_renders(list(itertools.chain.from_iterable(scenes)), folder / f"views-{identities}.npy")
    return scenes, images.reshape(identities, VIEWS, *images.shape[1:])


def same_object_loss(first: Tensor, second: Tensor) -> Tensor:
    """InfoNCE of two views of N objects ([N, width] each)."""
    first = normalize(first, dim=-1)
    second = normalize(second, dim=-1)
    logits = first @ second.T / TEMPERATURE
    target = torch.arange(len(first), device=first.device)
    return 0.5 * (cross_entropy(logits, target) + cross_entropy(logits.T, target))


def train(folder: Path, identities: int, steps: int) -> Dinov2Model:
    """Train on `identities` objects with VIEWS renders each; returns the encoder with averaged weights.

    Objects of one class are hard to tell apart, so two thirds of a batch are groups of them.
    """
    device = default_device()
    torch.manual_seed(0)
    scenes, images = cached_views(folder, identities)
    labels = torch.from_numpy(encode_labels(list(itertools.chain.from_iterable(scenes))))
    labels = labels.view(identities, VIEWS, -1).to(device)
    of_class = [[i for i, of_one in enumerate(scenes) if of_one[0].noun == noun] for noun in CLASSES]

    def loss_of(model: IdentityWithHeads, rng: np.random.Generator) -> tuple[Tensor, dict[str, str]]:
        classes = rng.choice(len(of_class), 2, replace=False)
        groups = [rng.choice(of_class[k], GROUP, replace=False) for k in classes]
        chosen = np.concatenate([*groups, rng.integers(identities, size=GROUP)])
        pair = np.stack([rng.permutation(VIEWS)[:2] for _ in chosen])
        pixels = np.concatenate([images[chosen, pair[:, 0]], images[chosen, pair[:, 1]]])
        batch_labels = torch.cat([labels[chosen, pair[:, 0]], labels[chosen, pair[:, 1]]])
        with torch.autocast(device.type, torch.bfloat16):
            embeddings = embed(model.encoder, to_tensor(pixels, device))
        embeddings = embeddings.float()
        loss = same_object_loss(*embeddings.chunk(2))
        auxiliary = heads_loss(model.heads(embeddings), batch_labels)
        return loss + 0.5 * auxiliary, {"same": f"{loss.item():.3f}", "heads": f"{auxiliary.item():.3f}"}

    model = fit("identity", on_device(IdentityWithHeads()), loss_of, steps=steps, lr=2e-3, folder=folder)
    return model.cpu().encoder


@torch.no_grad()
def retrieval_accuracy(encoder: Dinov2Model, first_seed: int, noun: str | None = None, count: int = 100) -> float:
    """How often (0..1) the other render of an object is the nearest among those of `count` objects, by cosine.

    The objects are numbers `first_seed` and up: those of class `noun`, or all.
    """

    def wanted(seed: int) -> bool:
        return noun is None or scene_from_seed(seed, style="photo").noun == noun

    def unit_length(scenes: Sequence[Scene]) -> Tensor:
        return normalize(embed(encoder, to_tensor(render_all(scenes))), dim=-1)

    seeds = itertools.islice(filter(wanted, itertools.count(first_seed)), count)
    pairs = [[replace(scene, style="photo") for scene in views(seed, 2)] for seed in seeds]
    first = unit_length([pair[0] for pair in pairs])
    second = unit_length([pair[1] for pair in pairs])
    nearest = (first @ second.T).argmax(1)
    return nearest.eq(torch.arange(count)).float().mean().item()
