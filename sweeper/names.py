"""Which sweep owns a folder of results: one that took another's name would write over its results.

NAME/sweep.json   the signatures of a grid's cells, or the identity of a search
"""

from collections.abc import Collection
from pathlib import Path

from sweeper.plan.grid import Grid
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
    with understood(path):
        owner = read_json(path)
        owned_by, owned = str(owner["kind"]), set(owner["content"])
    if owned_by != kind or not owned <= set(content):
        more = "give all of its cells too, or another name" if owned_by == kind == GRID else "take another name"
        raise SpecError(f"name={folder.name}: another {owned_by} is kept there; {more}.")


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
