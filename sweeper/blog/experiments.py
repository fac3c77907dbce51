"""The post's experiments (conf/experiment/blog) as plans: the same cells that their commands run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from sweeper.names import sweep_name
from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import CONF, Grid, expand, parse
from sweeper.plan.types import Plan
from sweeper.settings import Settings, settings_of
from sweeper.store import Store
from trainers.errors import SpecError

# What the post's script did. The files of the experiments ask for less, so that the miniature is quick.
FULL = {"inference_steps": 50, "prior.num_class_images": 200, "evaluation.images_per_prompt": 4}
KINDS = ("object", "face")  # folders of --photos


@dataclass(frozen=True)
class Experiment:
    name: str
    command: tuple[str, ...]  # after `python`
    grid: Grid

    @cached_property
    def plan(self) -> Plan:
        return compile_plan(self.grid.cells)

    @property
    def model(self) -> str:
        return self.grid.cells[0].train.model.name

    def report(self, store: Store) -> Path:
        """The page of its own sweep."""
        return store.root.parent / sweep_name(self.grid) / "report.html"


def source(name: str) -> Path:
    return CONF / "experiment" / "blog" / f"{name}.yaml"


def compose_all(names: Sequence[str], typed: Sequence[str], photos: Path | None) -> tuple[list[Experiment], Settings]:
    """The experiments with what was typed, and how they run. With photographs, one experiment for each subject. Raises
    SpecError."""
    overrides = parse(typed, None)
    keys = [override.get_key_element() for override in overrides]
    for key in {"name", "experiment"} & set(keys):
        raise SpecError(f"{key}= is for one sweep, and this runs several.")
    own = read_photos(photos) if photos else {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = _composed([str(override.input_line) for override in overrides if not override.is_sweep_override()])
        miniature = config.model.name == "miniature"
        if not miniature and not photos:
            raise SpecError(f"model={config.model.name} needs photographs of yours: --photos DIR (see --help).")
        experiments = []
        for name in names:
            file = _composed([f"experiment=blog/{name}"])
            axes = {key: str(value) for key, value in file.hydra.sweeper.params.items()}
            full = {} if miniature else {k: v for k, v in FULL.items() if k not in (*axes, *keys)}
            subjects = of_kinds(_kinds(axes, file), own) if photos else [()]
            rest = (*(f"{key}={value}" for key, value in full.items()), *typed)
            experiments += [_experiment(name, axes, (*subject, *rest)) for subject in subjects]
    return experiments, settings_of(config, config.hydra.sweep.dir, config.hydra.runtime.choices)


def _composed(overrides: Sequence[str]) -> DictConfig:
    return compose("sweep", list(overrides), return_hydra_config=True)


def _experiment(name: str, axes: dict[str, str], overrides: tuple[str, ...]) -> Experiment:
    chosen = f"experiment=blog/{name}"
    arguments = [chosen, *(f"{key}={value}" for key, value in axes.items()), *overrides]
    grid = expand(parse(arguments, None), lambda fixed: compose("sweep", fixed))
    return Experiment(name, ("sweep.py", "-m", chosen, *overrides), grid)


def _kinds(axes: dict[str, str], file: DictConfig) -> list[str]:
    """The kind of each subject of an experiment's file."""
    if "subject" not in axes:
        return [file.subject.kind]
    return [OmegaConf.load(CONF / "subject" / f"{name}.yaml").kind for name in axes["subject"].split(",")]


def read_photos(folder: Path) -> dict[str, list[Path]]:
    """The subjects' folders by kind. Raises SpecError where a kind has none."""
    found = {kind: sorted(p for p in (folder / kind).glob("*") if p.is_dir()) for kind in KINDS}
    for kind in KINDS:
        if not found[kind]:
            raise SpecError(f"{folder / kind}: no folder of photographs there; name each after its class, such as dog.")
    return found


def of_kinds(kinds: Sequence[str], own: dict[str, list[Path]]) -> list[tuple[str, ...]]:
    """The overrides for each of the user's subjects. Of each kind, at most as many as the experiment has."""
    return [
        (
            "subject=cat_toy",  # in place of the file's subjects; the following lines replace all that matters of it
            f"subject.images={quoted(str(path.resolve()))}",
            f"subject.class_noun={quoted(path.name.replace('_', ' '))}",
            f"subject.kind={kind}",
        )
        for kind in KINDS
        for path in own[kind][: kinds.count(kind)]
    ]


def quoted(text: str) -> str:
    """`text` as a value of Hydra's grammar."""
    return "'" + text.replace("\\'", "\\\\'").replace("'", "\\'") + "'"
