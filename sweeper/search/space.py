"""The arguments typed after -m, sorted: what a search samples, and what each of its trials serves without sampling."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from evaluation.spec import show
from sweeper.plan.axes import Axis, Stage, axis_of, coerce, with_stage
from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import expand
from sweeper.plan.inversions import inversion_steps
from sweeper.plan.types import Cell, Training
from trainers.errors import SpecError
from trainers.spec import TrainSpec
from trainers.stages import inversion_stage

FREE: tuple[Stage, ...] = ("checkpoint", "sample")  # stages that cost no training
DIGITS = 3  # significant ones of a sampled number, so that what the page shows can be typed
DECADE = 10
PLAIN = (bool, int, float, str)  # values that Optuna keeps as they are


@dataclass(frozen=True)
class Interval:
    """A range of numbers, ends included."""

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    @property
    def distribution(self) -> BaseDistribution:
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def ends(self) -> list[str]:
        return [show(self.low), show(self.high)]

    def text(self, value: float) -> str:
        rounded = value if self.whole else float(f"{value:.{DIGITS}g}")
        return show(min(max(rounded, self.low), self.high))

    def __str__(self) -> str:
        return f"{self.key}=[{show(self.low)}, {show(self.high)}]" + (" log" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """Values without an order, and how each is typed."""

    key: str
    texts: dict[Any, str]

    @property
    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution(list(self.texts))

    @property
    def ends(self) -> list[str]:
        return list(self.texts.values())

    def text(self, value: Any) -> str:
        return self.texts[value]

    def __str__(self) -> str:
        return f"{self.key}={{{','.join(self.texts.values())}}}"


@dataclass(frozen=True)
class Arguments:
    """What was typed after -m, and how it becomes cells."""

    overrides: tuple[Override, ...]
    compose: Callable[[list[str]], DictConfig]
    parse: Callable[[Sequence[str]], list[Override]]
    fitted: Callable[[Sequence[Cell]], tuple[Cell, ...]] = tuple  # what they take on to fit the card

    def cells(self, texts: dict[str, str]) -> tuple[Cell, ...]:
        """The cells where the axes have the values typed as `texts`. Raises SpecError."""
        lines = []
        for override in self.overrides:
            text = texts.get(_key(override))
            lines.append(str(override.input_line) if text is None else f"{override.get_key_element()}={text}")
        return self.fitted(expand(self.parse(lines), self.compose).cells)


@dataclass(frozen=True)
class Space:
    """The axes that are sampled; the rest of what was typed is in every trial."""

    axes: tuple[Interval | Choice, ...]
    free: tuple[Choice, ...]  # lists that every trial serves whole
    dearest: Training  # the most expensive of those at the ends of the axes
    arguments: Arguments
    one_inversion: bool  # whether all trainings start from the same textual inversion, if from any

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {axis.key: axis.distribution for axis in self.axes}

    @cached_property
    def combinations(self) -> list[dict[str, Any]] | None:
        """Every point of the space; None where one of its axes is an interval."""
        choices = [axis for axis in self.axes if isinstance(axis, Choice)]
        if len(choices) < len(self.axes):
            return None
        keys = [choice.key for choice in choices]
        return [dict(zip(keys, point, strict=True)) for point in itertools.product(*(c.texts for c in choices))]

    @property
    def keys(self) -> list[str]:
        """The keys that have several values, in the order typed."""
        several = {axis.key for axis in (*self.axes, *self.free)}
        return [_key(override) for override in self.arguments.overrides if _key(override) in several]

    def fit(self, fitted: Callable[[Sequence[Cell], Sequence[str]], tuple[Cell, ...]]) -> "Space":
        """The same, with what the cells of its trials take on to fit the card."""

        def adjust(cells: Sequence[Cell]) -> tuple[Cell, ...]:
            return fitted(cells, self.keys)

        dearest = compile_plan(adjust(self.dearest.cells)).trainings[0]
        return replace(self, dearest=dearest, arguments=replace(self.arguments, fitted=adjust))

    def varying(self, cells: Sequence[Cell]) -> dict[str, tuple[Any, ...]]:
        """The values of each key that varies among `cells`: those of an interval in order, others as they come."""
        ranges = {axis.key for axis in self.axes if isinstance(axis, Interval)}
        found = {key: dict.fromkeys(dict(cell.params)[key] for cell in cells) for key in self.keys}
        ordered = {key: tuple(sorted(values) if key in ranges else values) for key, values in found.items()}
        return {key: values for key, values in ordered.items() if len(values) > 1}

    def training(self, params: dict[str, Any]) -> Training:
        """The training that serves all cells of a trial. Raises SpecError where there is no such training."""
        texts = {axis.key: axis.text(params[axis.key]) for axis in self.axes}
        trainings = compile_plan(self.arguments.cells(texts)).trainings
        if len(trainings) > 1:
            raise SpecError(f"{' x '.join(map(str, self.free))}: each value is a training of its own here; give one.")
        return trainings[0]


def search_space(
    overrides: Sequence[Override],
    compose: Callable[[list[str]], DictConfig],
    parse: Callable[[Sequence[str]], list[Override]],
) -> Space:
    """Sorts what was typed, and tries every axis at its ends. Raises SpecError."""
    swept = [override for override in overrides if override.is_sweep_override()]
    for override in swept:
        _check(override)
    axes = [_axis(override) for override in swept if not _is_free(axis_of(_key(override)))]
    free = [_choice(override) for override in swept if _is_free(axis_of(_key(override)))]
    arguments = Arguments(tuple(overrides), compose, parse)
    cells = _at_the_ends(arguments, axes)
    costly = [choice for choice in free if _costs_training(choice.key, cells, [*axes, *free])]
    axes += costly
    if not axes:
        raise SpecError(
            "nothing to search: give a range such as 'lr=interval(1e-7,1e-5)' or several values of an axis; "
            f"{', '.join(free_axes())} cost no training and are never sampled."
        )
    rest = tuple(choice for choice in free if choice not in costly)
    trainings = compile_plan(cells).trainings
    stages = {inversion_stage(t.spec).signature for t in trainings if inversion_steps(t.spec)}
    return Space(tuple(axes), rest, max(trainings, key=_expense), arguments, one_inversion=len(stages) <= 1)


def _expense(training: Training) -> int:
    """Images that pass through the networks."""
    return (training.last_step + inversion_steps(training.spec)) * training.spec.images_per_step


def _key(override: Override) -> str:
    return str(override.key_or_group)


def free_axes() -> tuple[str, ...]:
    """The names of the axes that cost no training."""
    return with_stage(*FREE)


def _is_free(axis: Axis) -> bool:
    """Whether every trial serves all of its values without another training."""
    return axis.stage in FREE


def _check(override: Override) -> None:
    key = _key(override)
    if axis_of(key).stage == "judge":
        raise SpecError(f"{override.input_line}: a search compares all trials by one evaluation; give one value.")
    if _is_free(axis_of(key)) and not override.is_discrete_sweep():
        raise SpecError(f"{override.input_line}: {key} costs no training, so each trial serves a whole list; give one.")


def _axis(override: Override) -> Interval | Choice:
    value = override.value()
    return _interval(override, value) if isinstance(value, IntervalSweep) else _choice(override)


def _choice(override: Override) -> Choice:
    known: dict[Any, str] = {}
    for value, typed in zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True):
        value = getattr(value, "text", value)  # of a quoted string
        if isinstance(value, str):
            known[value] = typed
        elif isinstance(value, PLAIN):
            known[value] = show(value)
        else:
            known[typed] = typed
    return Choice(_key(override), known)


def _interval(override: Override, value: IntervalSweep) -> Interval:
    key = _key(override)
    axis = axis_of(_key(override))
    kind = axis.kind
    if kind not in (int, float):
        raise SpecError(f"{override.input_line}: {key} takes no range; give a list of values.")
    try:
        low = coerce(kind, value.start)
        high = coerce(kind, value.end)
    except (ValueError, OverflowError) as error:
        raise SpecError(f"{override.input_line}: the ends must be {'whole ' * (kind is int)}numbers.") from error
    if not low < high:
        raise SpecError(f"{override.input_line}: the first end must be below the second.")
    wide = low > 0 and high > DECADE * low
    log = low > 0 and (wide or "log" in value.tags or axis.log)
    return Interval(key, low, high, log, kind is int)


def _at_the_ends(arguments: Arguments, axes: Sequence[Interval | Choice]) -> list[Cell]:
    """Cells with each axis at each of its ends (or values) and the others at their first. They show what is wrong with
    any value before anything runs."""
    if not axes:
        return list(arguments.cells({}))
    first = {axis.key: axis.ends[0] for axis in axes}
    found: list[Cell] = []
    for axis in axes:
        found += arguments.cells(first | {axis.key: ",".join(axis.ends)})
    return found


def _costs_training(key: str, cells: Iterable[Cell], axes: Iterable[Interval | Choice]) -> bool:
    """Whether cells that differ in `key` only need different trainings, as with a schedule that knows its horizon."""
    others = [axis.key for axis in axes if axis.key != key]
    trainings: dict[tuple[Any, ...], set[TrainSpec]] = {}
    for cell in cells:
        params = dict(cell.params)
        trainings.setdefault(tuple(params.get(other) for other in others), set()).add(cell.train)
    return any(len(found) > 1 for found in trainings.values())
