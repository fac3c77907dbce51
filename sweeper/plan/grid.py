"""From what was typed to the cells of the grid. Hydra takes 0.1 s for a config, so plain values are set without it."""

import difflib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from evaluation.spec import show
from sweeper.plan.axes import AXES, GROUPS, RUN, axis_of, check
from sweeper.plan.compile import distinct
from sweeper.plan.config import read_cell, sections
from sweeper.plan.types import Cell
from trainers.errors import SpecError

CONF = Path(__file__).resolve().parents[2] / "conf"
MOST = 100_000  # cells; more would take minutes to plan and not fit on a page


@dataclass(frozen=True)
class Grid:
    cells: tuple[Cell, ...]
    axes: dict[str, tuple[Any, ...]]  # those that vary, in the order typed


def options(group: str) -> list[str]:
    folder = CONF / group
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


def _load(name: str) -> dict[str, Any]:
    """A file of conf/ as it is written, without what it includes."""
    return _plain(OmegaConf.load(CONF / f"{name}.yaml"), resolve=False)


def _plain(config: Any, resolve: bool) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=resolve))


def _settings(defaults: dict[str, Any], roots: Sequence[str]) -> list[str]:
    """Every key that can be typed. The files of a group have the same settings."""
    inner = [f"{root}.{name}" for root in roots if isinstance(defaults[root], dict) for name in defaults[root]]
    files = [(group, _load(f"{group}/{option}")) for group in GROUPS for option in options(group)]
    nested = [f"{group}.{name}" for group, file in files for name in file if name != "defaults"]
    return list(dict.fromkeys([*roots, *inner, *nested, *GROUPS]))


