"""What trainings take on to fit the card: decided before the plan is printed, and kept with the sweep.

NAME/fit.json   the memory that it was decided for, and what each training took, by the signature of what was typed

Nothing here imports torch unless there is a card to ask, or an estimate to make.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from sweeper.engine.devices import count_gpus
from sweeper.plan.axes import bytes_of, describe
from sweeper.plan.grid import Grid
from sweeper.plan.types import Cell
from sweeper.settings import Settings
from trainers.files import read_json, understood, write_json
from trainers.lighter import Option, on_top, unasked
from trainers.spec import TrainSpec
from trainers.validate import AMPERE, check_capability

FIT = "fit.json"
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
    """A GPU as small as the smallest that is visible, and as old as the oldest; None where there is none."""
    if not count_gpus():
        return None
    import torch

    from trainers.memory import capability, capacity

    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    cards = [Card(capacity(d), torch.cuda.get_device_name(d), capability(d)) for d in devices]
    oldest = min(cards, key=lambda card: card.capability, default=None)
    return oldest and replace(oldest, memory=min(card.memory for card in cards))


@dataclass
class Fit:
    """What the trainings of one sweep take on."""

    folder: Path  # of the sweep
    settings: Settings
    card: Card | None  # that is there, or was typed
    memory: int | None  # that it is decided for
    decided: dict[str, Option] = field(default_factory=dict)  # by signature of the training as typed
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
            try:
                self.decided[spec.signature] = self._decision(spec, cells, axes)
            except OSError:  # of the model's configuration
                self.undecided = True
                return {}
        return self.decided[spec.signature]

    def _decision(self, spec: TrainSpec, cells: Sequence[Cell], axes: Collection[str]) -> Option:
        """The fewest options, in their order, that make the training fit."""
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
        has_bf16 = self.card is None or self.card.capability >= AMPERE
        check_fits(spec, self.memory, "cuda", processes, needed, has_bf16)
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

        from trainers.memory import host

        needed = processes * host(spec)
        there = psutil.virtual_memory().total
        if needed <= there:
            return ""
        return (
            f"{processes} at once need about {_gb(needed)} of the machine's memory and there are {_gb(there)}: show "
            "fewer GPUs (CUDA_VISIBLE_DEVICES)"
        )


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
