"""The hub's cache: exactly the files that are read, found without a network where they are there, else downloaded.

Imports nothing heavy: the plan asks what a download takes. The hub's client is imported where a repository is looked
up, which takes half a second.
"""

import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainers.errors import SpecError
from trainers.files import existing, is_full

TOKENIZER = (  # fast ones are one file, older ones several
    "tokenizer_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
PATIENCE = 10.0  # seconds for the hub's answer before a download


class Unreachable(SpecError):
    """Nobody answers for the hub."""


@dataclass(frozen=True)
class Reads:
    """What a loader reads of a repository. Weights are fp32 safetensors: no other variant, no second copy."""

    files: tuple[str, ...]
    weights: tuple[str, ...]  # without their suffix; in one file, or in parts with an index
    tokenizers: tuple[str, ...] = ()  # the folders of tokenizers, "" is the repository's own
    pickled: str = ""  # read where there are no safetensors


@dataclass(frozen=True)
class Repository:
    name: str  # owner/name
    revision: str
    reads: Reads

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{self.name}"


def chosen(names: Collection[str], reads: Reads) -> tuple[list[str], list[str]]:
    """(files to have, files that are lacking) of a repository that holds `names`."""
    files = [name for name in reads.files if name in names]
    lacking = [name for name in reads.files if name not in names]
    for folder in reads.tokenizers:
        found = [folder + name for name in TOKENIZER if folder + name in names]
        files += found
        whole = [folder + name for name in ("vocab.json", "merges.txt")]
        if folder + "tokenizer.json" not in found:
            lacking += [name for name in whole if name not in found]
        if folder + TOKENIZER[0] not in found:
            lacking.append(folder + TOKENIZER[0])
    for stem in reads.weights:
        found = _weights(names, stem)
        if not found and reads.pickled in names:
            found = [reads.pickled]
        files += found
        lacking += [] if found else [f"{stem}.safetensors"]
    return files, lacking


def _weights(names: Collection[str], stem: str) -> list[str]:
    """The safetensors of a network; none where a part is lacking."""
    if f"{stem}.safetensors" in names:
        return [f"{stem}.safetensors"]
    parts = {name: re.fullmatch(rf"{re.escape(stem)}-\d+-of-(\d+)\.safetensors", name) for name in names}
    found = sorted(name for name, match in parts.items() if match)
    index = f"{stem}.safetensors.index.json"
    counts = {int(match[1]) for match in parts.values() if match}
    return [index, *found] if index in names and counts == {len(found)} else []


def cached(repository: Repository) -> Path | None:
    """The folder in the local cache that holds all that is read; None where something lacks. Asks nobody."""
    from huggingface_hub import get_cached_repo_tree, try_to_load_from_cache
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, HFValidationError

    try:
        path = try_to_load_from_cache(repository.name, repository.reads.files[0], revision=repository.revision)
    except HFValidationError as error:
        raise SpecError(f"{repository.name}: no folder there, and no name of a repository (owner/name).") from error
    if not isinstance(path, str):
        return None
    folder = Path(path).parents[repository.reads.files[0].count("/")]
    there = _names(folder)
    try:  # what the hub said when it was downloaded: a file that need not be there lacks if the hub has it
        known = {file.path for file in get_cached_repo_tree(repository.name, revision=repository.revision)}
    except CachedRepoTreeNotFoundError:
        known = there
    files, lacking = chosen(known, repository.reads)
    return folder if not lacking and there >= set(files) else None


def _names(folder: Path) -> set[str]:
    """The files below a folder; not the links whose file is gone."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Listed:
    """What the hub has of what is read."""

    files: Mapping[str, int]  # bytes
    there: frozenset[str]  # in the local cache already

    @property
    def left(self) -> int:
        """Bytes to be downloaded."""
        return sum(size for name, size in self.files.items() if name not in self.there)


def listed(repository: Repository, seconds: float = PATIENCE) -> Listed:
    """Asks the hub, which has so long to answer. Raises SpecError."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        info = HfApi().model_info(repository.name, revision=repository.revision, files_metadata=True, timeout=seconds)
    except Exception as error:
        raise refused(repository, error) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    files, lacking = chosen(sizes, repository.reads)
    if lacking:
        raise SpecError(
            f"{repository.name} on the hub has no {', no '.join(lacking)}: what is read are fp32 weights as "
            f"safetensors, in folders as diffusers writes them; see {repository.page}/tree/{repository.revision}"
        )
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository.name, repo_type="model")
    return Listed({name: sizes[name] for name in files}, frozenset(_names(folder / "snapshots" / str(info.sha))))


