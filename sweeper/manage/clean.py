"""What no sweep needs: found first, removed only when asked. What is not known to be unneeded stays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.manage.sweeps import FINISHED, Found, size, sweeps, used_folders
from sweeper.store import Store, claim
from trainers.files import remove_folder

KINDS = ("trainings", "baselines", "class_images")


@dataclass(frozen=True)
class Unneeded:
    folders: tuple[tuple[Path, int], ...]  # with their bytes
    kept: tuple[str, ...]  # why more stays, a sentence each

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.folders)


def unneeded(output_dir: Path) -> Unneeded:
    """The folders of the store that no sweep of this output folder uses.

    Of a sweep that an earlier version has begun it is not known what it uses, nor of a search before it has ended: if
    it is unfinished, everything stays; if it is finished, class images stay.
    """
    store = Store(output_dir / "store")
    found = sweeps(output_dir)
    unknown = [each for each in found if each.uses is None]
    open_ends = [each for each in found if each.state != FINISHED and (each.uses is None or each.is_search)]
    if open_ends:
        return Unneeded((), (f"Nothing can go: what {_names(open_ends)} needs is not known. Finish or delete it.",))
    needed = set[str]().union(*map(used_folders, found))
    rounds = [each for each in found if (each.folder / "rounds").exists()]  # which choose what they sample as they go
    kept = [f"Class images stay: which of them {_names(unknown)} needs is not known."] if unknown else []
    kept += [f"Baselines stay: which of them {_names(rounds)} needs is not known."] if rounds else []
    stay = ["class_images"] * bool(unknown) + ["baselines"] * bool(rounds)
    kinds = [kind for kind in KINDS if kind not in stay]
    gone = [path for kind in kinds for path in _folders(store.root / kind) if f"{kind}/{path.name}" not in needed]
    return Unneeded(tuple((path, size([path])) for path in gone), tuple(kept))


def _names(found: list[Found]) -> str:
    return ", ".join(each.name for each in found)


def _folders(kind: Path) -> Iterator[Path]:
    if kind.is_dir():
        yield from sorted(path for path in kind.iterdir() if path.is_dir() and not path.name.startswith("."))


def remove(output_dir: Path, found: Unneeded) -> int:
    """Removes what was found, unless a sweep that began meanwhile needs it or holds it. Returns the bytes."""
    freed = 0
    still = {path for path, _ in unneeded(output_dir).folders}
    for path, held in found.folders:
        with claim(path, wait=False) as free:
            if free and path in still:
                remove_folder(path)
                freed += held
    return freed
