"""A name belongs to the sweep that took it."""

import errno
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeper import main
from sweeper import sweep as sweep_module
from sweeper.disk import Disk
from sweeper.names import SEARCH, reserve_name, sweep_name
from sweeper.plan.downloads import Downloads
from sweeper.plan.grid import Grid
from sweeper.settings import one_line
from trainers.errors import SpecError


@pytest.fixture
def sweep(make_cell, monkeypatch, tmp_path):
    """Runs a grid over learning rates up to its first training."""
    monkeypatch.setattr(main, "left_of", lambda plan: Downloads())
    monkeypatch.setattr(main, "fetch_models", lambda plan: None)
    monkeypatch.setattr(main.forecast, "disk_of", lambda *_: Disk())
    monkeypatch.setattr(sweep_module, "run_sweep", lambda *_: None)
    monkeypatch.setattr(sweep_module, "exit_code", lambda results: 0)

    def begin(*rates, output_dir=tmp_path, name="same", plan_only=False, **cell):
        params = (("subject", "dog"),)
        cells = tuple(replace(make_cell(lr=lr), params=params, **cell) for lr in rates)
        settings = SimpleNamespace(
            output_dir=Path(output_dir),
            name=name,
            plan_only=plan_only,
            fit="auto",
            device_memory=None,
            gpus_per_trial=1,
            cpu_trials=1,
            trials_per_gpu=1,
            keep="all",
            early_stop=None,
            engine="local",
            force=False,
        )
        return main.run(Grid(cells, {"lr": rates}), settings)

    return begin


def test_a_name_is_for_one_sweep_and_for_what_includes_it(sweep):
    for rates in ((1e-6, 2e-6), (2e-6, 1e-6), (1e-6, 2e-6, 5e-6)):  # as it was, interrupted or not; one value more
        assert sweep(*rates) == 0
    for rates in ((1e-6, 2e-6), (1e-6, 2e-6, 7e-6)):
        with pytest.raises(SpecError, match="name=same: another sweep is kept there; give all of its cells too, or an"):
            sweep(*rates)
    assert sweep(7e-6, name="other") == 0


def test_a_grid_does_not_take_the_folder_of_a_search(sweep, tmp_path):
    reserve_name(tmp_path / "same", SEARCH, ["identity"])
    for plan_only in (True, False):
        with pytest.raises(SpecError, match="name=same: another search is kept there; take another name"):
            sweep(1e-6, plan_only=plan_only)


def test_a_plan_takes_no_name(sweep, tmp_path):
    assert sweep(1e-6, plan_only=True) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "why"), [("/proc/nowhere", "No such file or directory"), ("file", "not a folder"), ("file/a", "Not a di")]
)
def test_an_output_folder_that_cannot_be_written_is_one_clear_line(sweep, tmp_path, place, why):
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match=rf"^output_dir=.*{place}: cannot be written \({why}.*\); give another\.$"):
        sweep(1e-6, output_dir=tmp_path / place)


def test_weights_and_their_average_have_folders_of_their_own(sweep, tmp_path):
    for use_ema in (True, False):
        sweep(1e-6, name=None, use_ema=use_ema)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_folder_is_shown_as_it_is(sweep, tmp_path, capsys):
    sweep(1e-6, name="cat[1][bold]")
    assert str(tmp_path / "cat[1][bold]") in capsys.readouterr().out


def test_a_name_made_from_photographs_has_no_quotation_marks(make_cell):
    cell = replace(make_cell(), params=(("subject", 'Max\'s "best" cat'),))
    assert sweep_name(Grid((cell,), {})).startswith("Maxs best cat-")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "sweep", "content": 5}', '{"kind": "sweep", "cont'])
def test_an_owner_that_cannot_be_read_keeps_its_folder(sweep, tmp_path, text):
    (tmp_path / "same").mkdir()
    (tmp_path / "same/sweep.json").write_text(text)
    with pytest.raises(SpecError, match=r"same/sweep\.json cannot be read"):
        sweep(1e-6)
    assert (tmp_path / "same/sweep.json").read_text() == text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/o/aside", None, "/o/report.html"), "/o/report.html: Is a"),
        (FileExistsError(errno.EEXIST, "File exists", "/o/jobs"), "/o/jobs: File exists"),
        (PermissionError(errno.EACCES, "Permission denied", "/o/x"), "/o/x: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/o/x"), "/o/x: Not a directory"),
        (OSError(errno.EROFS, "Read-only file system", "/o/x"), "/o/x: Read-only"),
    ],
)
def test_a_file_in_the_way_is_one_line(error, said):
    with pytest.raises(SystemExit, match=f"^sweep.py: {said}.*output_dir=") as end, one_line():
        raise error
    assert "\n" not in str(end.value)


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(FileNotFoundError), one_line():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/o/x")
