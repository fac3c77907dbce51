"""Who made a result: the versions of the libraries, the device and the commit of this project.

It is written beside a result and never enters a signature. Imports nothing heavy.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PROJECT = "dreambooth-sweep"
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Provenance:
    versions: tuple[tuple[str, str], ...]  # (package, version) of LIBRARIES and of this project, where installed
    device: str  # "cpu", or the name of the GPU
    commit: str | None = None  # of this project's checkout

    @classmethod
    def from_json(cls, content: Any) -> "Provenance | None":
        """None where nothing was recorded, as before format 2 of the store."""
        if not content:
            return None
        return cls(tuple(sorted(content["versions"].items())), content["device"], content.get("commit"))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "versions": dict(self.versions)}

    @property
    def numbers(self) -> tuple[str, ...]:
        """What moves numbers by rounding or more. The commit does not: a change of this project that changes a result
        changes its signature or the version of its metric."""
        return tuple(f"{name} {number}" for name, number in self.versions if name in LIBRARIES) + (self.device,)


def provenance(device: str = "cpu") -> Provenance:
    """Of what this process makes on `device`, as torch names it."""
    return Provenance(_versions(), _device_name(device), _commit())


def mixed(made_by: Iterable[Provenance | None]) -> str:
    """One sentence where results that are compared were made by different libraries or devices; otherwise empty."""
    distinct = sorted({each.numbers for each in made_by if each})
    if len(distinct) < 2:
        return ""
    common = set(distinct[0]).intersection(*distinct)
    kinds = [" ".join(part for part in each if part not in common) for each in distinct]
    return (
        f"Compared results were made by different versions or devices: {'; '.join(kind or 'others' for kind in kinds)}."
    )


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = {}
    for package in (*LIBRARIES, PROJECT):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return tuple(sorted(found.items()))


@cache
def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    import torch

    return str(torch.cuda.get_device_name(device))


@cache
def _commit() -> str | None:
    """None where the project is not a checkout of its own, or there is no git."""
    if not (ROOT / ".git").exists():
        return None
    try:
        asked = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
