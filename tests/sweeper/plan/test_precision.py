"""Precisions that the kind of device decides, when the sweep is planned."""

import json
from dataclasses import asdict

import pytest
from hydra import compose, initialize_config_dir

from sweeper import main
from sweeper.names import GRID, check_elsewhere, reserve_name, sweep_name
from sweeper.plan.compile import compile_plan
from sweeper.plan.config import decode
from sweeper.plan.grid import CONF, expand, parse
from sweeper.plan.precision import check_precisions, elsewhere, stored_precision
from sweeper.plan.types import Cell
from trainers.errors import SpecError
from trainers.families.defaults import DEFAULTS
from trainers.spec import canonical

pytestmark = pytest.mark.gpus

NAMES = ("mixed_precision", "sample_precision")
PRIOR = ("prior_preservation=true", "prior.num_class_images=4")


@pytest.fixture(params=[True, False], ids=["GPU", "CPU"])
def gpu(request, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0" if request.param else "")
    return request.param


@pytest.fixture
def on(monkeypatch):
    return lambda gpu: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0" if gpu else "")


@pytest.fixture
def grid(planned):
    def expanded(*typed, model="sd15"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return expand(
                parse([f"model={model}", *planned, *typed], None), lambda arguments: compose("sweep", arguments)
            )

    return expanded


def shown(cell, names=NAMES):
    return [dict(cell.params)[name] for name in names]


@pytest.mark.parametrize(("model", "wanted"), [("sd15", "fp16"), ("sd21", "fp16"), ("miniature", "no")])
def test_auto_is_what_the_model_asks_for_on_a_gpu_and_fp32_without(model, wanted, gpu, grid):
    (cell,) = grid(*PRIOR, "prior.precision=auto", model=model).cells
    decided = wanted if gpu else "no"
    assert [cell.train.mixed_precision, cell.sample.precision] == [decided, decided]
    assert cell.train.prior.sample.precision == decided
    assert shown(cell, (*NAMES, "prior.precision")) == [decided] * 3


@pytest.mark.parametrize("precision", ["no", "fp16", "bf16"])
def test_what_is_typed_stands(precision, gpu, grid):
    typed = [f"{name}={precision}" for name in (*NAMES, "prior.precision")]
    (cell,) = grid(*PRIOR, *typed, model="miniature").cells
    assert [cell.train.mixed_precision, cell.sample.precision] == [precision, precision]
    assert cell.train.prior.sample.precision == precision
    assert cell.elsewhere == ()
    assert elsewhere(cell) == cell


def test_a_model_may_ask_for_other_precisions_than_its_family(on, grid):
    on(True)
    (cell,) = grid("model.mixed_precision=bf16", "model.sample_precision=no").cells
    assert [cell.train.mixed_precision, cell.sample.precision] == ["bf16", "no"]
    with pytest.raises(SpecError, match="^model.sample_precision=half: must be one of no, fp16, bf16.$"):
        grid("model.sample_precision=half")


def test_a_wrong_precision_is_one_line(grid):
    for name in (*NAMES, "prior.precision"):
        with pytest.raises(SpecError, match=f"^{name}=fp8: must be one of auto, no, fp16, bf16.$"):
            grid(f"{name}=fp8")


def test_it_is_an_axis_that_costs_no_training(on, grid):
    on(True)
    found = grid("sample_precision=no,fp16,auto", *PRIOR)
    assert found.axes == {"sample_precision": ("no", "fp16")}
    assert len(found.cells) == 2  # auto is fp16 here
    assert len(compile_plan(found.cells).trainings) == 1


def test_without_a_gpu_nothing_is_renamed(on, grid):
    on(False)
    for cell in grid(*PRIOR, "sample_precision=auto,no", model="miniature").cells:
        assert canonical(cell.sample)["precision"] == "no"
        assert canonical(cell.train)["mixed_precision"] == "no"
        assert canonical(cell.train)["prior"]["sample"]["precision"] == "no"


def test_the_same_command_elsewhere(on, grid):
    on(True)
    there = grid(*PRIOR, "lr=1e-6,2e-6")
    on(False)
    here = grid(*PRIOR, "lr=1e-6,2e-6")
    assert [elsewhere(cell) for cell in here.cells] == list(there.cells)
    assert [elsewhere(cell) for cell in there.cells] == list(here.cells)
    assert {cell.signature for cell in here.cells}.isdisjoint(cell.signature for cell in there.cells)


def test_a_job_remembers_a_cell_as_it_is(on, grid):
    on(False)
    (cell,) = grid().cells
    assert cell.elsewhere == (("mixed_precision", "fp16"), ("sample_precision", "fp16"))
    again = decode(Cell, json.loads(json.dumps(asdict(cell), default=str)))
    assert again.elsewhere == cell.elsewhere


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_a_sweep_that_was_planned_on_the_other_kind_of_device_says_so(named, gpu, on, grid, tmp_path):
    on(not gpu)
    before = grid("lr=1e-6,2e-6")
    name = "mine" if named else None
    reserve_name(tmp_path / (name or sweep_name(before)), GRID, [cell.signature for cell in before.cells])
    on(gpu)
    settings = type("Settings", (), {"output_dir": tmp_path, "name": name})
    now = grid("lr=1e-6,2e-6")
    folder = tmp_path / (name or sweep_name(now))
    said = "planned without a GPU, with mixed_precision=no sample_precision=no, and one is visible here"
    if not gpu:
        said = "planned with a GPU, with mixed_precision=fp16 sample_precision=fp16, and none is visible here"
    with pytest.raises(SpecError, match=said):
        main._check_elsewhere(now, settings, folder)
    typed = grid("lr=1e-6,2e-6", *(f"{name}={value}" for name, value in zip(NAMES, shown(now.cells[0]), strict=True)))
    main._check_elsewhere(typed, settings, folder)  # a sweep of its own, or refused for its name
    main._check_elsewhere(grid("lr=5e-6"), settings, tmp_path / "other")


def test_both_kinds_of_device_may_have_a_sweep_of_their_own(on, grid, tmp_path):
    on(True)
    there = grid()
    on(False)
    here = grid()
    folders = [tmp_path / sweep_name(each) for each in (here, there)]
    for folder, each in zip(folders, (here, there), strict=True):
        reserve_name(folder, GRID, [cell.signature for cell in each.cells])
    check_elsewhere(*folders, GRID, [cell.signature for cell in there.cells], here.cells)


@pytest.mark.parametrize("name", [*NAMES, "prior.precision"])
def test_fp16_without_a_gpu_is_refused(name, on, grid):
    plan = compile_plan(grid(*PRIOR, f"{name}=fp16", model="miniature").cells)
    on(True)
    check_precisions(plan.trainings)
    on(False)
    with pytest.raises(SpecError, match=f"^{name}=fp16 needs a GPU and none is visible here; auto, no or bf16.$"):
        check_precisions(plan.trainings)


@pytest.mark.parametrize(("model", "every"), [("miniature", "halving"), ("sd14", 100), ("sd15", 100), ("sd21", 100)])
def test_a_model_brings_what_is_not_typed(model, every, on, grid):
    on(False)
    (cell,) = grid(model=model).cells
    spec = cell.train
    assert (spec.batch_size, spec.gradient_accumulation_steps, spec.gradient_checkpointing) == (1, 1, False)
    assert cell.eval_every == every
    typed = ("batch_size=3", "gradient_accumulation_steps=2", "gradient_checkpointing=true", "eval_every=0")
    (cell,) = grid(*typed, model=model).cells
    spec = cell.train
    assert (spec.batch_size, spec.gradient_accumulation_steps, spec.gradient_checkpointing) == (3, 2, True)
    assert cell.eval_every == 0
    assert dict(cell.params)["batch_size"] == 3


def test_several_models_bring_their_own(grid):
    assert [cell.eval_every for cell in grid("model=sd15,miniature").cells] == [100, "halving"]


def test_every_family_says_what_it_asks_for_on_a_gpu():
    for defaults in DEFAULTS.values():
        assert {defaults.mixed_precision, defaults.sample_precision} <= {"no", "fp16", "bf16"}


@pytest.mark.parametrize(
    ("trainer", "asked", "stored"),
    [
        ("dreambooth", "fp16", "fp16"),
        ("ti_dreambooth", "fp16", "fp16"),
        ("dreambooth", "no", "no"),
        ("dreambooth", "bf16", "no"),
        ("dreambooth", "no,fp16", "no"),
        ("dreambooth", "bf16,fp16", "no"),
        ("dreambooth_lora", "fp16", "no"),
        ("textual_inversion", "fp16", "no"),
    ],
)
def test_checkpoints_are_kept_in_half_where_everything_samples_so(trainer, asked, stored, grid):
    (training,) = compile_plan(grid(f"trainer={trainer}", f"sample_precision={asked}").cells).trainings
    assert stored_precision(training) == stored
