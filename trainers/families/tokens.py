"""Learned words: new tokens of a CLIP tokenizer, and the vectors that stand for them. For every family that has one."""

import copy
import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

EMBEDDINGS_FILE = "learned_embeds.safetensors"  # the name diffusers looks for


def with_new_tokens(tokenizer: CLIPTokenizer, token: str, vectors: int) -> tuple[CLIPTokenizer, list[int]]:
    """A copy of `tokenizer` that knows `token`, `token_1`, ..., diffusers' names for several vectors; and their ids."""
    tokenizer = copy.deepcopy(tokenizer)
    tokens = [token] + [f"{token}_{i}" for i in range(1, vectors)]
    tokenizer.add_tokens(tokens)
    return tokenizer, tokenizer.convert_tokens_to_ids(tokens)


def with_aliases(components: Any, prompt: str) -> str:
    """`prompt` with the learned tokens in place of the words that they stand for, in small letters or capitals."""
    for word, token in components.aliases:
        prompt = re.sub(rf"(?<![\w<]){re.escape(word)}(?![\w>])", token, prompt, flags=re.IGNORECASE)
    return prompt


def learned_tokens(components: Any, text_encoder: nn.Module) -> dict[str, Tensor]:
    """The tokens that `components` have learned, with their vectors [vectors, width] in `text_encoder`."""
    known, weight = components.tokenizer.get_added_vocab(), text_encoder.get_input_embeddings().weight
    return {
        token: weight[sorted(i for name, i in known.items() if name == token or name.startswith(f"{token}_"))]
        for _, token in components.aliases
    }


def save_tokens(folder: Path, learned: dict[str, Tensor]) -> None:
    """`learned`, {token: [vectors, width]}, as `load_textual_inversion` of diffusers reads it."""
    if learned:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {token: vectors.detach().cpu().contiguous() for token, vectors in learned.items()}, folder / EMBEDDINGS_FILE
        )
