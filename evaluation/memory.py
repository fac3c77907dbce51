"""What evaluating a checkpoint needs on the device, where its training lies already."""

from collections.abc import Iterable
from functools import cache

import torch
from transformers import AutoConfig, AutoModel

from evaluation.spec import EvalSpec
from trainers.live_bytes import parameter_bytes
from trainers.memory import Beside
from trainers.spec import SampleSpec

# Of CLIP ViT-B/32 and DINO ViT-S/16, the standard encoders; for those whose configuration is not here yet.
STANDARD = {"clip": 605_109_252, "dino": 86_662_656}


def beside(samples: Iterable[SampleSpec], evaluations: Iterable[EvalSpec]) -> Beside:
    """What is computed beside a training whose checkpoints are sampled and scored in these ways."""
    evaluations = list(evaluations)
    repos = {("clip", each.clip_repo, each.clip) for each in evaluations}
    repos |= {("dino", each.dino_repo, each.dino) for each in evaluations}
    return Beside(tuple(dict.fromkeys(samples)), sum(encoder_bytes(*repo) for repo in repos))


@cache
def encoder_bytes(kind: str, repo: str, identity: str) -> int:
    """Of the weights, in fp32. What follows an @ in `identity` is the revision of a hub repository."""
    try:
        config = AutoConfig.from_pretrained(repo, revision=identity.partition("@")[2] or "main", local_files_only=True)
    except (OSError, ValueError):
        return STANDARD[kind]
    config.dtype = torch.float32
    with torch.device("meta"):
        return parameter_bytes(AutoModel.from_config(config))
