"""An axis that does not exist is added to the registry, and everything that shows or uses axes has it.

CONTRIBUTING.md, "Add an axis", tells this test in words.
"""

import base64
import io
import json
import shutil
import zlib
from dataclasses import fields, make_dataclass

import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console

from evaluation.spec import EvalSpec
from sweeper.plan import axes, config, grid
from sweeper.plan.axes import Axis, Range
from sweeper.plan.compile import compile_plan
from sweeper.report.page_data import page_data
from sweeper.report.sheet_layout import arrange
from sweeper.report.terminal import print_table
from sweeper.results.collect import result_of
from sweeper.search.run import identity
from sweeper.search.space import search_space
from sweeper.search.study import SearchSettings
from sweeper.settings import Settings
from sweeper.store import Store
from sweeper.tracking.runs import items
from tests.sweeper.report.synthetic import make_results
from trainers.errors import SpecError
from trainers.spec import SampleSpec, TrainSpec, added

SEASONS = Range(int, "a whole number from 0 to 40", lambda v: 0 <= v <= 40)
SPECS = {"train": TrainSpec, "sample": SampleSpec, "judge": EvalSpec}
VARYING = {"lr": (1e-6, 2e-6), "steps": (400, 800), "seasons": (1, 2)}


@pytest.fixture(params=["train", "sample", "judge"])
def stage(request, monkeypatch, tmp_path):
    """Adds the axis `seasons`: its entry, its default, and the field that carries it to where it acts."""
    stage, spec = request.param, SPECS[request.param]
    entry = Axis("seasons", SEASONS, stage, unit="seasons a year", log=stage == "train")
    monkeypatch.setitem(axes.AXES, "seasons", entry)
    shutil.copytree(grid.CONF, tmp_path / "conf")
    with open(tmp_path / "conf/sweep.yaml", "a") as file:
        file.write("\nseasons: 0\n")
    monkeypatch.setattr(grid, "CONF", tmp_path / "conf")
    longer = make_dataclass(spec.__name__, [("seasons", int, added(default=0))], bases=(spec,), frozen=True)
    monkeypatch.setattr(config, spec.__name__, longer)
    config._section.cache_clear()  # specs that were made without the field, or with it
    yield stage
    config._section.cache_clear()


@pytest.fixture
def hydra(stage):
    with initialize_config_dir(str(grid.CONF), version_base="1.3"):
        yield


@pytest.fixture
def cells(hydra, planned):
    def expanded(*typed):
        overrides = grid.parse([*planned, *typed], None)
        return grid.expand(overrides, lambda arguments: compose("sweep", arguments)).cells

    return expanded


@pytest.fixture
def space(hydra, planned):
    def parsed(typed):
        return grid.parse([*planned, *typed], None)

    return lambda *typed: search_space(parsed(typed), lambda lines: compose("sweep", lines), parsed)


def test_help_shows_it(hydra):
    text = compose("sweep", return_hydra_config=True).hydra.help.template
    assert "  seasons                     0             seasons a year\n" in text


def test_a_bad_value_and_a_typo_are_answered(cells):
    grid.check_arguments(["seasons=1,2"], multirun=True)
    with pytest.raises(SpecError, match="Did you mean seasons"):
        grid.check_arguments(["seasns=1"], multirun=True)
    with pytest.raises(SpecError, match="^seasons=41: must be a whole number from 0 to 40.$"):
        cells("seasons=41")


def test_the_plan_shares_trainings_by_its_stage(cells, stage):
    plan = compile_plan(cells("seasons=0,1,2"))
    assert len(plan.cells) == 3
    assert len(plan.trainings) == (3 if stage == "train" else 1)


def test_it_is_part_of_the_identity_and_its_default_renames_nothing(cells, stage):
    found = cells("seasons=0,1,2")
    assert len({cell.signature for cell in found}) == 3
    cell = found[0]
    train = cell.train
    before = TrainSpec(**{f.name: getattr(train, f.name) for f in fields(TrainSpec)})
    assert train.signature == before.signature
    assert len({(each.train.signature, each.sample, each.evaluation) for each in found}) == 3
    assert {"train": train, "sample": cell.sample, "judge": cell.evaluation}[stage].seasons == 0


def test_a_search_samples_it_where_it_costs_training(space, stage, tmp_path):
    asked = SearchSettings("tpe", "none", "score", 4, 0, None)
    settings = Settings(tmp_path, None, True, 1, 1, "all", None, None, "", "local")
    if stage == "train":
        (axis,) = space("seasons=interval(1,40)").axes
        assert str(axis) == "seasons=[1, 40] log"
    elif stage == "judge":
        with pytest.raises(SpecError, match="a search compares all trials by one evaluation"):
            space("lr=interval(1e-6,2e-6)", "seasons=1,2")
    else:
        with pytest.raises(SpecError, match="seasons costs no training"):
            space("lr=interval(1e-6,2e-6)", "seasons=interval(1,4)")
        served = space("lr=interval(1e-6,2e-6)", "seasons=1,2")
        assert [choice.key for choice in served.free] == ["seasons"]
        other = space("lr=interval(1e-6,2e-6)", "seasons=1,3")
        assert identity(served, asked, settings) != identity(other, asked, settings)


def test_a_training_has_it_as_a_parameter_where_it_costs_training(cells, stage, tmp_path):
    (training,) = compile_plan(cells("seasons=2")).trainings
    shown = result_of(training, Store(tmp_path), None, None).params
    assert ("seasons" in shown) == (stage == "train")


def test_the_table_has_its_column(stage, tmp_path):
    console = Console(width=200, record=True, file=io.StringIO())
    print_table(make_results(tmp_path, VARYING, images=False), console)
    assert "seasons" in console.export_text()


def test_the_sheet_and_the_page_lay_it_out(stage, tmp_path):
    layout = arrange(VARYING, 1)
    assert "seasons" in (layout.rows if stage == "train" else layout.columns)  # two values stand side by side
    data = page_data(make_results(tmp_path, VARYING, images=False))
    assert data["axes"]["seasons"] == {"values": (1, 2), "shown": ["1", "2"], "log": stage == "train"}
    assert set(data["varying"]["seasons"]) == {"1", "2"}


def test_mlflow_has_it(stage, tmp_path):
    runs = items(make_results(tmp_path, VARYING, images=False))
    sweep, *others = runs.values()
    assert sweep["tags"]["axis seasons"] == "1, 2"
    cell = next(item for item in others if item["tags"]["kind"] == "cell")
    training = next(item for item in others if item["tags"]["kind"] == "training")
    names = {name for name, _, _ in cell["metrics"]}
    assert "seasons" in cell["params"]
    assert "seasons=" in cell["name"]
    assert ("log10_seasons" in names) == (stage == "train")
    assert any(name.startswith("score/") for name, _, _ in training["metrics"]) == (stage != "train")
    view = json.loads(zlib.decompress(base64.b64decode(sweep["view"].removeprefix("deflate;"))))
    (lines,) = (chart for chart in view["compareRunCharts"] if chart["type"] == "PARALLEL")
    assert ("log10_seasons" in lines["selectedMetrics"]) == (stage == "train")
    assert ("seasons" in lines["selectedParams"]) == (stage != "train")
