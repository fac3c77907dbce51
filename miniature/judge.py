"""The judge: a classifier, trained on renders alone, that reads what is true of an image.

It shares nothing with the U-Net's text tower and is no part of the program under test.
"""

from functools import cache

from miniature.labels import HEADS
from miniature.pretrain import classifier, export


@cache
def network():
    """The shipped classifier of ground truth."""
    return classifier.load(export.WEIGHTS / "judge")


def read(images):
    """The likeliest value of each head for uint8 images [N, 64, 64, 3]: head -> list of N values."""
    return {name: [HEADS[name][i] for i in chances.argmax(1)] for name, chances in network().read(images).items()}
