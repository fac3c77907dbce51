"""Whether a training on this device repeats: bit for bit, or how far apart two runs of it are."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from benchmarks.gpu.lines import Line, judged
from benchmarks.gpu.setup import Setup, alone
from trainers.families import family_of
from trainers.loop import train
from trainers.spec import TrainSpec

HALFWAY, END = 3, 6  # optimizer steps
CALLS = {"once": [[END]], "twice": [[END]], "resumed": [[HALFWAY], [END]], "passing": [[END, 2 * END]]}
Weights = dict[str, Tensor]


def lines(setup: Setup) -> Iterator[Line]:
    chance, resumed, passing = alone(distances, setup.spec(mixed_precision=setup.half))
    yield Line("the same training twice", words(chance))
    for name, found in (("a training stopped and resumed", resumed), ("step n on the way and at the end", passing)):
        yield judged(name, words(found), "no further apart than twice two equal runs", found <= 2 * chance)


def distances(spec: TrainSpec) -> tuple[float, float, float]:
    """Of a training's weights at END from those of it again, of it resumed, and of a training of twice the length; as
    shares of how far the weights moved."""
    with tempfile.TemporaryDirectory() as folder:
        once, *others = (weights(spec, Path(folder) / name, calls) for name, calls in CALLS.items())
    untuned = family_of(spec.model).load(spec.model).network.state_dict()
    moved = apart(once, untuned)
    again, resumed, passing = (apart(once, other) / moved for other in others)
    return again, resumed, passing


def weights(spec: TrainSpec, folder: Path, calls: list[list[int]]) -> Weights:
    resumed = len(calls) > 1  # else a state of 10 GB is written for nothing
    for steps in calls:
        checkpoints = list(train(spec, steps, folder, class_images=Path(spec.subject.images), goes_on=lambda: resumed))
    found: Weights = next(c for c in checkpoints if c.step == END).components().network.state_dict()
    return found


def apart(one: Weights, other: Weights) -> float:
    """The Euclidean distance."""
    return sum(float((one[name].float() - other[name].float()).square().sum()) for name in one) ** 0.5


def words(share: float) -> str:
    return "bit for bit equal" if share == 0 else f"{share:.1e} of how far the weights moved"
