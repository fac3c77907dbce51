"""The types of the data that Python gives to a page's scripts, read from both sides."""

import re
from pathlib import Path
from types import ModuleType
from typing import is_typeddict


def in_script(path: Path) -> dict[str, set[str]]:
    """The names of the properties of each JSDoc @typedef."""
    found: dict[str, set[str]] = {}
    for comment in re.findall(r"/\*\*.*?\*/", path.read_text(), flags=re.DOTALL):
        name = re.search(r"@typedef \{object\} (\w+)", comment)
        if name:
            found[name[1]] = set(re.findall(r"@property \{.*?\} (\w+)(?: |$)", comment, flags=re.MULTILINE))
    return found


def in_python(*modules: ModuleType) -> dict[str, set[str]]:
    """The keys of each TypedDict that a module defines."""
    return {
        name: set(value.__annotations__)
        for module in modules
        for name, value in vars(module).items()
        if is_typeddict(value) and value.__module__ == module.__name__
    }