def fetch(repository: Repository) -> Path:
    """The folder in the local cache that holds all that is read; what lacks is downloaded. Raises SpecError."""
    folder = cached(repository)
    if folder is None:
        from huggingface_hub import snapshot_download

        found = listed(repository)
        check_room(repository, found.left)
        try:
            snapshot_download(repository.name, revision=repository.revision, allow_patterns=list(found.files))
        except Exception as error:
            raise refused(repository, error) from error
        folder = cached(repository)
    if folder is None:
        raise SpecError(f"{repository.name} was not downloaded whole; the same command downloads the rest.")
    return folder


def cache_folder() -> Path:
    """Where downloads go."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def free_bytes(folder: Path) -> int:
    """Of the file system on which a folder is, or will be made."""
    return shutil.disk_usage(existing(folder)).free


def check_room(repository: Repository, size: int) -> None:
    """Raises SpecError where a download is larger than what is free."""
    free = free_bytes(cache_folder())
    if size > free:
        raise SpecError(
            f"{repository.name}: {gigabytes(size)} are to be downloaded and {cache_folder()} has {gigabytes(free)} "
            "free: free some, or set HF_HOME to a folder with more."
        )


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def refused(repository: Repository, error: BaseException) -> SpecError:
    """Why a repository cannot be had, and what to do, in one line."""
    from huggingface_hub import errors

    causes = list(_causes(error))
    error = next((cause for cause in causes if getattr(cause, "response", None) is not None), error)
    name = repository.name
    status = getattr(getattr(error, "response", None), "status_code", None)
    own = "or give a local folder (model.repo=, model.clip=, model.dino=)"
    if isinstance(error, errors.GatedRepoError) or (status == 403 and not isinstance(error, errors.DisabledRepoError)):
        return SpecError(
            f"{name} is gated: accept its licence at {repository.page}, and set HF_TOKEN to a token of the account "
            "that did (https://huggingface.co/settings/tokens)."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return SpecError(f"{name} has no revision {repository.revision}: see {repository.page} and model.revision=")
    if isinstance(error, errors.RepositoryNotFoundError) and status == 401:
        return SpecError(
            f"{name} is not on the hub, or is private or gated: see {repository.page}. If there is a licence, accept "
            f"it and set HF_TOKEN to a token of that account; if there is nothing, mind the spelling, {own}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return SpecError(f"{name} is not on the hub: mind the spelling, {own}.")
    if status == 401:
        return SpecError(f"{name}: the hub refuses your HF_TOKEN; make one at https://huggingface.co/settings/tokens.")
    if status is not None:
        return SpecError(f"{name}: the hub answers with error {status}; try again later, {own}.")
    if is_full(error):
        return SpecError(f"{name}: no space left in {cache_folder()}: free some, or set HF_HOME to a folder with more.")
    if any(isinstance(cause, PermissionError) for cause in causes):
        return SpecError(f"{name}: {cache_folder()} cannot be written; set HF_HOME to a folder that can.")
    offline = any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes)
    cause = f"{type(causes[-1]).__name__}: {causes[-1]}".splitlines()[0]
    why = "HF_HUB_OFFLINE is set" if offline else f"the hub cannot be reached ({cause})"
    return Unreachable(
        f"{name} is not whole in the local cache ({cache_folder()}), and {why}: try again with a network, {own}; "
        "model=miniature needs neither."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
