"""Trainings on a card that is made smaller than it is."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.lines import Line, judged, skipped
from benchmarks.gpu.setup import GB, Setup, alone
from trainers.errors import SpecError
from trainers.lighter import lighter
from trainers.loop import train
from trainers.memory import check_fits, estimate
from trainers.spec import TrainSpec

CAPS = (8, 12, 16, 24)  # GB


def lines(setup: Setup) -> Iterator[Line]:
    """What the estimate says fits must train, and what it refuses must be too large."""
    cases = {
        "U-Net": setup.spec(mixed_precision="fp16"),
        "with text encoder": setup.spec(mixed_precision="fp16", train_text_encoder=True),
    }
    for cap in CAPS:
        for name, spec in cases.items():
            what = f"{cap} GB: {name}, fp16"
            if not setup.gpu or cap * GB > setup.memory:
                yield skipped(what, "the card is smaller" if setup.gpu else "needs a GPU")
                continue
            yield judged(what, *alone(under, spec, cap * GB))


def under(spec: TrainSpec, cap: int) -> tuple[str, str, bool]:
    """(what happened, what was wanted, whether it did) with `cap` bytes of the card."""
    torch.cuda.set_per_process_memory_fraction(cap / torch.cuda.get_device_properties(0).total_memory)
    typed = ""
    try:
        check_fits(spec, cap)
    except SpecError:
        fitting = [(text, other) for text, other in lighter(spec) if estimate(other, "cuda").total <= cap]
        if not fitting:
            return f"refused: needs {estimate(spec, 'cuda').total / GB:.1f} GB", "refused", True
        typed, spec = fitting[0]
    wanted = f"trains{typed and ' with '}{typed}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            list(train(spec, [3], Path(folder), class_images=Path(spec.subject.images)))
        except torch.OutOfMemoryError:
            return "out of memory", wanted, False
    return f"{torch.cuda.max_memory_reserved() / GB:.1f} GB reserved", wanted, True
