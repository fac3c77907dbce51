"""Which sweep owns a folder of results: one that took another's name would write over its results.

NAME/sweep.json   the signatures of a grid's cells, or the identity of a search
"""

from collections.abc import Collection
from pathlib import Path

from trainers.errors import SpecError
from trainers.files import read_json, write_json

OWNER = "sweep.json"
GRID, SEARCH = "sweep", "search"


def check_name(folder: Path, kind: str, content: Collection[str]) -> None:
    """Raises SpecError where `content` lacks some of what owns `folder`: its results would be lost."""
    path = folder / OWNER
    if not path.exists():
        return
    owner = read_json(path)
    if owner["kind"] != kind or not set(owner["content"]) <= set(content):
        more = "give all of its cells too, or another name" if owner["kind"] == kind == GRID else "take another name"
        raise SpecError(f"name={folder.name}: another {owner['kind']} is kept there; {more}.")


def reserve_name(folder: Path, kind: str, content: Collection[str]) -> None:
    """Called before the first result, so that an interrupted sweep has its name too."""
    write_json(folder / OWNER, {"kind": kind, "content": sorted(set(content))})


def unquoted(text: str) -> str:
    """Without quotation marks: MLflow finds no sweep with both kinds in its name (see sweeper/tracking/view.py)."""
    return text.replace("'", "").replace('"', "")
