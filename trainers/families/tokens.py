"""Learned words: new tokens of a text encoder, and the vectors that stand for them. For every family that has some."""

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from trainers.families.base import Components

EMBEDDINGS_FILE = "learned_embeds.safetensors"  # the name diffusers looks for


def with_new_tokens(tokenizer: Any, token: str, vectors: int) -> tuple[Any, list[int]]:
    """A copy of `tokenizer` that knows `token`, `token_1`, ..., diffusers' names for several vectors; and their ids."""
    tokenizer = copy.deepcopy(tokenizer)
    tokens = [token] + [f"{token}_{i}" for i in range(1, vectors)]
    tokenizer.add_tokens(tokens)
    return tokenizer, tokenizer.convert_tokens_to_ids(tokens)


def with_aliases(components: Components, prompt: str) -> str:
    """`prompt` with the learned tokens in place of the words that they stand for, in small letters or capitals."""
    for word, token in components.aliases:
        prompt = re.sub(rf"(?<![\w<]){re.escape(word)}(?![\w>])", token, prompt, flags=re.IGNORECASE)
    return prompt


def with_tokens(components: Components, learned: Mapping[str, Mapping[str, Tensor]]) -> Components:
    """New tokens with their vectors. `learned`: {text encoder: {token: [vectors, width]}}."""
    tokenizers = dict(components.tokenizers)
    encoders: dict[str, nn.Module] = {}
    for name, tokens in learned.items():
        encoder: Any = copy.deepcopy(components.parts[name])
        for token, vectors in tokens.items():
            tokenizers[name], ids = with_new_tokens(tokenizers[name], token, len(vectors))
            if max(ids) >= encoder.get_input_embeddings().num_embeddings:
                encoder.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
            encoder.get_input_embeddings().weight.data[ids] = vectors
        encoders[name] = encoder
    words = [(token.strip("<>"), token) for tokens in learned.values() for token in tokens]
    aliases = tuple(dict.fromkeys([*components.aliases, *words]))  # the encoders share their words
    return replace(components.with_parts(encoders), tokenizers=tokenizers, aliases=aliases)


def learned_tokens(components: Components, encoders: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    """The tokens that `components` have learned, with their vectors in `encoders`, as `with_tokens` takes them."""
    return {name: _tokens(components, name, encoder) for name, encoder in encoders.items()}


def _tokens(components: Components, name: str, encoder: Any) -> dict[str, Tensor]:
    known = components.tokenizers[name].get_added_vocab()
    weight = encoder.get_input_embeddings().weight
    return {
        token: weight[sorted(i for added, i in known.items() if added == token or added.startswith(f"{token}_"))]
        for _, token in components.aliases
    }


def save_tokens(file: Path, tokens: Mapping[str, Tensor]) -> None:
    """{token: [vectors, width]} in one file; none where there is no token."""
    if tokens:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({token: vectors.detach().cpu().contiguous() for token, vectors in tokens.items()}, file)
