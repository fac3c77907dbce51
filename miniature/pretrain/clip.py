"""CLIP: images and texts in one space. Its text encoder becomes the pipeline's.

It is trained in three phases. First the image encoder alone learns to classify, because contrastive training by itself
did not learn the class of the object. Then both encoders learn contrastively. At last the image encoder alone learns
also to tell an object's own colour from those of its parts; the text encoder stays as the U-Net knows it.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from miniature.attributes import CLASSES
from miniature.canvas import COLOR_NAMES
from miniature.captions import PLACES, caption, false_caption
from miniature.labels import Heads, encode_labels, heads_loss
from miniature.pretrain import tokenizer as tokens
from miniature.pretrain.data import Images, to_tensor
from miniature.pretrain.loop import default_device, fit, on_device
from miniature.pretrain.vision import ATTENTION, HardNegatives, Indices, sincos_positions
from miniature.world import Scene

WIDTH = 128


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIPModel for `tokenizer` (1.6 M parameters)."""
    common = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4, "projection_dim": WIDTH}
    text = {
        **common,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 3,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**common, "num_hidden_layers": 4, "image_size": 64, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    model: CLIPModel = CLIPModel._from_config(config, attn_implementation=ATTENTION)
    model.vision_model.embeddings.position_embedding.weight.data.copy_(sincos_positions(8, WIDTH))
    return model


class ClipWithHeads(torch.nn.Module):
    """CLIP, and classifiers on its image features that make it learn what captions seldom mention."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.heads = Heads(WIDTH)


def embed_images(clip: CLIPModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pooled features [B, width] and unit-length embeddings [B, width] of pixels [B, 3, 64, 64] in -1..1."""
    pooled: Tensor = clip.vision_model(pixel_values=pixels).pooler_output
    return pooled, normalize(clip.visual_projection(pooled).float(), dim=-1)


def embed_text(clip: CLIPModel, ids: Tensor) -> Tensor:
    """Unit-length embeddings [B, width] of token ids [B, L]."""
    pooled = clip.text_model(input_ids=ids).pooler_output
    return normalize(clip.text_projection(pooled).float(), dim=-1)


def logit_scale(clip: CLIPModel) -> Tensor:
    """What cosine similarities are multiplied by: learned, and at most 100."""
    return clip.logit_scale.exp().clamp(max=100)


def contrastive_loss(images: Tensor, texts: Tensor, false_texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss, plus a penalty for each image that is nearer to its false text than to its true one.

    All embeddings are [B, width] and of unit length; `scale` multiplies the cosines.
    """
    logits = scale * images @ texts.T
    target = torch.arange(len(images), device=images.device)
    both = cross_entropy(logits, target) + cross_entropy(logits.T, target)
    margin = logits.diagonal() - scale * (images * false_texts).sum(-1)
    return 0.5 * both + softplus(-margin).mean()


class Losses:
    """The losses of the three phases; each draws a batch of its own and is a `loop.LossOf`."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        images: Images,
        tokenizer: CLIPTokenizer,
        device: torch.device,
        batch: int,
    ) -> None:
        self.scenes = scenes
        self.images = images
        self.tokenizer = tokenizer
        self.device = device
        self.batch = batch
        self.labels = torch.from_numpy(encode_labels(scenes)).to(device)
        self.hard_negatives = HardNegatives(scenes)
        self.colored = np.array([i for i, scene in enumerate(scenes) if shows_color(scene)])

    def pixels(self, chosen: Indices) -> Tensor:
        return to_tensor(self.images[chosen], self.device)

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        return tokens.encode(self.tokenizer, texts).to(self.device)

    def classify(self, model: ClipWithHeads, rng: np.random.Generator) -> tuple[Tensor, dict[str, str]]:
        """Phase 1: the labels from image features."""
        chosen = rng.integers(len(self.scenes), size=self.batch)
        with torch.autocast(self.device.type, torch.bfloat16):
            features, _ = embed_images(model.clip, self.pixels(chosen))
        loss = heads_loss(model.heads(features.float()), self.labels[chosen])
        return loss, {"loss": f"{loss.item():.3f}"}

    def contrast(self, model: ClipWithHeads, rng: np.random.Generator) -> tuple[Tensor, dict[str, str]]:
        """Phase 2: each image's caption among those of the batch and against a false one, and half of phase 1's loss.

        Half of the batch is random, the other half a group of hard negatives.
        """
        anything = rng.integers(len(self.scenes), size=self.batch // 2)
        chosen = np.concatenate([anything, self.hard_negatives.draw(rng, self.batch // 2)])
        caption_rng = random.Random(int(rng.integers(2**31)))
        texts = [caption(self.scenes[i], caption_rng) for i in chosen]
        texts += [false_caption(self.scenes[i], caption_rng) for i in chosen]
        with torch.autocast(self.device.type, torch.bfloat16):
            features, images = embed_images(model.clip, self.pixels(chosen))
            true_texts, false_texts = embed_text(model.clip, self.token_ids(texts)).chunk(2)
        loss = contrastive_loss(images, true_texts, false_texts, logit_scale(model.clip))
        auxiliary = heads_loss(model.heads(features.float()), self.labels[chosen])
        return loss + 0.5 * auxiliary, {"loss": f"{loss.item():.3f}", "heads": f"{auxiliary.item():.3f}"}

    def polish(self, model: ClipWithHeads, rng: np.random.Generator) -> tuple[Tensor, dict[str, str]]:
        """Phase 3: phase 2's loss, and the colours of some more objects."""
        loss, shown = self.contrast(model, rng)
        chosen = rng.choice(self.colored, self.batch // 4)
        with torch.autocast(self.device.type, torch.bfloat16):
            color = self.color_loss(model.clip, chosen, rng)
        return loss + color, {**shown, "color": f"{color.item():.3f}"}

    def color_loss(self, clip: CLIPModel, chosen: Indices, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of each object's colour among captions that differ in nothing else.

        Captions that name several colours leave open which of them is the object's own; these do not.
        """
        pixels = self.pixels(chosen)
        scenes = [self.scenes[i] for i in chosen]
        seeds = [int(rng.integers(2**31)) for _ in scenes]
        texts = [
            caption(scene.with_facts(color=color), random.Random(seed), must_name=("color",))
            for scene, seed in zip(scenes, seeds, strict=True)
            for color in COLOR_NAMES
        ]
        _, images = embed_images(clip, pixels)
        by_color = embed_text(clip, self.token_ids(texts)).unflatten(0, (len(scenes), len(COLOR_NAMES)))
        target = torch.tensor([COLOR_NAMES.index(scene.facts["color"]) for scene in scenes], device=self.device)
        logits = logit_scale(clip) * torch.einsum("bd,bcd->bc", images, by_color)
        return cross_entropy(logits, target)


def shows_color(scene: Scene) -> bool:
    """Whether the object has a colour that the image shows."""
    return "color" in scene.facts and scene.style != "sketch"


def train(
    scenes: Sequence[Scene],
    images: Images,
    folder: Path,
    vision_steps: int,
    steps: int,
    polish_steps: int,
    batch: int = 32,
) -> tuple[CLIPModel, CLIPTokenizer]:
    """Train on `scenes` and their images, uint8 [N, 64, 64, 3], through all three phases; returns averaged weights."""
    device = default_device()
    tokenizer = tokens.build()
    torch.manual_seed(0)
    model = on_device(ClipWithHeads(build(tokenizer)))
    losses = Losses(scenes, images, tokenizer, device, batch)
    # `fit` returns weights that require no gradients.
    model = fit("clip-vision", model, losses.classify, steps=vision_steps, lr=2e-3, folder=folder)
    model.requires_grad_(True)
    model = fit("clip", model, losses.contrast, steps=steps, lr=2e-3, folder=folder)
    model.requires_grad_(True)
    model.clip.text_model.requires_grad_(False)
    model = fit("clip-polish", model, losses.polish, steps=polish_steps, lr=1e-3, folder=folder)
    return model.cpu().clip, tokenizer


@torch.no_grad()
def nearest_text(clip: CLIPModel, tokenizer: CLIPTokenizer, pixels: Tensor, texts: Sequence[str]) -> str:
    """The one of `texts` whose embedding is nearest to that of one image [1, 3, 64, 64]."""
    _, image = embed_images(clip, pixels)
    similarities = image @ embed_text(clip, tokens.encode(tokenizer, texts)).T
    return texts[int(similarities.argmax(1))]


def zero_shot(clip: CLIPModel, tokenizer: CLIPTokenizer, scenes: Sequence[Scene], images: Images) -> dict[str, float]:
    """Zero-shot accuracy (0..1) of class, context and colour on photographs.

    The texts to choose from for the context and the colour name the true class.
    """
    right: dict[str, list[bool]] = {"class": [], "context": [], "color": []}
    for scene, image in zip(scenes, images, strict=True):
        if scene.style != "photo":
            continue
        pixels = to_tensor(image[None])
        classes = {noun: f"a photo of a {noun}" for noun in CLASSES}
        right["class"].append(nearest_text(clip, tokenizer, pixels, list(classes.values())) == classes[scene.noun])
        if scene.context != "plain":
            places = {context: f"a photo of a {scene.noun} {wordings[0]}" for context, wordings in PLACES.items()}
            nearest = nearest_text(clip, tokenizer, pixels, list(places.values()))
            right["context"].append(nearest == places[scene.context])
        if "color" in scene.facts:
            colors = {color: f"a photo of a {color} {scene.noun}" for color in COLOR_NAMES}
            nearest = nearest_text(clip, tokenizer, pixels, list(colors.values()))
            right["color"].append(nearest == colors[scene.facts["color"]])
    return {name: float(np.mean(answers)) for name, answers in right.items()}
