"""What trainings take on to fit the card: decided before the plan is printed, and kept with the sweep.

NAME/fit.json           the memory that it was decided for, and what each training took, by its signature as typed
store/cache/fits.json   every decision made here, as making one takes ten seconds

Nothing here imports torch unless there is a card to ask, or an estimate to make.
"""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from sweeper.engine.local import PROJECT, QUIET
from sweeper.plan.axes import bytes_of, describe
from sweeper.plan.downloads import is_here
from sweeper.plan.gpus import count_gpus, visible
from sweeper.plan.grid import Grid
from sweeper.plan.types import Cell
from sweeper.settings import Settings
from trainers.errors import BrokenFile, DoesNotFit, SpecError
from trainers.files import read_json, understood, write_json
from trainers.lighter import Option, on_top, unasked
from trainers.sizes import host_bytes
from trainers.spec import ModelSpec, SubjectSpec, TrainSpec, signature
from trainers.validate import AMPERE, OF_OTHERS, check_capability

FIT = "fit.json"
KNOWN = "cache/fits.json"  # of the store
LIBRARIES = ("torch", "diffusers", "transformers", "peft")  # that an estimate depends on
AUTO = "auto"
GB = 1024**3


@dataclass(frozen=True)
class Card:
    """What one training has for itself."""

    memory: int  # bytes
    name: str = ""  # empty: it is not there, its memory was typed
    capability: tuple[int, int] = AMPERE

    @property
    def visible(self) -> bool:
        return bool(self.name)


def visible_card() -> Card | None:
    """A GPU as small as the smallest that is visible, and as old as the oldest; None where there is none.

    Raises:
        SpecError: the driver, or the user, names one and torch sees none: on a processor the sweep would take weeks.
    """
    if not count_gpus():
        return None
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    if not found:
        raise SpecError(_unseen(torch.version.cuda or torch.version.hip))
    cards = [
        Card(each.total_memory, each.name, OF_OTHERS if torch.version.hip else (each.major, each.minor))
        for each in found
    ]
    oldest = min(cards, key=lambda card: card.capability)
    return replace(oldest, memory=min(card.memory for card in cards))


def _unseen(build: str | None) -> str:
    """Why torch sees no GPU. build: the version of CUDA, or ROCm, that it was built for."""
    shown = visible()
    named = "this machine has a GPU" if shown is None else f"CUDA_VISIBLE_DEVICES={shown} names a GPU"
    why = f"none that CUDA {build} can use: nvidia-smi says what is there" if build else "was built without CUDA"
    found = f"torch sees {why}" if build else f"torch {why}: install one of pytorch.org's builds for it"
    return f"{named}, but {found}; CUDA_VISIBLE_DEVICES= (empty) takes the processor."


