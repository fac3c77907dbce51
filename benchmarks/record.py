"""What of a sweep's folder two revisions must have in common, as text by path, and where it differs: see same.py."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Values = dict[str, str]  # path -> value, as JSON or as a hash
Kinds = dict[str, Values]
KINDS = ("signatures", "losses", "tensors", "images", "scores", "results", "choice")  # causes before their effects
EXACT = ("signatures", "tensors", "images")  # of these one more is a difference too
FOLDERS = (  # of the store, that are named by what they hold
    "trainings/*",
    "trainings/*/checkpoints/*",
    "trainings/*/evaluations/*",
    "class_images/*",
    "baselines/*",
)
# Keys under which two runs of one revision differ, and one that holds but a name for what determined the samples.
IGNORED = {"command", "log", "timings", "seconds", "made_for", "provenance"}


@dataclass(frozen=True)
class Comparison:
    compared: int
    differences: list[str]  # a line each
    extras: list[str]  # paths that only the new one has


def read_part(folder: Path, name: str) -> Kinds:
    """Of the output folder of the sweep `name`."""
    store = folder / "store"
    here = json.dumps(str(folder))[1:-1]
    results = json.loads((folder / name / "results.json").read_text().replace(here, ""))
    choice = results.pop("sweet_spot")
    weights = [*store.glob("trainings/**/*.safetensors"), *folder.glob(f"{name}/export/**/*.safetensors")]
    scores = [*store.glob("trainings/*/evaluations/*/scores.json"), *store.glob("baselines/*/*s.json")]
    found = {
        "signatures": signatures(store),
        "losses": numbers(store, store.glob("trainings/*/loss.json")),
        "tensors": {f"{file.relative_to(folder)} {key}": v for file in sorted(weights) for key, v in tensors(file)},
        "images": {str(png.relative_to(store)): sha256(png.read_bytes()) for png in sorted(store.glob("*/**/*.png"))},
        "scores": numbers(store, scores),
        "results": dict(flat(results)),
        "choice": dict(flat(choice)),
    }
    aliases = baselines(store)
    return {kind: renamed(values, aliases) for kind, values in found.items()}


def baselines(store: Path) -> dict[str, str]:
    """A name made from its images for each folder of baselines: what determines its own name may change."""
    names: dict[str, str] = {}
    for folder in store.glob("baselines/*"):
        images = [sha256(png.read_bytes()) for png in sorted(folder.glob("**/*.png"))]
        names[folder.name] = f"images-{sha256(' '.join(images).encode())}"
    return names


def renamed(values: Values, names: dict[str, str]) -> Values:
    """The values with other names for some folders, in paths and in what they say."""
    if not names:
        return values
    pattern = re.compile("|".join(names))

    def changed(text: str) -> str:
        return pattern.sub(lambda match: names[match[0]], text)

    return {changed(path): changed(value) for path, value in values.items()}


def signatures(store: Path) -> Values:
    """The names of what was computed."""
    found = sorted(path for pattern in FOLDERS for path in store.glob(pattern) if path.is_dir())
    return {str(path.relative_to(store)): "there" for path in found}


def numbers(store: Path, files: Iterable[Path]) -> Values:
    """The values of JSON files."""
    return {
        f"{file.relative_to(store)}/{path}": value
        for file in sorted(files)
        for path, value in flat(json.loads(file.read_text()))
    }


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each number and text of a JSON value with its path. Of a list its length too: a longer one is another one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{path}/{key}" if path else key)
    elif isinstance(value, list):
        yield f"{path}/length", str(len(value))
        for i, inner in enumerate(value):
            yield from flat(inner, f"{path}/{i}")
    else:
        yield path, json.dumps(value)  # floats as they were read, to the last bit


def tensors(file: Path) -> Iterator[tuple[str, str]]:
    """Name and type, shape and hash of each tensor of a safetensors file. What is written beside them may vary."""
    content = memoryview(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    for name, about in sorted(json.loads(bytes(content[8:start])).items()):
        if name != "__metadata__":
            first, last = about["data_offsets"]
            yield name, f"{about['dtype']} {about['shape']} {sha256(content[start + first : start + last])}"


def sha256(content: bytes | memoryview) -> str:
    """The first 16 of its digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def compare(kind: str, old: Values, new: Values) -> Comparison:
    """What `old` has and `new` has not, or otherwise. What only `new` has may be new, but for the kinds in EXACT."""
    old, new = ({path: value for path, value in each.items() if counts(path)} for each in (old, new))
    differences = [] if old else ["nothing there to compare"]
    for path, value in old.items():
        if path not in new:
            differences.append(f"{path}: {value}, now missing")
        elif new[path] != value:
            differences.append(f"{path}: {value}, now {new[path]}")
    extras = [path for path in new if path not in old]
    if kind in EXACT:
        differences += [f"{path}: only now" for path in extras]
        extras = []
    return Comparison(len(old), differences, extras)


def counts(path: str) -> bool:
    return not IGNORED.intersection(path.split("/"))
