"""Commands as they work when they are pasted, whether the environment is activated or not; no password is in them."""

import re
import shlex
import shutil
import sys
from pathlib import Path

# In the address of a server: between the name of a user, which may be empty, and the host.
PASSWORD = re.compile(r"(?<=://)([^\s/:@'\"]*):[^\s/'\"]+@")


def without_passwords(text: str) -> str:
    """What is shown, kept or sent: addresses in it lose their passwords."""
    return PASSWORD.sub(r"\1:***@", text)


def program(name: str) -> str:
    """A program of this environment: its name where the shell finds it by that, else its path, from here if it can."""
    path = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(path):
        return name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def python() -> str:
    return program(Path(sys.executable).name)


def typed() -> str:
    """The command line that started this process, without the passwords in it."""
    return without_passwords(_typed())


def _typed() -> str:
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if module is not None:  # python -m
        return shlex.join([python(), "-m", module.name.removesuffix(".__main__"), *sys.argv[1:]])
    if sys.argv[0].endswith(".py"):
        return shlex.join([python(), *sys.argv])
    name = Path(sys.argv[0]).name  # an installed command
    return shlex.join([program(name) if Path(sys.executable).with_name(name).exists() else sys.argv[0], *sys.argv[1:]])
