"""CLIP: image and text in one space; its text tower becomes the pipeline's text encoder."""

import random

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

from miniature.attributes import CLASSES
from miniature.canvas import COLOR_NAMES
from miniature.captions import PLACES, caption, false_caption
from miniature.labels import Heads, encode_labels, heads_loss
from miniature.pretrain import tokenizer as tokens
from miniature.pretrain.data import to_tensor
from miniature.pretrain.loop import device, fit
from miniature.pretrain.vision import ATTENTION, HardNegatives, sincos_positions

WIDTH = 128


def build(tokenizer):
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
    model = CLIPModel._from_config(config, attn_implementation=ATTENTION)
    model.vision_model.embeddings.position_embedding.weight.data.copy_(sincos_positions(8, WIDTH))
    return model


class ClipWithHeads(torch.nn.Module):
    """CLIP and the classifiers that keep its image tower seeing what captions seldom say."""

    def __init__(self, clip):
        super().__init__()
        self.clip, self.heads = clip, Heads(WIDTH)

    def embed_images(self, pixels):
        """Pooled image features [B, width] and unit-length embeddings [B, width]."""
        pooled = self.clip.vision_model(pixel_values=pixels).pooler_output
        return pooled, torch.nn.functional.normalize(self.clip.visual_projection(pooled).float(), dim=-1)

    def embed_text(self, ids):
        """Unit-length embeddings [B, width] of token ids [B, L]."""
        pooled = self.clip.text_model(input_ids=ids).pooler_output
        return torch.nn.functional.normalize(self.clip.text_projection(pooled).float(), dim=-1)


def contrastive_loss(seen, read, wrong, scale):
    """CLIP's symmetric loss, plus each image's preference of its caption over a false one (all [B, width])."""
    logits = scale * seen @ read.T
    target = torch.arange(len(seen), device=seen.device)
    both = torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)
    margin = logits.diagonal() - scale * (seen * wrong).sum(-1)
    return 0.5 * both + torch.nn.functional.softplus(-margin).mean()


def color_loss(model, tokenizer, scenes, pixels, rng):
    """Cross-entropy of the colour of each of `scenes` among captions that differ in the colour alone.

    Captions that name several colours leave open which is the object's own; this does not.
    """
    where, seeds = pixels.device, [rng.integers(2**31) for _ in scenes]
    texts = [
        caption(scene.with_facts(color=color), random.Random(int(seed)), must_name=("color",))
        for scene, seed in zip(scenes, seeds, strict=True)
        for color in COLOR_NAMES
    ]
    _, seen = model.embed_images(pixels)
    read = model.embed_text(tokens.encode(tokenizer, texts).to(where)).unflatten(0, (len(scenes), len(COLOR_NAMES)))
    target = torch.tensor([COLOR_NAMES.index(scene.facts["color"]) for scene in scenes], device=where)
    logits = model.clip.logit_scale.exp().clamp(max=100) * torch.einsum("bd,bcd->bc", seen, read)
    return torch.nn.functional.cross_entropy(logits, target)


def train(scenes, images, folder, vision_steps, steps, polish_steps, batch=32):
    """Train on rendered `scenes` and their `images`; returns (CLIPModel, CLIPTokenizer).

    First the image tower alone learns the ground truth (plain contrastive training stays blind to class), then both; at
    last the image tower again, also to tell an object's own colour, with the text tower frozen as the U-Net knows it.
    """
    where, tokenizer = device(), tokens.build()
    torch.manual_seed(0)
    model, labels = ClipWithHeads(build(tokenizer)).to(where), torch.from_numpy(encode_labels(scenes)).to(where)
    groups = HardNegatives(scenes)

    def classify(model, rng, step):
        chosen = rng.integers(len(scenes), size=batch)
        with torch.autocast(where.type, torch.bfloat16):
            features, _ = model.embed_images(to_tensor(images[chosen], where))
        loss = heads_loss(model.heads(features.float()), labels[chosen])
        return loss, {"loss": f"{loss.item():.3f}"}

    def contrast(model, rng, step):
        chosen = np.concatenate([rng.integers(len(scenes), size=batch // 2), groups.draw(rng, batch // 2)])
        words = random.Random(int(rng.integers(2**31)))
        texts = [caption(scenes[i], words) for i in chosen] + [false_caption(scenes[i], words) for i in chosen]
        with torch.autocast(where.type, torch.bfloat16):
            features, seen = model.embed_images(to_tensor(images[chosen], where))
            read, wrong = model.embed_text(tokens.encode(tokenizer, texts).to(where)).chunk(2)
        loss = contrastive_loss(seen, read, wrong, model.clip.logit_scale.exp().clamp(max=100))
        aside = heads_loss(model.heads(features.float()), labels[chosen])
        return loss + 0.5 * aside, {"loss": f"{loss.item():.3f}", "heads": f"{aside.item():.3f}"}

    colored = np.array([i for i, scene in enumerate(scenes) if "color" in scene.facts and scene.style != "sketch"])

    def polish(model, rng, step):
        loss, shown = contrast(model, rng, step)
        chosen = rng.choice(colored, batch // 4)
        with torch.autocast(where.type, torch.bfloat16):
            pixels = to_tensor(images[chosen], where)
            color = color_loss(model, tokenizer, [scenes[i] for i in chosen], pixels, rng)
        return loss + color, {**shown, "color": f"{color.item():.3f}"}

    model = fit("clip-vision", model, classify, steps=vision_steps, lr=2e-3, folder=folder).train().requires_grad_(True)
    model = fit("clip", model, contrast, steps=steps, lr=2e-3, folder=folder)
    model.train().requires_grad_(True)
    model.clip.text_model.requires_grad_(False)
    model = fit("clip-polish", model, polish, steps=polish_steps, lr=1e-3, folder=folder)
    return model.clip.cpu(), tokenizer


@torch.no_grad()
def nearest_text(model, tokenizer, pixels, texts):
    """Zero-shot: for each image [B, 3, 64, 64] the index of the nearest of `texts`."""
    with_heads = ClipWithHeads(model)
    return (with_heads.embed_images(pixels)[1] @ with_heads.embed_text(tokens.encode(tokenizer, texts)).T).argmax(1)


def zero_shot(model, tokenizer, scenes, images):
    """Accuracy (0..1) of class, context and colour on photographs; the last two with the class given, as prompts do."""
    right = {"class": [], "context": [], "color": []}
    places = {context: wordings[0] for context, wordings in PLACES.items()}
    for scene, image in zip(scenes, images, strict=True):
        if scene.style != "photo":
            continue
        pixels, noun = to_tensor(image[None]), scene.noun
        picked = nearest_text(model, tokenizer, pixels, [f"a photo of a {name}" for name in CLASSES])
        right["class"].append(CLASSES[picked] == noun)
        if scene.context != "plain":
            picked = nearest_text(
                model, tokenizer, pixels, [f"a photo of a {noun} {place}" for place in places.values()]
            )
            right["context"].append(list(places)[picked] == scene.context)
        if "color" in scene.facts:
            picked = nearest_text(model, tokenizer, pixels, [f"a photo of a {color} {noun}" for color in COLOR_NAMES])
            right["color"].append(COLOR_NAMES[picked] == scene.facts["color"])
    return {name: float(np.mean(values)) for name, values in right.items()}
