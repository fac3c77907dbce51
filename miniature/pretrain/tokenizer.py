"""A CLIPTokenizer of a few hundred tokens: one for each word of the captions, bytes for everything else."""

import json
import random
import re

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from miniature.attributes import CLASSES
from miniature.captions import DETAILS, HAT_PHRASE, NOUNS, OPENINGS, PLACES, RARE_WORDS, caption
from miniature.pretrain.data import scene_from_seed

MAX_LENGTH = 32


def words():
    """Every word that a caption may hold, rare words included, sorted."""
    texts = [*CLASSES, *RARE_WORDS, HAT_PHRASE, "and", "an"]
    for table in (NOUNS, PLACES, OPENINGS):
        texts += [text for wordings in table.values() for text in wordings]
    texts += [text for templates in DETAILS.values() for text in templates.values()]
    texts += [caption(scene_from_seed(seed), random.Random(0)) for seed in range(5000)]
    return sorted({word for text in texts for word in re.findall("[a-z]+", text.lower())})


def build():
    """The tokenizer, built from the caption grammar alone; any string can be encoded."""
    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    trainer = BpeTrainer(vocab_size=5000, end_of_word_suffix="</w>", initial_alphabet=ByteLevel.alphabet(),
                         show_progress=False, min_frequency=1)
    tokenizer.train_from_iterator(words(), trainer)
    learnt = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(merge) for merge in learnt]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=learnt, model_max_length=MAX_LENGTH)


def encode(tokenizer, texts, padding="longest"):
    """Token ids int64 [B, L], cut at the tokenizer's own maximum; `padding` as transformers names it."""
    return tokenizer(
        list(texts), padding=padding, truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    ).input_ids
