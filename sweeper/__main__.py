"""Sweeps that run, and sweeps on the disk: status, stop, ls, clean, export.

    status [NAME]          what runs, and how far it is
    stop NAME              end it as Ctrl-C does: the state of each training is saved
    ls                     the sweeps, and what each holds on disk
    clean                  remove what no sweep needs: it is said before, and asked
    export NAME KEY=VALUE  any checkpoint as a diffusers folder, such as lr=2e-6 steps=400

A NAME may be its beginning.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from sweeper.manage import clean, sweeps
from sweeper.settings import one_line


def status(given: argparse.Namespace) -> None:
    found = [sweeps.named(given.output_dir, given.name)] if given.name else sweeps.sweeps(given.output_dir)
    running = [each for each in found if each.state == sweeps.RUNNING or given.name]
    for each in running:
        print(f"{each.name}: {each.state}{', ' + each.answer if each.state == sweeps.FINISHED else ''}")
        for line in sweeps.doing(each):
            print(f"  {line}")
    if not running:
        print(f"Nothing runs in {given.output_dir}.")


def stop(given: argparse.Namespace) -> None:
    print(sweeps.stop(sweeps.named(given.output_dir, given.name)))


def ls(given: argparse.Namespace) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("sweep", "state", "answer"):
        table.add_column(title, overflow="fold")
    for title in ("its folder", "only it uses", "shared"):
        table.add_column(title, justify="right", no_wrap=True)
    for found, *sizes in sweeps.held(given.output_dir):
        table.add_row(*map(Text, (found.name, found.state, found.answer, *map(decimal, sizes))))
    Console(highlight=False).print(table)


def tidy(given: argparse.Namespace) -> None:
    found = clean.unneeded(given.output_dir)
    for path, size in found.folders:
        print(f"{decimal(size):>10}  {path}")
    for line in found.kept:
        print(line)
    if not found.folders:
        print("There is nothing that no sweep needs.")
        return
    print(f"{decimal(found.bytes):>10}  in all: no sweep in {given.output_dir} needs it.")
    if not given.yes and not (sys.stdin.isatty() and input("Remove it? [y/N] ").strip().lower() in ("y", "yes")):
        print("Nothing was removed; --yes removes it.")
        return
    print(f"{decimal(clean.remove(given.output_dir, found))} removed.")


def export(given: argparse.Namespace) -> None:
    from sweeper.manage.export import export as write

    print(write(sweeps.named(given.output_dir, given.name), given.values))


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m sweeper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, does: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        added = commands.add_parser(name)
        added.add_argument("--output-dir", type=Path, default=Path("outputs"), help="of the sweeps; default: outputs")
        added.set_defaults(does=does)
        return added

    command("status", status).add_argument("name", nargs="?")
    command("stop", stop).add_argument("name")
    command("ls", ls)
    command("clean", tidy).add_argument("--yes", action="store_true", help="do not ask")
    exporting = command("export", export)
    exporting.add_argument("name")
    exporting.add_argument("values", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    given.output_dir = given.output_dir.expanduser().absolute()
    with one_line("sweeper"):
        given.does(given)


if __name__ == "__main__":
    main()
