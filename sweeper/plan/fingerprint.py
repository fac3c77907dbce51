"""Identifies a model by its content, so that results are never reused for other weights in the same folder."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from trainers.errors import SpecError

WHOLE = 64 << 20  # bytes; of larger files only samples are read, as every plan would read gigabytes
CHUNK, CHUNKS = 64 << 10, 128


def _digest(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
        else:
            for i in range(CHUNKS):
                file.seek(i * (size - CHUNK) // (CHUNKS - 1))
                digest.update(file.read(CHUNK))
    return digest.hexdigest()


@lru_cache(maxsize=64)
def folder_hash(folder: Path) -> str:
    """16 hexadecimal digits over the names, sizes and contents of the folder's weights and configuration."""
    files = list(folder.rglob("*"))
    weights = ".safetensors" if any(p.suffix == ".safetensors" for p in files) else ".bin"  # what would be loaded
    names = sorted(p for p in files if p.suffix in (".json", ".txt", ".model", weights))
    facts = [(str(p.relative_to(folder)), p.stat().st_size, _digest(p, p.stat().st_size)) for p in names]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def model_revision(repo: str, revision: str | None, path: Path) -> str:
    """`repo@revision` of a hub model, or the content hash of a local folder. Raises SpecError for neither."""
    if path.is_dir():
        return folder_hash(path)
    if path.exists() or repo.startswith((".", "/", "~")) or repo.count("/") != 1:
        raise SpecError(f"{repo}: no folder of a model there, and not the name of one on the hub (owner/name).")
    return f"{repo}@{revision or 'main'}"
