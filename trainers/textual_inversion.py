"""Textual inversion: the vectors of new tokens learn, and nothing else (arXiv:2208.01618)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.errors import SpecError
from trainers.families.base import Components
from trainers.families.tokens import with_new_tokens
from trainers.learner import Learner, checkpoint_activations
from trainers.precision import DTYPES
from trainers.spec import SubjectSpec, TrainSpec

# Around the learned word; neutral, so that what the images have in common goes into the word.
TEMPLATES = {
    "object": (
        "a photo of a {}",
        "a close-up photo of a {}",
        "a photo of one {}",
        "a photo of the {}",
        "a cropped photo of the {}",
        "a bright photo of the {}",
        "a dark photo of the {}",
        "a rendition of a {}",
        "a photo of my {}",
        "a good photo of a {}",
    ),
    "style": (
        "a painting in the style of {}",
        "a picture in the style of {}",
        "a rendering in the style of {}",
        "a small painting in the style of {}",
        "a bright painting in the style of {}",
        "a dark painting in the style of {}",
        "a close-up painting in the style of {}",
        "a cropped painting in the style of {}",
    ),
}


def placeholder(subject: SubjectSpec) -> str:
    """The new token that stands for the identifier; in small letters, as CLIP's tokenizer reads every prompt."""
    return f"<{subject.identifier.lower()}>"


def template_prompts(spec: TrainSpec) -> list[str]:
    return [template.format(spec.subject.identifier) for template in TEMPLATES[spec.trainer.templates]]


class TextualInversion(Learner):
    def __init__(self, components: Components, spec: TrainSpec):
        super().__init__(components, spec)
        self.token = placeholder(spec.subject)
        tokenizers = dict(components.tokenizers)
        ids: dict[str, list[int]] = {}
        for name in self.family.trainable_encoders:
            tokenizers[name], ids[name] = self._with_word(components.tokenizers[name])
        word = (spec.subject.identifier, self.token)
        self.components = replace(components, tokenizers=tokenizers, aliases=(*components.aliases, word))
        self.hold_network(self.frozen(components.network, DTYPES[spec.mixed_precision]))
        for name, encoder in components.encoders.items():
            self.hold_encoder(name, self.frozen(encoder, torch.float32))
        self.text_learns = True
        if spec.gradient_checkpointing:
            for module in (self.network, *self.encoders.values()):
                checkpoint_activations(module)
        for name in self.family.trainable_encoders:
            self._extend(name, first=ids[name][0])

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self._vectors.values()), "lr": self.spec.effective_lr}]

    def write(self, folder: Path) -> None:
        self.family.save_tokens(folder, {name: {self.token: vectors} for name, vectors in self._vectors.items()})

    @property
    def _vectors(self) -> dict[str, nn.Parameter]:
        """What learns, [vectors, D] each, by the name of its text encoder."""
        names = self.family.trainable_encoders
        return {name: self.get_parameter(_vectors_name(place)) for place, name in enumerate(names)}

    def _with_word(self, tokenizer: Any) -> tuple[Any, list[int]]:
        """A tokenizer that knows the new tokens, and their ids."""
        extended, ids = with_new_tokens(tokenizer, self.token, self.spec.trainer.vectors)
        if ids[0] < len(tokenizer):
            raise SpecError(f"the model knows the word {self.token} already; give another subject.identifier")
        if len(ids) > (room := extended.model_max_length - 2):  # a start and an end
            raise SpecError(f"trainer.vectors={len(ids)}: a prompt of this model has room for {room}; give fewer")
        return extended, ids

    def _extend(self, name: str, first: int) -> None:
        """Puts learned rows, whose ids begin at `first`, after the embedding table of a text encoder."""
        encoder: Any = self.encoders[name]
        known = encoder.get_input_embeddings()
        vectors = nn.Parameter(self._initial_vectors(self.components.tokenizers[name], known.weight))
        self.register_parameter(_vectors_name(self.family.trainable_encoders.index(name)), vectors)
        encoder.set_input_embeddings(ExtendedEmbedding(known, vectors, first=first))
        encoder.train()

    def _initial_vectors(self, tokenizer: Any, known: Tensor) -> Tensor:
        """[vectors, D]: the vectors of the initial word's tokens, taken in turn; the mean of them for one vector."""
        word = self.spec.trainer.initial_word or self.spec.subject.class_noun
        count = self.spec.trainer.vectors
        pieces = known[tokenizer(word, add_special_tokens=False).input_ids].float()
        if count == 1:
            return pieces.mean(0, keepdim=True)
        return torch.stack([pieces[i % len(pieces)] for i in range(count)])


def _vectors_name(place: int) -> str:
    """Of the weight that learns for the encoder at `place`: "vectors" for the first, as training states have it."""
    return "vectors" if place == 0 else f"vectors_{place + 1}"


class ExtendedEmbedding(nn.Module):
    """A frozen embedding table with learned rows after it: gradients, momentum and weight decay reach these only."""

    def __init__(self, known: nn.Embedding, vectors: nn.Parameter, first: int):
        super().__init__()
        self.known = known
        self.vectors = vectors
        self.first = first

    def forward(self, ids: Tensor) -> Tensor:
        """[..., D] of ids [...], those from `first` on being rows of `vectors`."""
        new = ids >= self.first
        embedded = self.known(ids.masked_fill(new, 0))
        return torch.where(new[..., None], F.embedding((ids - self.first).clamp(min=0), self.vectors), embedded)
