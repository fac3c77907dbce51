"""How many GPUs a process sees, as far as it can be told without torch, which takes a second to ask."""

import os
from functools import cache
from pathlib import Path


def count_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return _nodes() if visible is None else len(listed(visible))


@cache
def _nodes() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def listed(visible: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names. CUDA reads it up to the first that is not there, such as -1."""
    names: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        if not name or name.startswith("-"):
            break
        names.append(name)
    return names