@dataclass
class Fit:
    """What the trainings of one sweep take on."""

    folder: Path  # of the sweep
    settings: Settings
    card: Card | None  # that is there, or was typed
    memory: int | None  # that it is decided for
    decided: dict[str, Option] = field(default_factory=dict)  # by signature of the training as typed
    known: dict[str, Any] = field(default_factory=dict)  # what was decided here, in whichever sweep
    absent: dict[ModelSpec, bool] = field(default_factory=dict)  # models, and whether they are to be downloaded
    undecided: bool = False  # a model is not here yet
    kept: bool = False
    since: str = ""  # where it was decided for another card

    @classmethod
    def of(cls, folder: Path, settings: Settings) -> "Fit":
        """As it was decided when the sweep began; else to be decided for the card that was typed, or is there."""
        card = visible_card()
        if settings.device_memory:
            typed = bytes_of(settings.device_memory)
            card = replace(card, memory=typed) if card else Card(typed)
        card = card and replace(card, memory=card.memory // settings.trials_per_gpu)
        memory = card.memory if card else None
        if not (folder / FIT).exists():
            return cls(folder, settings, card, memory)
        begun = read_json(folder / FIT)
        with understood(folder / FIT):
            then = int(begun["memory"])
            decided = dict(begun["decided"])
        since = "" if then == memory else f"as decided for {_gb(then)} when this sweep began"
        return cls(folder, settings, card, then, decided, since=since)

    def keep(self) -> None:
        """From here on what is decided is written down, so that the same command decides the same on any machine."""
        self.kept = True
        self._write()

    def _write(self) -> None:
        if self.kept and self.memory is not None:
            write_json(self.folder / FIT, {"memory": self.memory, "decided": self.decided})

    def grid(self, grid: Grid) -> Grid:
        return replace(grid, cells=self.cells(grid.cells, grid.axes))

    def cells(self, cells: Sequence[Cell], axes: Collection[str]) -> tuple[Cell, ...]:
        """The cells with what their trainings take on. What is an axis of the sweep stays as it is asked.

        Raises:
            SpecError: nothing makes a training fit, or it does not fit as it is asked and `fit=strict`.
        """
        if self.memory is None:
            return tuple(cells)
        served: dict[TrainSpec, list[Cell]] = {}
        for cell in cells:
            served.setdefault(cell.train, []).append(cell)
        before = len(self.decided)
        taken = {spec: self._taken(spec, same, axes) for spec, same in served.items()}
        if len(self.decided) > before:
            self._write()
        return tuple(_with(cell, taken[cell.train]) for cell in cells)

    def _taken(self, spec: TrainSpec, cells: Sequence[Cell], axes: Collection[str]) -> Option:
        samples = [cell.sample for cell in cells]
        if self.card:
            check_capability(spec, samples, self.card.name, self.card.capability)
        if spec.signature not in self.decided:
            if spec.model not in self.absent:
                self.absent[spec.model] = not is_here(spec.model)
            if self.absent[spec.model]:
                self.undecided = True
                return {}
            try:
                self.decided[spec.signature] = self._known(spec, cells, axes)
            except OSError:  # of the model's configuration
                self.undecided = True
                return {}
        return self.decided[spec.signature]

    def _known(self, spec: TrainSpec, cells: Sequence[Cell], axes: Collection[str]) -> Option:
        """What was decided here before in the same case, in whichever sweep; else what is decided now."""
        store = self.settings.output_dir / "store"
        key = self._key(spec, cells, axes)
        if key not in self.known:
            self.known = _read(store / KNOWN)
        if key not in self.known:
            try:
                self.known[key] = {"taken": self._decision(spec, cells, axes)}
            except DoesNotFit as error:
                self.known[key] = {"refused": str(error)}
            if store.is_dir():
                write_json(store / KNOWN, self.known)
        if "refused" in self.known[key]:
            raise DoesNotFit(self.known[key]["refused"])
        return dict(self.known[key]["taken"])

    def _key(self, spec: TrainSpec, cells: Sequence[Cell], axes: Collection[str]) -> str:
        """Of all that a decision depends on."""
        alike = replace(spec, subject=SubjectSpec("", ""), lr=1e-6, seed=0, horizon=spec.horizon and 1)
        samples = sorted({signature(cell.sample) for cell in cells})
        encoders = sorted({each for cell in cells for each in (cell.evaluation.clip, cell.evaluation.dino)})
        how = (self.memory, self.settings.gpus_per_trial, self.settings.fit, self._has_bf16, sorted(axes))
        return signature(alike, samples, encoders, how, _estimator())

    @property
    def _has_bf16(self) -> bool:
        return self.card is None or self.card.capability >= AMPERE

    def _decision(self, spec: TrainSpec, cells: Sequence[Cell], axes: Collection[str]) -> Option:
        """The fewest options, in their order, that make the training fit."""
        for name, value in QUIET.items():  # before the libraries are imported, for which the plan is no place to remark
            os.environ.setdefault(name, value)
        from evaluation.memory import beside
        from trainers.memory import MARGIN, check_fits, estimate, same_memory

        assert self.memory is not None
        spec = same_memory(spec)
        processes = self.settings.gpus_per_trial
        needed = beside([cell.sample for cell in cells], [cell.evaluation for cell in cells])
        options = [option for option in unasked(spec, processes) if not option.keys() & set(axes)]
        ways = [spec] + [way for _, way in on_top(spec, options)] * (self.settings.fit == AUTO)
        for way in ways:
            total = estimate(way, "cuda", processes, needed).total
            if total <= self.memory or (way == ways[-1] and total <= MARGIN * self.memory):
                return {name: getattr(way, name) for option in options for name in option if _differ(way, spec, name)}
        check_fits(spec, self.memory, "cuda", processes, needed, self._has_bf16)
        raise AssertionError("what does not fit is refused")

    @property
    def lines(self) -> list[str]:
        """What to say of it with the plan."""
        taken = Counter(describe(option, option) for option in self.decided.values() if option)
        said = [
            f"{options}: taken to fit {_gb(self.memory)}, by {count} of {len(self.decided)} trainings"
            for options, count in taken.items()
        ]
        later = ["decided once the model is here"] if self.undecided else []
        return [*said, *later, *([self.since] if self.since else [])]

    def say(self, console: Console, spec: TrainSpec, processes: int) -> None:
        """spec: the largest of the trainings, `processes` of which run at once."""
        rows = [("fit", line) for line in self.lines]
        crowded = self.crowded(spec, processes)
        for name, value in [*rows, *([("host memory", crowded)] if crowded else [])]:
            console.print(f"  {name:<17} {value}", markup=False, soft_wrap=True)

    def crowded(self, spec: TrainSpec, processes: int) -> str:
        """What to say where the processes with a GPU need more than the machine's own memory."""
        if self.card is None or not self.card.visible or self.undecided:
            return ""
        import psutil

        needed = processes * host_bytes(spec.model)
        there = psutil.virtual_memory().total
        if needed <= there:
            return ""
        return (
            f"{processes} at once need about {_gb(needed)} of the machine's memory and there are {_gb(there)}: show "
            "fewer GPUs (CUDA_VISIBLE_DEVICES)"
        )


def _read(path: Path) -> dict[str, Any]:
    """What was decided here; nothing where that cannot be read."""
    try:
        return dict(read_json(path)) if path.exists() else {}
    except (BrokenFile, ValueError):
        return {}


@cache
def _estimator() -> str:
    """The code and the libraries that estimate."""
    code = [(PROJECT / "evaluation/memory.py"), *sorted((PROJECT / "trainers").rglob("*.py"))]
    return signature([path.read_text() for path in code], [version(name) for name in LIBRARIES])


def _differ(way: TrainSpec, spec: TrainSpec, name: str) -> bool:
    return bool(getattr(way, name) != getattr(spec, name))


def _with(cell: Cell, option: Option) -> Cell:
    """The cell of a training that takes something on; shown as if it had been typed."""
    if not option:
        return cell
    params = {**dict(cell.params), **option}
    return replace(cell, train=replace(cell.train, **option), params=tuple(params.items()))


def _gb(size: int | None) -> str:
    return f"{(size or 0) / GB:.1f} GB"
