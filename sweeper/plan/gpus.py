"""How many GPUs a process sees, as far as it can be told without torch, which takes a second to ask."""

import os
from functools import cache
from pathlib import Path

from trainers.spec import ModelSpec

NVIDIA, AMD = Path("/dev"), Path("/sys/class/kfd/kfd/topology/nodes")  # where their drivers list GPUs
WSL = Path("/usr/lib/wsl/lib/libcuda.so.1")  # Windows lends its GPUs to Linux and lists none


def count_gpus() -> int:
    shown = visible()
    return _nodes(NVIDIA, AMD) or int(WSL.exists()) if shown is None else len(listed(shown))


def lacks_gpu(model: ModelSpec) -> bool:
    """Whether it is a real model on a machine without a GPU."""
    return model.name != "miniature" and not count_gpus()


def visible() -> str | None:
    """Which GPUs the user shows to this sweep: of AMD's they can say it by a second name, which has precedence."""
    return os.environ.get("HIP_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))


@cache
def _nodes(nvidia: Path, amd: Path) -> int:
    return len(list(nvidia.glob("nvidia[0-9]*"))) or sum(map(_is_gpu, amd.glob("*/properties")))


def _is_gpu(node: Path) -> bool:
    """Of a node of AMD's driver, which lists processors too: they have no SIMD units."""
    words = node.read_text().split()
    return "simd_count" in words and int(words[words.index("simd_count") + 1]) > 0


def listed(visible: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names. CUDA reads it up to the first that is not there, such as -1, or NoDevFiles of
    older Slurm."""
    names: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        if not name or name.startswith("-") or name == "NoDevFiles":
            break
        names.append(name)
    return names
