"""A worker on a card that only pretends to be there, as `cards.json` of the store says: python -m this module.

GPU: {"total": GB, "others": GB that other programs hold, "dead": its context dies in every job, "lost": it is gone}
gb=GB       that a job needs
"""

from pathlib import Path

import torch

from sweeper.engine import cards
from sweeper.engine.cards import GB, Card
from sweeper.engine.worker import arguments, main
from tests.sweeper.engine import light
from trainers.errors import DoesNotFit
from trainers.files import read_json


class FakeCard(Card):
    def __init__(self, name: str, _device: torch.device, share: int) -> None:
        self.name, self.share = name, share
        self.total = self.said("total") * GB

    def said(self, about: str) -> int:
        return read_json(Path(arguments().store) / "cards.json")[self.name].get(about, 0)

    @property
    def free(self) -> int:
        return self.total - self.said("others") * GB

    def check(self) -> None:
        if self.said("lost"):
            raise RuntimeError("no CUDA-capable device is detected")


def needs(job, *_):
    return dict(job.training.cells[0].params).get("gb", 0) * GB


def handle(job, store, report, process):
    if cards.card.said("dead"):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    if needs(job) > cards.card.part:
        raise DoesNotFit(f"this training needs {needs(job) / GB:.0f} GB")
    return light.handle(job, store, report, process)


if __name__ == "__main__":
    main(handle, needs, FakeCard)
