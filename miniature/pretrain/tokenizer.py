"""A CLIPTokenizer of a few hundred tokens: one for each word of the captions, and bytes for everything else."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

from miniature.attributes import CLASSES, values
from miniature.captions import DETAILS, HAT_PHRASE, NOUNS, OPENINGS, PLACES, RARE_WORDS

MAX_LENGTH = 32
"""Tokens of a prompt, the start and the end token included."""
NEVER_NAMED = ("none", "plain")
"""Values of attributes that captions leave out."""

Pair = tuple[str, str]
"""Two neighbouring symbols of a word."""


def words() -> list[str]:
    """Every word that a caption may contain, rare words included, sorted."""
    texts = [*CLASSES, *RARE_WORDS, HAT_PHRASE, "and", "an"]
    for table in (NOUNS, PLACES, OPENINGS):
        texts += [text for wordings in table.values() for text in wordings]
    texts += [text for templates in DETAILS.values() for text in templates.values()]
    named = [(noun, attribute) for noun, templates in DETAILS.items() for attribute in templates]
    named.append(("ball", "pattern"))
    texts += [value for noun, attribute in named for value in values(noun, attribute) if value not in NEVER_NAMED]
    return sorted({word for text in texts for word in re.findall("[a-z]+", text.lower())})


def merges(spelled: list[list[str]]) -> list[Pair]:
    """Byte-pair merges that make one token of every word of `spelled`, the most frequent pair first.

    A word is given as its symbols. `tokenizers`' own trainer breaks ties differently in every process, so the tokens
    would not always get the same numbers.
    """
    learnt: list[Pair] = []
    while counts := Counter(pair for word in spelled for pair in pairwise(word)):
        best = most_frequent(counts)
        learnt.append(best)
        spelled = [merged(word, best) for word in spelled]
    return learnt


def most_frequent(counts: Counter[Pair]) -> Pair:
    """The pair with the highest count; of several, the last in alphabetical order."""
    return max(counts, key=lambda pair: (counts[pair], pair))


def merged(word: list[str], pair: Pair) -> list[str]:
    """`word` with every occurrence of `pair` joined, from the left."""
    joined: list[str] = []
    for symbol in word:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined


def build() -> CLIPTokenizer:
    """The tokenizer, made from the words of captions alone; any string can be encoded."""
    # As in CLIP, "</w>" marks the last symbol of a word.
    learnt = merges([[*word[:-1], word[-1] + "</w>"] for word in words()])
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in learnt)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=learnt,  # type: ignore[arg-type]  # pairs are what it takes, though it is annotated list[str]
        model_max_length=MAX_LENGTH,
    )


def encode(tokenizer: CLIPTokenizer, texts: Sequence[str], padding: str = "longest") -> Tensor:
    """Token ids, int64 [B, L], cut at the tokenizer's maximum length. `padding` is "longest" or "max_length"."""
    ids: Tensor = tokenizer(
        list(texts), padding=padding, truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    ).input_ids
    return ids
