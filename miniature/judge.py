"""The judge: a classifier that reads from an image what is true of it.

It is trained on renders alone. It shares nothing with the U-Net or its text encoder, and the sweeps do not use it.
"""

from functools import cache

from miniature.labels import HEADS
from miniature.pretrain import classifier, export
from miniature.pretrain.data import Images


@cache
def network() -> classifier.Classifier:
    """The shipped weights."""
    return classifier.load(export.WEIGHTS / "judge")


def read(images: Images) -> dict[str, list[str]]:
    """Head (see `miniature.labels`) -> the likeliest value in each of N images, uint8 [N, 64, 64, 3]."""
    probabilities = network().read(images)
    return {name: [HEADS[name][index] for index in of_head.argmax(1)] for name, of_head in probabilities.items()}
