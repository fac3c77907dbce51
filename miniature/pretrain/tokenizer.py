"""A CLIPTokenizer of a few hundred tokens: one for each word of the captions, bytes for everything else."""

import re
from collections import Counter

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from miniature.attributes import CLASSES, values
from miniature.captions import DETAILS, HAT_PHRASE, NOUNS, OPENINGS, PLACES, RARE_WORDS

MAX_LENGTH = 32
UNSAID = ("none", "plain")


def words():
    """Every word that a caption may hold, rare words included, sorted."""
    texts = [*CLASSES, *RARE_WORDS, HAT_PHRASE, "and", "an"]
    for table in (NOUNS, PLACES, OPENINGS):
        texts += [text for wordings in table.values() for text in wordings]
    texts += [text for templates in DETAILS.values() for text in templates.values()]
    said = [(noun, attribute) for noun, templates in DETAILS.items() for attribute in templates]
    said += [("ball", "pattern")]
    texts += [value for noun, attribute in said for value in values(noun, attribute) if value not in UNSAID]
    return sorted({word for text in texts for word in re.findall("[a-z]+", text.lower())})


def merges(spelled):
    """Byte-pair merges that make one token of every word in `spelled` (lists of symbols): the most frequent pair first.

    `tokenizers`' own trainer breaks ties differently in every process, which would number the tokens anew each time.
    """
    learnt = []
    while counts := Counter(pair for word in spelled for pair in zip(word, word[1:], strict=False)):
        best = max(counts, key=lambda pair: (counts[pair], pair))
        learnt.append(best)
        spelled = [merged(word, best) for word in spelled]
    return learnt


def merged(word, pair):
    """`word` (symbols) with every occurrence of `pair` joined, from the left."""
    joined = []
    for symbol in word:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined


def build():
    """The tokenizer, built from the caption grammar alone; any string can be encoded."""
    learnt = merges([[*word[:-1], word[-1] + "</w>"] for word in words()])
    alphabet = sorted(ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in learnt]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=learnt, model_max_length=MAX_LENGTH)


def encode(tokenizer, texts, padding="longest"):
    """Token ids int64 [B, L], cut at the tokenizer's own maximum; `padding` as transformers names it."""
    return tokenizer(
        list(texts), padding=padding, truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    ).input_ids