def check_arguments(arguments: Sequence[str], multirun: bool) -> None:
    """Raises SpecError for a key that does not exist and names the nearest ones. Reads conf/ without Hydra."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(arguments))
    except HydraException as error:
        raise SpecError(f"{str(error).splitlines()[0]}: an argument is KEY=VALUE, such as lr=2e-6.") from error
    defaults = _load("sweep")
    roots = [name for name in defaults if name not in ("defaults", "hydra")]
    known = _settings(defaults, roots)
    for override in overrides:
        key = str(override.key_or_group)
        _check_form(override, multirun)
        if key in RUN and not override.is_sweep_override():
            _check_run(key, override.value())
        if key in roots and isinstance(defaults[key], dict):
            settings = ", ".join(f"{key}.{name}" for name in defaults[key])
            raise SpecError(f"{override.input_line}: {key} is no setting; give {settings} their own values.")
        if key in GROUPS:
            _check_options(key, override)
        if key.startswith("hydra") or override.is_force_add() or override.is_add():
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, 3, 0.6)
            listed = " or ".join(near) if near else ", ".join([*AXES, *GROUPS])
            raise SpecError(f"{key} is no setting. Did you mean {listed}? python sweep.py --help lists them all.")
        if override.is_sweep_override() and axis_of(key).stage == "run":
            raise SpecError(f"{override.input_line}: {key} is the whole sweep's and has one value.")


def _check_form(override: Override, multirun: bool) -> None:
    """Raises SpecError where it sets nothing, or sets more values than it can."""
    line = override.input_line
    key = str(override.key_or_group)
    if override.is_sweep_override() and not multirun:
        raise SpecError(f"{line} has several values: add -m to sweep over them.")
    if override.is_delete() and not key.startswith("hydra"):
        raise SpecError(f"{line}: a setting cannot be left out, only set; without {line} it has its default.")
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        raise SpecError(f"{line}: a pattern stands for no values here; list them, as in lr=1e-6,2e-6.")


def _check_run(key: str, value: Any) -> None:
    """A mistake here would show only once the sweep runs."""
    if not (isinstance(value, str) and "${" in value):
        check(key, value)


def _check_options(group: str, override: Override) -> None:
    values = override.sweep_string_iterator() if override.is_discrete_sweep() else [override.value()]
    for value in values:
        if not (value is None and group == "experiment") and str(value) not in options(group):
            raise SpecError(f"{group}={show(value)}: must be one of {', '.join(options(group))}.")


def parse(arguments: Sequence[str], config_loader: ConfigLoader | None) -> list[Override]:
    """The overrides. Of a key that was typed twice, the last counts."""
    parsed = OverridesParser.create(config_loader=config_loader).parse_overrides(list(arguments))
    return list({override.get_key_element(): override for override in parsed}.values())


def expand(overrides: Sequence[Override], compose: Callable[[list[str]], DictConfig]) -> Grid:
    """The cells of the grid, the last axis varying fastest. `compose` makes the config of a list of arguments."""
    swept = [o for o in overrides if o.is_sweep_override()]
    for override in swept:
        if not override.is_discrete_sweep():
            raise SpecError(
                f"{override.input_line}: a range to search needs hydra/sweeper=optuna; a grid takes a list."
            )
    _check_size(swept)
    fixed = [o.input_line for o in overrides if o.input_line and not o.is_sweep_override()]
    composed = [o for o in swept if o.is_add() or o.is_delete() or o.key_or_group in GROUPS]
    plain = [o for o in swept if o not in composed]
    cells: list[Cell] = []
    for texts in itertools.product(*(list(o.sweep_string_iterator()) for o in composed)):
        chosen = [f"{o.get_key_element()}={text}" for o, text in zip(composed, texts, strict=True)]
        firsts = [f"{o.get_key_element()}={next(iter(o.sweep_string_iterator()))}" for o in plain]
        config = compose([*fixed, *chosen, *firsts])
        cells.extend(_cells(config, overrides, plain))
    return Grid(distinct(cells), _varying(cells, swept))


def _check_size(swept: Sequence[Override]) -> None:
    """Raises SpecError for no cells, and for more than can be planned."""
    cells = 1
    for override in swept:
        try:
            values = sum(1 for _ in itertools.islice(override.sweep_iterator(), MOST + 1))
        except ValueError as error:  # a range whose step is 0
            raise SpecError(f"{override.input_line}: {error}; give a list, as in lr=1e-6,2e-6.") from error
        if not values:
            raise SpecError(f"{override.input_line}: no value is in there; give a list, as in lr=1e-6,2e-6.")
        cells *= values
        if cells > MOST:
            raise SpecError(f"{override.input_line}: makes more than {MOST:,} cells; sweep over fewer values.")


def _cells(config: DictConfig, overrides: Sequence[Override], plain: Sequence[Override]) -> Iterator[Cell]:
    keys = [str(o.key_or_group) for o in plain]
    raw = _plain(config, resolve=False)
    raw.pop("hydra", None)
    text = json.dumps(raw, default=str)
    depends = any(f"${{{key}}}" in text for key in keys)  # something else is made of a swept value
    start = raw if depends else sections(_plain(OmegaConf.create(raw), resolve=True))
    for values in itertools.product(*(list(o.sweep_iterator()) for o in plain)):
        cell = start
        for key, value in zip(keys, values, strict=True):
            cell = _with(cell, key.split("."), getattr(value, "text", value))  # a quoted string of the grammar
        if depends:
            cell = _plain(OmegaConf.create(cell), resolve=True)
        yield typed_cell(cell, [str(o.key_or_group) for o in overrides])


def _with(config: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy with another value; the sections that are not on the way to it are the same objects."""
    name, *rest = path
    return type(config)({**config, name: _with(config[name], rest, value) if rest else value})


def typed_cell(config: dict[str, Any], typed: Sequence[str]) -> Cell:
    """The cell of a resolved plain config; its parameters are the axes, the groups and whatever else was typed."""
    if config["subject"]["images"] and "subject.images" in typed and "subject.class_noun" not in typed:
        raise SpecError("subject.images needs subject.class_noun=WORD too: what is on the photographs, such as dog.")
    params = {key: _get(config, key) for key in typed if "." in key and not key.startswith(("hydra", "tracking"))}
    cell = read_cell(config, params)
    names = {
        "model": cell.train.model.name,
        "subject": cell.train.subject.name,
        "trainer": cell.train.trainer.name,
        "evaluation": cell.evaluation.name,
    }
    return replace(cell, params=(*cell.params, *names.items()))


def _get(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = (config or {}).get(name)
    return config


def _varying(cells: Sequence[Cell], swept: Sequence[Override]) -> dict[str, tuple[Any, ...]]:
    axes: dict[str, tuple[Any, ...]] = {}
    params = [dict(cell.params) for cell in cells]
    for override in swept:
        key = str(override.key_or_group)
        values = tuple(dict.fromkeys(each.get(key) for each in params))
        if len(values) > 1:
            axes[key] = values
    return axes
