"""What trainings take on to fit a card: in which order, when, and for how long."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from hydra import compose, initialize_config_dir

from evaluation.memory import beside
from sweeper import fit as module
from sweeper import main
from sweeper.fit import FIT, Card, Fit
from sweeper.plan.axes import bytes_of, check
from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import CONF, Grid, parse
from sweeper.search.space import search_space
from sweeper.settings import Settings
from tests.sweeper.tiny_sweep import PROJECT, numbers, read, sweep, trainings
from trainers import memory
from trainers.errors import SpecError
from trainers.lighter import on_top, unasked
from trainers.memory import estimate, same_memory
from trainers.sizes import HOST, host_bytes
from trainers.spec import SubjectSpec
from trainers.validate import OF_OTHERS

pytestmark = pytest.mark.gpus

LARGE = "batch_size=64"  # a step that is larger than all else of the tiny model
SETTINGS = Settings(Path("out"), None, True, 1, 1, "all", None, None, "", "local")
AMPERE, TURING = (8, 0), (7, 5)


@pytest.fixture
def cells(models, monkeypatch):
    monkeypatch.setitem(memory.LIBRARIES, "cuda", 0)
    return trainings(*models, LARGE)[0].cells


@pytest.fixture
def on_card(monkeypatch, tmp_path):
    """The fit of a sweep where a card of so many bytes is visible; None: there is none."""

    def begin(size, settings=SETTINGS, capability=AMPERE):
        card = None if size is None else Card(size, "Fake 1000", capability)
        monkeypatch.setattr(module, "visible_card", lambda: card)
        return Fit.of(tmp_path, settings)

    return begin


def ways(cells):
    """The training as it is asked, and with one option after another: (what was typed, bytes)."""
    spec = same_memory(cells[0].train)
    needed = beside([cell.sample for cell in cells], [cell.evaluation for cell in cells])
    every = [("", spec), *on_top(spec, unasked(spec))]
    return [(typed, estimate(way, "cuda", 1, needed).total) for typed, way in every]


def taken(fit):
    return [line.partition(":")[0] for line in fit.lines]


def test_options_are_taken_in_their_order_and_no_more_than_needed(cells, on_card):
    found = ways(cells)
    assert [typed.split()[-1] for typed, _ in found if typed] == [
        "gradient_checkpointing=true", "use_8bit_adam=true", "gradient_accumulation_steps=64",
    ]  # fmt: skip
    sizes = [size for _, size in found]
    assert sizes == sorted(sizes, reverse=True)
    for typed, size in found:
        fit = on_card(size)  # one byte less, and it does not fit
        fit.cells(cells, ())
        assert taken(fit) == ([typed] if typed else [])
    for (_, size), (typed, _) in zip(found, found[1:], strict=False):
        fit = on_card(size - 1)
        fit.cells(cells, ())
        assert taken(fit) == [typed]


def test_the_cells_show_what_was_taken_and_it_is_another_training(cells, on_card):
    fitted = on_card(ways(cells)[-1][1]).cells(cells, ())
    for cell, asked in zip(fitted, cells, strict=True):
        shown, before = dict(cell.params), dict(asked.params)
        option = {
            "gradient_checkpointing": True, "use_8bit_adam": True, "batch_size": 1, "gradient_accumulation_steps": 64,
        }  # fmt: skip
        assert shown == {**before, **option}
        assert {name: getattr(cell.train, name) for name in option} == option
        assert cell.train.images_per_step == asked.train.images_per_step
    (one,) = compile_plan(fitted).trainings
    assert one.spec.signature != cells[0].train.signature


def test_what_nothing_makes_fit_is_refused_in_one_line(cells, on_card):
    least = ways(cells)[-1][1]
    on_card(int(least / 1.15) + 1).cells(cells, ())  # the estimate may be wrong by so much
    with pytest.raises(SpecError, match="this training needs .* GB") as caught:
        on_card(int(least / 1.15) - 1000).cells(cells, ())
    assert "\n" not in str(caught.value)


def test_strict_refuses_and_names_what_would_make_it_fit(cells, on_card):
    strict = replace(SETTINGS, fit="strict")
    (_, asked), (_, checkpointed), *_ = ways(cells)
    assert on_card(asked, strict).cells(cells, ()) == cells
    with pytest.raises(SpecError, match="it fits with gradient_checkpointing=true"):
        on_card(checkpointed, strict).cells(cells, ())


def test_without_a_card_nothing_is_taken_or_written(cells, on_card, tmp_path):
    fit = on_card(None)
    assert fit.cells(cells, ()) == cells
    fit.keep()
    assert fit.lines == []
    assert not (tmp_path / FIT).exists()


def test_a_card_that_is_not_there_can_be_planned_for(cells, on_card, monkeypatch):
    monkeypatch.setattr(module, "bytes_of", lambda typed: ways(cells)[1][1])
    for there in (None, 10**12):
        fit = on_card(there, replace(SETTINGS, device_memory="typed"))
        fit.cells(cells, ())
        assert taken(fit) == ["gradient_checkpointing=true"]


def test_the_same_command_decides_the_same_on_another_card(cells, on_card, monkeypatch):
    first = on_card(ways(cells)[1][1])
    decided = first.cells(cells, ())
    first.keep()

    def no_estimate(*args):
        raise AssertionError("it was decided before")

    more = tuple(replace(cell, train=replace(cell.train, batch_size=16)) for cell in cells)
    for size in (None, 1, 10**12):
        again = on_card(size)
        with monkeypatch.context() as patched:
            patched.setattr(memory, "estimate", no_estimate)
            assert again.cells(cells, ()) == decided
        assert again.lines[-1] == "as decided for 0.0 GB when this sweep began"
        assert again.cells(more, ()) == more  # which fit what it began on
    assert on_card(first.memory).lines == first.lines


def test_what_is_decided_later_is_kept_too(cells, on_card):
    """A search asks for one training after another."""
    fit = on_card(ways(cells)[1][1])
    fit.keep()
    assert on_card(fit.memory).decided == {}
    fit.cells(cells, ())
    assert on_card(fit.memory).decided == fit.decided != {}


def test_an_axis_of_the_sweep_stays_as_it_is_asked(cells, on_card):
    found = dict(ways(cells))
    fit = on_card(found["gradient_checkpointing=true"])
    fitted = fit.grid(Grid(cells, {"gradient_checkpointing": (False, True)})).cells
    assert not any(cell.train.gradient_checkpointing for cell in fitted)
    assert all(cell.train.batch_size == 1 for cell in fitted)
    for axis in ("batch_size", "gradient_accumulation_steps"):
        fit = on_card(found["gradient_checkpointing=true use_8bit_adam=true"] - 1)
        fitted = fit.grid(Grid(cells, {axis: (1, 2)})).cells
        assert [(c.train.batch_size, c.train.gradient_accumulation_steps) for c in fitted] == [(64, 1)] * len(cells)


def test_what_the_card_cannot_do_is_refused_before_anything_starts(cells, on_card):
    asked = [replace(cell, train=replace(cell.train, mixed_precision="bf16")) for cell in cells]
    on_card(10**12).cells(asked, ())
    with pytest.raises(SpecError, match="Fake 1000 has compute capability 7.5.*mixed_precision=fp16"):
        on_card(10**12, capability=TURING).cells(asked, ())


def test_a_model_that_is_not_here_yet_is_decided_on_later(cells, on_card, monkeypatch):
    """Nobody is asked for its configuration: without a network that takes a minute."""
    monkeypatch.setattr(Fit, "_decision", None)
    model = replace(cells[0].train.model, revision="nobody/nothing@main", repo="nobody/nothing")
    absent = tuple(replace(cell, train=replace(cell.train, model=model)) for cell in cells)
    fit = on_card(10**9)
    assert fit.cells(absent, ()) == absent
    assert fit.lines == ["decided once the model is here"]
    fit.keep()
    assert on_card(fit.memory).decided == {}


def test_the_plan_is_made_again_once_the_models_are_here(models, monkeypatch, tmp_path):
    """Whatever was decided before they were."""
    seen, real = [], Fit.of

    def begin(folder, settings):
        fit = real(folder, settings)
        fit.undecided = not seen
        seen.append(fit)
        return fit

    monkeypatch.setattr(main.Fit, "of", begin)
    monkeypatch.setattr("sweeper.sweep.run_sweep", lambda context, planned, train: planned())
    monkeypatch.setattr("sweeper.sweep.exit_code", lambda planned: len(seen))
    grid = Grid(trainings(*models)[0].cells, {})
    assert main.run(grid, replace(SETTINGS, output_dir=tmp_path, plan_only=False)) == 2


def test_a_broken_record_is_told(cells, on_card, tmp_path):
    for content in ("", "{", "[]", '{"memory": null, "decided": {}}'):
        (tmp_path / FIT).write_text(content)
        with pytest.raises(SpecError, match="fit.json cannot be read .*move it away"):
            on_card(1)


def test_trials_of_a_search_take_what_they_need(models, cells, on_card):
    typed = [*models, LARGE, "lr=interval(1e-6,1e-5)"]

    def parsed(lines):
        return parse(lines, None)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        space = search_space(parsed(typed), lambda line: compose("sweep", line), parsed)
        fit = on_card(ways(cells)[1][1])
        fitted = space.fit(fit.cells)
        assert not space.dearest.spec.gradient_checkpointing
        assert fitted.dearest.spec.gradient_checkpointing
        assert fitted.training({"lr": 3e-6}).spec.gradient_checkpointing


def test_more_processes_than_the_machine_has_memory_for_are_told(cells, on_card, monkeypatch):
    spec, one = cells[0].train, host_bytes(cells[0].train.model)
    assert HOST < one < HOST + 10**7
    machine = psutil.virtual_memory()._replace(total=2 * one)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert on_card(10**12).crowded(spec, 2) == ""
    assert "3 at once need about 9.0 GB of the machine's memory and there are 6.0" in on_card(10**12).crowded(spec, 3)
    assert on_card(None).crowded(spec, 3) == ""  # without a GPU each has its share: see `capacity`


@pytest.mark.parametrize(
    ("typed", "size"), [("24GB", 24 * 1024**3), ("7.5 gib", int(7.5 * 1024**3)), ("800MB", 800 * 1024**2)]
)
def test_sizes(typed, size):
    assert bytes_of(check("device_memory", typed)) == size


@pytest.mark.parametrize("typed", ["24", "GB", "0GB", "-1GB", "24 TB", "", 24])
def test_what_is_no_size(typed):
    with pytest.raises(SpecError, match="must be null, or a size such as 24GB"):
        check("device_memory", typed)


def test_it_has_to_fit_the_smallest_and_the_oldest_of_the_cards(monkeypatch):
    cards = [(24, "RTX 4090", (8, 9)), (48, "RTX 8000", (7, 5)), (80, "H100", (9, 0))]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)

    def properties(index):
        size, name, (major, minor) = cards[index]
        return SimpleNamespace(total_memory=size, name=name, major=major, minor=minor)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    assert module.visible_card() == Card(24, "RTX 8000", (7, 5))
    monkeypatch.setattr(torch.version, "hip", "6.4")  # AMD's numbers say something else
    assert module.visible_card() == Card(24, "RTX 4090", OF_OTHERS)


def test_no_torch_where_there_is_no_card():
    code = "import sys; from sweeper.fit import visible_card; assert not visible_card() and 'torch' not in sys.modules"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT, env=environment)


@pytest.mark.parametrize(
    ("shown", "build", "says"),
    [
        ("0", "12.8", "CUDA_VISIBLE_DEVICES=0 names a GPU, but torch sees none that CUDA 12.8 can use"),
        (None, None, "this machine has a GPU, but torch was built without CUDA: install one of pytorch.org's builds"),
    ],
)
def test_a_gpu_that_torch_does_not_see_is_no_reason_to_use_the_processor(monkeypatch, shown, build, says):
    monkeypatch.setattr(module, "count_gpus", lambda: 1)
    monkeypatch.setattr(module, "visible", lambda: shown)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", build)
    with pytest.raises(SpecError) as caught:
        module.visible_card()
    assert str(caught.value).startswith(says)


def test_what_was_decided_once_is_known_in_every_sweep_of_the_store(cells, on_card, monkeypatch, tmp_path):
    """A decision takes ten seconds; what it depends on is in its name."""
    settings = replace(SETTINGS, output_dir=tmp_path)
    size = ways(cells)[1][1]
    decided, real = [], Fit._decision

    def decision(self, *asked):
        decided.append(1)
        return real(self, *asked)

    monkeypatch.setattr(Fit, "_decision", decision)
    first = on_card(size, settings).cells(cells, ())
    assert not (tmp_path / "store").exists()  # a plan alone makes none
    (tmp_path / "store").mkdir()
    for times, same in enumerate(
        [
            {"size": size},
            {"size": size + 1},
            {"size": size, "settings": replace(settings, gpus_per_trial=2)},
            {"size": size, "capability": TURING},
        ],
        start=2,
    ):
        for _ in range(2):
            found = on_card(**{"settings": settings, **same}).cells(cells, ())
            assert len(decided) == times
            assert found == first or same != {"size": size}
    other = [replace(cell, train=replace(cell.train, lr=3e-6, subject=SubjectSpec("x", "y"))) for cell in cells]
    on_card(size, settings).cells(other, ())
    assert len(decided) == times
    with pytest.raises(SpecError) as refused:
        on_card(1, settings).cells(cells, ())
    with pytest.raises(SpecError) as again:
        on_card(1, settings).cells(cells, ())
    assert (str(again.value), len(decided)) == (str(refused.value), times + 1)
    monkeypatch.setattr(module, "_estimator", lambda: "another version")
    on_card(size, settings).cells(cells, ())
    (tmp_path / "store" / module.KNOWN).write_text("{")
    assert on_card(size, settings).cells(cells, ()) == first
    assert len(decided) == times + 3


@pytest.mark.slow
def test_a_sweep_that_was_planned_for_a_smaller_card(models, tmp_path):
    """Its files show what was taken, and the same command for a larger one goes on with it."""
    words = ["-m", *models, LARGE, "lr=1e-4,2e-4", "eval_every=0", f"output_dir={tmp_path}", "name=small"]
    (training, _) = trainings(*models, LARGE, "lr=1e-4,2e-4", "eval_every=0")
    (_, asked), (_, checkpointed), *_ = ways(training.cells)
    megabytes = -(-checkpointed // 1024**2)
    assert checkpointed <= megabytes * 1024**2 < asked
    code, printed = sweep(*words, f"device_memory={megabytes}MB")
    assert code == 0, printed
    assert "gradient_checkpointing=true: taken to fit 0.6 GB, by 2 of 2 trainings" in printed
    assert all(row["params"]["gradient_checkpointing"] for row in read(tmp_path / "small")["cells"])
    assert "gradient_checkpointing" in (tmp_path / "small" / "results.csv").read_text()
    before = numbers(tmp_path / "small")
    code, printed = sweep(*words, "device_memory=24GB")
    assert code == 0, printed
    assert "as decided for 0.6 GB when this sweep began" in printed
    assert "(2 already done)" in printed
    assert numbers(tmp_path / "small") == before
