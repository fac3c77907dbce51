"""What a folder of results belongs to: a sweep that took another's name would write over its results.

NAME/sweep.json   the signatures of a grid's cells, or the identity of a search
"""

from collections.abc import Collection
from pathlib import Path

from trainers.errors import SpecError
from trainers.files import read_json, write_json

KEPT = "sweep.json"
GRID, SEARCH = "sweep", "search"


def check_name(folder: Path, kind: str, content: Collection[str]) -> None:
    """Raises SpecError where `content` lacks some of what is kept in `folder`: its results would be lost."""
    path = folder / KEPT
    if not path.exists():
        return
    kept = read_json(path)
    if kept["kind"] != kind or not set(kept["content"]) <= set(content):
        more = "give all of its cells too, or another name" if kept["kind"] == kind == GRID else "take another name"
        raise SpecError(f"name={folder.name}: another {kept['kind']} is kept there; {more}.")


def reserve_name(folder: Path, kind: str, content: Collection[str]) -> None:
    """Before the first result, so that one that is interrupted keeps its name too."""
    write_json(folder / KEPT, {"kind": kind, "content": sorted(set(content))})


def unquoted(text: str) -> str:
    """Without quotation marks: MLflow finds no sweep with both kinds in its name (see sweeper/tracking/view.py)."""
    return text.replace("'", "").replace('"', "")
