"""What to run, where, what is done, and what came of it. `run` does from Python what the command does."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.results.types import Results


def run(*arguments: str, **settings: Any) -> "Results | None":
    """`run(lr=[1e-6, 2e-6], steps=400)`; see `sweeper.main.run_python`."""
    from sweeper.main import run_python

    return run_python(*arguments, **settings)
