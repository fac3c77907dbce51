"""Textual inversion: the vectors of new tokens learn, and nothing else (arXiv:2208.01618)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.errors import SpecError
from trainers.families.tokens import save_tokens, with_new_tokens
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
    def __init__(self, components: Any, spec: TrainSpec):
        super().__init__(components, spec)
        self.token = placeholder(spec.subject)
        tokenizer, ids = with_new_tokens(components.tokenizer, self.token, spec.trainer.vectors)
        if ids[0] < len(components.tokenizer):
            raise SpecError(f"the model knows the word {self.token} already; give another subject.identifier")
        if len(ids) > (room := tokenizer.model_max_length - 2):  # a start and an end
            raise SpecError(f"trainer.vectors={len(ids)}: a prompt of this model has room for {room}; give fewer")
        self.components = replace(
            components, tokenizer=tokenizer, aliases=(*components.aliases, (spec.subject.identifier, self.token))
        )
        self.unet = self.frozen(components.unet, DTYPES[spec.mixed_precision])
        self.text_encoder = self.frozen(components.text_encoder, torch.float32)
        self.text_learns = True
        if spec.gradient_checkpointing:
            for module in (self.unet, self.text_encoder):
                checkpoint_activations(module)
        known = self.text_encoder.get_input_embeddings()
        self.vectors = nn.Parameter(self._initial_vectors(known.weight))
        self.text_encoder.set_input_embeddings(ExtendedEmbedding(known, self.vectors, first=ids[0]))
        self.text_encoder.train()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.vectors], "lr": self.spec.effective_lr}]

    def write(self, folder: Path) -> None:
        save_tokens(folder, {self.token: self.vectors})

    def _initial_vectors(self, known: Tensor) -> Tensor:
        """[vectors, D]: the vectors of the initial word's tokens, taken in turn; the mean of them for one vector."""
        word = self.spec.trainer.initial_word or self.spec.subject.class_noun
        tokenizer, count = self.components.tokenizer, self.spec.trainer.vectors
        pieces = known[tokenizer(word, add_special_tokens=False).input_ids].float()
        if count == 1:
            return pieces.mean(0, keepdim=True)
        return torch.stack([pieces[i % len(pieces)] for i in range(count)])


class ExtendedEmbedding(nn.Module):
    """A frozen embedding table with learned rows after it: gradients, momentum and weight decay reach these only."""

    def __init__(self, known: nn.Embedding, vectors: nn.Parameter, first: int):
        super().__init__()
        self.known, self.vectors, self.first = known, vectors, first

    def forward(self, ids: Tensor) -> Tensor:
        """[..., D] of ids [...], those from `first` on being rows of `vectors`."""
        new = ids >= self.first
        embedded = self.known(ids.masked_fill(new, 0))
        return torch.where(new[..., None], F.embedding((ids - self.first).clamp(min=0), self.vectors), embedded)
