"""Which sweep owns a folder of results: one that took another's name would write over its results.

NAME/sweep.json   the signatures of a grid's cells, or the identity of a search
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from sweeper.plan.gpus import count_gpus
from sweeper.plan.grid import Grid
from sweeper.plan.precision import precision_of
from sweeper.plan.types import Cell
from trainers.errors import SpecError
from trainers.files import read_json, understood, write_json
from trainers.spec import signature

OWNER = "sweep.json"
GRID, SEARCH = "sweep", "search"


def check_name(folder: Path, kind: str, content: Collection[str]) -> None:
    """Raises SpecError where `content` lacks some of what owns `folder`: its results would be lost."""
    path = folder / OWNER
    if not path.exists():
        return
    owned_by, owned = _owner(path)
    if owned_by != kind or not owned <= set(content):
        more = "give all of its cells too, or another name" if owned_by == kind == GRID else "take another name"
        raise SpecError(f"name={folder.name}: another {owned_by} is kept there; {more}.")


def _owner(path: Path) -> tuple[str, set[str]]:
    """The kind and the content of what is kept in a folder."""
    with understood(path):
        owner = read_json(path)
        return str(owner["kind"]), set(owner["content"])


def check_elsewhere(here: Path, there: Path, kind: str, content: Collection[str], cells: Sequence[Cell]) -> None:
    """Raises SpecError where the same command was planned on the other kind of device: with a GPU, or without.

    `there` and `content` are the folder and the content that `cells` have on the other kind of device.
    """
    other = dict(setting for cell in cells for setting in cell.elsewhere)
    path = there / OWNER
    if not other or not path.exists() or (here != there and (here / OWNER).exists()):
        return
    owned_by, owned = _owner(path)
    if owned_by == kind and owned <= set(content):
        where, now = ("without a GPU", "one is") if count_gpus() else ("with a GPU", "none is")
        begun, asked = (" ".join(f"{name}={value}" for name, value in each) for each in (other.items(), _here(cells)))
        anew = f"type {asked}" if here != there else f"type {asked} and another name"
        raise SpecError(
            f"{there.name}: this sweep was planned {where}, with {begun}, and {now} visible here. To go on with it "
            f"{'type ' + begun if count_gpus() else 'take such a machine'}; to begin another here, {anew}."
        )


def _here(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """The precisions that were decided on this kind of device, as typed."""
    decided = dict.fromkeys(name for cell in cells for name, _ in cell.elsewhere)
    return [(name, precision_of(cells[0], name)) for name in decided]


def reserve_name(folder: Path, kind: str, content: Collection[str]) -> None:
    """Called before the first result, so that an interrupted sweep has its name too."""
    write_json(folder / OWNER, {"kind": kind, "content": sorted(set(content))})


def unquoted(text: str) -> str:
    """Without quotation marks: MLflow finds no sweep with both kinds in its name (see sweeper/tracking/view.py)."""
    return text.replace("'", "").replace('"', "")


def sweep_name(grid: Grid) -> str:
    """Made from the subject, the axes and the content, so that the same command finds its folder again."""
    first = dict(grid.cells[0].params)
    content = signature(*sorted(cell.signature for cell in grid.cells))
    return "-".join([unquoted(str(first["subject"])), *(axis.split(".")[-1] for axis in grid.axes), content[:8]])
