"""The rooms: imports go down only and never in a circle, and what must answer in a second imports no torch."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

# From the ground up: a room imports from its own floor and from lower ones. Rooms on one line do not know each other.
FLOORS = (
    ("trainers",),
    ("sweeper.commands",),
    ("evaluation",),
    ("sweeper.plan",),
    ("sweeper.store",),
    ("sweeper.settings", "sweeper.names"),
    ("sweeper.disk",),
    ("sweeper.forecast",),
    ("sweeper.engine",),
    ("sweeper.results", "sweeper.fit"),
    ("sweeper.report",),
    ("sweeper.tracking",),
    ("sweeper.rounds",),
    ("sweeper.sweep", "sweeper.manage"),
    ("sweeper.search", "sweeper.blog"),
    ("sweeper.main", "sweeper.__main__"),
    ("hydra_plugins", "sweep"),
)
BESIDE = {  # what stands beside the floors, and all that it may import
    "miniature": ("trainers", "evaluation"),
}
ANSWERS_AT_ONCE = (  # and all of sweeper/plan and hydra_plugins
    "sweep",
    "sweeper.main",
    "sweeper.settings",
    "sweeper.store",
    "sweeper.disk",
    "sweeper.forecast",
    "sweeper.fit",
    "sweeper.names",
    "sweeper.report.progress",
)
HEAVY = ("torch", "diffusers", "transformers", "mlflow", "optuna", "pandas")
FOLDERS = ("trainers", "evaluation", "sweeper", "hydra_plugins", "miniature")
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def files() -> dict[str, Path]:
    """Every module of the project by its name; a package by the name of its folder."""
    found = [PROJECT / "sweep.py", *(path for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*.py")))]
    names = {path.relative_to(PROJECT).with_suffix(""): path for path in found}
    return {".".join(p.parts).removesuffix(".__init__"): path for p, path in names.items()}


def room_of(module: str) -> str | None:
    rooms = (*HEIGHT, *BESIDE)
    return next((room for room in rooms if module == room or module.startswith(f"{room}.")), None)


@cache
def imports() -> dict[str, frozenset[str]]:
    """What each module imports of the project, inside functions and for type checking too."""
    modules = files()

    def known(name: str) -> set[str]:
        return {name} if name in modules else set()

    found = {}
    for module, path in modules.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {name for alias in node.names for name in known(alias.name)}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module}: imports are absolute here"
                inner = {name for alias in node.names for name in known(f"{node.module}.{alias.name}")}
                names |= inner or known(node.module or "")
        found[module] = frozenset(names - {module})
    return found


def test_every_module_has_a_room() -> None:
    without = [module for module in files() if room_of(module) is None and module not in ("sweeper", *FOLDERS)]
    assert without == []


def test_imports_go_down_only() -> None:
    upwards = []
    for module, names in imports().items():
        room = room_of(module)
        for name in names:
            other = room_of(name)
            if room is None or other is None or room == other:
                continue
            allowed = other in BESIDE[room] if room in BESIDE else other in BESIDE or HEIGHT[other] < HEIGHT[room]
            if not allowed:
                upwards.append(f"{module} imports {name}")
    assert upwards == []


def test_no_imports_go_in_a_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_what_must_answer_at_once_imports_nothing_heavy() -> None:
    rooms = [name for name in files() if name.startswith(("sweeper.plan.", "hydra_plugins."))]
    code = "import importlib, sys\n"
    code += f"for name in {[*ANSWERS_AT_ONCE, *rooms]!r}:\n    importlib.import_module(name)\n"
    code += f"    heavy = [other for other in {HEAVY!r} if other in sys.modules]\n"
    code += "    assert not heavy, f'{name} imports {heavy}'\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is() -> None:
    silent = [
        module
        for module, path in files().items()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_every_room_says_what_it_is() -> None:
    packages = [path for path in files().values() if path.name == "__init__.py" and path.parent.name != "hydra_plugins"]
    silent = [str(p.parent.relative_to(PROJECT)) for p in packages if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


def test_no_file_is_long() -> None:
    long = [str(path.relative_to(PROJECT)) for path in files().values() if len(path.read_text().splitlines()) > 320]
    assert long == []
