"""The identity encoder, in DINO's place: two renders of one object agree, whatever is around it."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import Dinov2Config, Dinov2Model

from miniature.attributes import CLASSES
from miniature.contexts import CONTEXTS
from miniature.labels import Heads, encode_labels, heads_loss
from miniature.pretrain.data import cached_renders, render_all, scene_from_seed, to_tensor
from miniature.pretrain.loop import device, fit
from miniature.pretrain.vision import ATTENTION, sincos_positions
from miniature.world import sample_pose

WIDTH = 128
VIEWS = 4
TEMPERATURE = 0.1
IDENTITY_SEED = 5 * 10**8
"""Seeds of training identities start here, apart from those of the other parts and from the held-out ones."""


def build():
    """An untrained Dinov2Model (0.8 M parameters); its embedding is `last_hidden_state[:, 0]`, as DINO's is read."""
    config = Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        mlp_ratio=4,
        image_size=64,
        patch_size=8,
        initializer_range=0.06,
        use_mask_token=False,
        attn_implementation=ATTENTION,
    )
    model = Dinov2Model(config)
    model.embeddings.position_embeddings.data.copy_(sincos_positions(8, WIDTH)[None])
    return model


class IdentityWithHeads(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.heads = build(), Heads(WIDTH)

    def forward(self, pixels):
        """Embeddings [B, width] of pixels [B, 3, 64, 64] in -1..1."""
        return self.encoder(pixel_values=pixels).last_hidden_state[:, 0].float()


def views(seed, count=VIEWS):
    """`count` scenes of one identity: other contexts, poses and incidentals; one in ten is a painting."""
    rng, scene = random.Random(seed), scene_from_seed(seed, style="photo")
    contexts = rng.sample(tuple(CONTEXTS), count)
    styles = [rng.choices(("photo", "painting"), weights=(9, 1))[0] for _ in contexts]
    return [
        replace(scene, context=context, style=style, pose=sample_pose(rng), seed=rng.randrange(2**31))
        for context, style in zip(contexts, styles, strict=True)
    ]


def cached_views(folder, identities):
    """(scenes per identity, images uint8 [identities, VIEWS, 64, 64, 3]); the images are kept in `folder`."""
    scenes = [views(IDENTITY_SEED + index) for index in range(identities)]
    images = cached_renders(list(itertools.chain.from_iterable(scenes)), Path(folder) / f"views-{identities}.npy")
    return scenes, images.reshape(identities, VIEWS, *images.shape[1:])


def same_object_loss(first, second):
    """InfoNCE of two views of N objects ([N, width] each): every object is told from all others."""
    first, second = (torch.nn.functional.normalize(part, dim=-1) for part in (first, second))
    logits, target = first @ second.T / TEMPERATURE, torch.arange(len(first), device=first.device)
    both = torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)
    return 0.5 * both


def train(folder, identities, steps):
    """Train the encoder; batches hold two groups of 8 objects of one class (hard to tell apart) and 8 of any."""
    where = device()
    torch.manual_seed(0)
    scenes, images = cached_views(folder, identities)
    labels = torch.from_numpy(encode_labels([scene for of_one in scenes for scene in of_one]))
    labels = labels.view(identities, VIEWS, -1).to(where)
    of_class = [[i for i, of_one in enumerate(scenes) if of_one[0].noun == noun] for noun in CLASSES]

    def loss_of(model, rng, step):
        groups = [rng.choice(of_class[k], 8, replace=False) for k in rng.choice(len(of_class), 2, replace=False)]
        chosen = np.concatenate([*groups, rng.integers(identities, size=8)])
        pair = np.stack([rng.permutation(VIEWS)[:2] for _ in chosen])
        shown = np.concatenate([images[chosen, pair[:, 0]], images[chosen, pair[:, 1]]])
        known = torch.cat([labels[chosen, pair[:, 0]], labels[chosen, pair[:, 1]]])
        with torch.autocast(where.type, torch.bfloat16):
            embeddings = model(to_tensor(shown, where))
        telling = same_object_loss(*embeddings.chunk(2))
        aside = heads_loss(model.heads(embeddings), known)
        return telling + 0.5 * aside, {"same": f"{telling.item():.3f}", "heads": f"{aside.item():.3f}"}

    model = fit("identity", IdentityWithHeads().to(where), loss_of, steps=steps, lr=2e-3, folder=folder)
    return model.encoder.cpu()


@torch.no_grad()
def nearest_is_same(encoder, first_seed, noun=None, count=100):
    """Share (0..1) of `count` unseen objects whose other render is the nearest of all, by cosine."""
    seeds = (seed for seed in itertools.count(first_seed) if noun in (None, scene_from_seed(seed, style="photo").noun))
    pairs = [views(seed, 2) for seed in itertools.islice(seeds, count)]
    pairs = [[replace(scene, style="photo") for scene in pair] for pair in pairs]
    first, second = (to_tensor(render_all([pair[k] for pair in pairs])) for k in (0, 1))
    first, second = (
        torch.nn.functional.normalize(encoder(pixel_values=part).last_hidden_state[:, 0], dim=-1)
        for part in (first, second)
    )
    return (first @ second.T).argmax(1).eq(torch.arange(count)).float().mean().item()
