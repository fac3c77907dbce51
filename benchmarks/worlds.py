"""Synthetic sweeps whose true s and t are known, for judging how a checkpoint is chosen.

Subject fidelity s rises and prompt fidelity t falls along the progress a * log(lr) + b * log(steps); further axes move
both thresholds. On top lie a smooth field, a real effect of each training and a real effect of each checkpoint. An
image shows the truth plus an effect of its prompt, which all candidates share and which changes along the progress,
plus noise of the image, of which a part is shared because all candidates start from the same noise. The constants were
fixed before any result of the rules under comparison was seen.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TRAINING, CHECKPOINT, CELL = 0.03, 0.012, 0.009  # sd of real effects; the last two are one checkpoint's: .015 together
PROMPT, TILT = 0.05, 0.5  # sd of the prompt's effect; the share of its variance that grows along the progress
IMAGE, SHARED, UNEVEN = 0.08, 0.03, 0.2  # sd of an image's noise; the part all candidates share; spread of log sd
FIELD, FIELD_LENGTH = 0.02, 1.5  # smooth departure from the formula: sd and length, in units of log lr and log steps
ROUGH, ROUGH_LENGTH = 0.06, 0.35  # neighbours on a grid of factors of two lie .7 apart
SEEN = 0.002  # sd of the differences in a world where all are equal: too small for anybody to see
SHAPE = {8: (4, 2), 16: (8, 2)}  # images per checkpoint -> prompts, images per prompt


@dataclass(frozen=True)
class Sweep:
    """One sweep: C candidates with their truth and what was measured of P prompts and K images each."""

    lr: Floats  # [C]
    steps: Floats  # [C]
    axes: Ints  # [C, A] the value of each further axis, as a number that stands for a name
    training: Ints  # [C] the candidates of a training share its number
    s: Floats  # [C] the truth
    t: Floats  # [C]
    values_s: Floats  # [C, P, K] measured
    values_t: Floats  # [C, P, K]

    @property
    def truth(self) -> Floats:
        """The true score [C]."""
        s = np.clip(self.s, 0, 1)
        t = np.clip(self.t, 0, 1)
        return 2 * s * t / np.maximum(s + t, 1e-12)


@dataclass(frozen=True)
class World:
    """A kind of sweep. `alike`: neighbours resemble each other, so that a model of the surface ought to help."""

    name: str
    kind: str  # smooth | rough | curves | independent | plateau | nothing | equal
    lrs: int
    steps: int
    ways: int = 1  # ways of sampling: candidates of the same checkpoint
    recipes: int = 1  # of training, such as with and without prior preservation
    scattered: bool = False  # a search: every training has an lr of its own
    alike: bool = True


WORLDS = (
    World("few cells", "smooth", 3, 3),
    World("one axis", "smooth", 1, 12),
    World("two axes", "smooth", 4, 6),
    World("three axes", "smooth", 3, 6, ways=3),
    World("four axes", "smooth", 3, 6, ways=3, recipes=2),
    World("many cells", "smooth", 6, 12, recipes=3),
    World("search", "smooth", 24, 5, recipes=2, scattered=True),
    World("plateau", "plateau", 3, 6, ways=3, recipes=2),
    World("rough", "rough", 3, 6, ways=3, recipes=2, alike=False),
    World("independent curves", "curves", 6, 6, recipes=2, alike=False),
    World("independent cells", "independent", 4, 6, recipes=2, alike=False),
    World("nothing learned", "nothing", 3, 6, ways=3, alike=False),
    World("all equal", "equal", 3, 6, ways=3, alike=False),
)


def draw(world: World, images: int, seed: int, repeat: int) -> Sweep:
    """The sweep number `repeat` of a world; the same truth whatever the images."""
    stream = [seed, crc32(world.name.encode()), repeat]
    true = truth(world, np.random.default_rng(stream))
    return measure(true, *SHAPE[images], np.random.default_rng([*stream, images]))


def truth(world: World, rng: np.random.Generator) -> Sweep:
    """A sweep with its truth, not measured yet."""
    grid = layout(world, rng)
    names = training_and_checkpoint(grid)
    if world.kind == "independent":
        s, t = rng.uniform(0.3, 1, (2, len(grid.lr)))
    elif world.kind == "equal":
        s, t = np.array([[0.8], [0.85]]) + rng.normal(0, SEEN, (2, len(grid.lr)))
    else:
        s, t = surfaces(world, grid, rng)
        scale = 0.3 if world.kind == "nothing" else 1.0
        s = s + scale * effects(names, rng)
        t = t + effects(names, rng)
    return replace(grid, s=s, t=t)


def layout(world: World, rng: np.random.Generator) -> Sweep:
    """The grid or the search: lr in factors of two, steps in factors of two or in equal distances."""
    if rng.random() < 0.5:
        steps = np.round(1000 / 2.0 ** np.linspace(min(world.steps - 1, 5), 0, world.steps))
    else:
        steps = np.round(np.linspace(1000 / world.steps, 1000, world.steps))
    lrs = 2e-6 * 2.0 ** (np.arange(world.lrs) - (world.lrs - 1) / 2)
    recipes = np.arange(world.recipes)
    if world.scattered:
        lrs = 2e-6 * 2.0 ** rng.uniform(-3, 3, world.lrs)
        trainings = [
            (lr, int(recipe)) for lr, recipe in zip(lrs, rng.integers(world.recipes, size=world.lrs), strict=True)
        ]
    else:
        trainings = [(lr, int(recipe)) for lr in lrs for recipe in recipes]
    rows = np.array(
        [(lr, step, recipe, way, i) for i, (lr, recipe) in enumerate(trainings) for step in steps
         for way in range(world.ways)]
    )  # fmt: skip
    nothing = np.full(len(rows), np.nan)
    counts = {2: world.recipes, 3: world.ways}
    axes = rows[:, [column for column, count in counts.items() if count > 1]].astype(np.int64)
    empty = nothing[:, None, None]
    return Sweep(rows[:, 0], rows[:, 1], axes, rows[:, 4].astype(np.int64), nothing, nothing, empty, empty)


def training_and_checkpoint(sweep: Sweep) -> tuple[Ints, Ints]:
    """Numbers [C] that are the same for candidates of one training, and of one checkpoint."""
    _, checkpoint = np.unique(np.column_stack([sweep.training, sweep.steps]), axis=0, return_inverse=True)
    return sweep.training, checkpoint.ravel().astype(np.int64)


def surfaces(world: World, grid: Sweep, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """s and t [C] before the effects of training and checkpoint."""
    u = np.log(grid.lr / 2e-6)
    v = np.log(grid.steps / 250)
    along = rng.uniform(0.7, 1.3) * u + rng.uniform(0.7, 1.3) * v
    group = grid.training if world.kind == "curves" else np.zeros(len(u), np.int64)
    groups = int(group.max()) + 1
    half_s = rng.normal(-0.5, 0.5, groups)
    half_t = half_s + rng.uniform(0.5, 2.5, groups)
    top = rng.uniform(0.75, 1, groups)
    loss = rng.uniform(0.4, 1, groups)
    width_s, width_t = rng.uniform(0.35, 0.9, (2, groups))
    if world.kind == "plateau":
        half_s = half_s - 3
        half_t = half_t + 4
    if world.kind == "nothing":
        top = rng.uniform(0, 0.05, groups)
    move_s, move_t, level_s, level_t = np.zeros((4, len(u)))
    for axis in grid.axes.T:
        values = int(axis.max()) + 1
        move_s = move_s + rng.normal(0, 0.4, values)[axis]
        move_t = move_t + rng.normal(0, 0.4, values)[axis]
        level_s = level_s + rng.normal(0, 0.03, values)[axis]
        level_t = level_t + rng.normal(0, 0.03, values)[axis]
    field = 0.3 * FIELD if world.kind == "nothing" else FIELD
    learned = top[group] / (1 + np.exp(-(along - half_s[group] - move_s) / width_s[group]))
    lost = loss[group] / (1 + np.exp(-(along - half_t[group] - move_t) / width_t[group]))
    s = learned + level_s * learned + smooth_field(u, v, field, FIELD_LENGTH, rng)
    t = rng.uniform(0.9, 1) - lost + level_t + smooth_field(u, v, FIELD, FIELD_LENGTH, rng)
    if world.kind == "rough":
        s = s + smooth_field(u, v, ROUGH, ROUGH_LENGTH, rng)
        t = t + smooth_field(u, v, ROUGH, ROUGH_LENGTH, rng)
    return s, t


def smooth_field(u: Floats, v: Floats, sd: float, length: float, rng: np.random.Generator) -> Floats:
    """A random function of two coordinates, from 200 cosine waves (a Gaussian kernel's spectrum)."""
    waves = rng.normal(0, 1 / length, (2, 200))
    phases = rng.uniform(0, 2 * np.pi, 200)
    field: Floats = sd * np.sqrt(2 / 200) * np.cos(np.outer(u, waves[0]) + np.outer(v, waves[1]) + phases).sum(1)
    return field


def effects(names: tuple[Ints, Ints], rng: np.random.Generator) -> Floats:
    """Real differences that no surface knows of: by training, by checkpoint, by way of sampling a checkpoint."""
    training, checkpoint = names
    of_training = rng.normal(0, TRAINING, int(training.max()) + 1)[training]
    of_checkpoint = rng.normal(0, CHECKPOINT, int(checkpoint.max()) + 1)[checkpoint]
    effect: Floats = of_training + of_checkpoint + rng.normal(0, CELL, len(training))
    return effect


def measure(sweep: Sweep, prompts: int, images: int, rng: np.random.Generator) -> Sweep:
    """The same prompts and initial noise for every candidate."""
    along = np.log(sweep.lr) + np.log(sweep.steps)
    position = (along - along.mean()) / (along.std() or 1)
    own = np.sqrt(IMAGE**2 - SHARED**2) * np.exp(rng.normal(0, UNEVEN, len(along)))
    measured = []
    for true in (sweep.s, sweep.t):
        level = PROMPT * np.sqrt(1 - TILT) * rng.normal(size=prompts)
        tilt = PROMPT * np.sqrt(TILT) * rng.normal(size=prompts)
        by_prompt = true[:, None] + level + position[:, None] * tilt
        shared = rng.normal(0, SHARED, (prompts, images))
        noise = own[:, None, None] * rng.normal(size=(len(along), prompts, images))
        measured.append(by_prompt[:, :, None] + shared + noise)
    return replace(sweep, values_s=measured[0], values_t=measured[1])


def read_worlds(path: Path) -> Iterator[tuple[str, bool, Sweep]]:
    """Sweeps of a JSON file: a list of objects, one for each sweep, that yield (name of its world, alike, sweep).

    Keys: `world` (text), `alike` (whether neighbours resemble each other), `lr`, `steps`, `training` (any number),
    `s`, `t` (the truth), each with an entry for each of C candidates; `axes` (C lists of numbers that stand for the
    values of further axes, may be empty lists); `values_s` and `values_t` (C x prompts x images, as measured).
    """
    for entry in json.loads(path.read_text()):
        floats = {name: np.array(entry[name], float) for name in ("lr", "steps", "s", "t", "values_s", "values_t")}
        axes = np.array(entry["axes"], np.int64).reshape(len(entry["lr"]), -1)
        training = np.array(entry["training"], np.int64)
        yield entry["world"], bool(entry["alike"]), Sweep(axes=axes, training=training, **floats)
