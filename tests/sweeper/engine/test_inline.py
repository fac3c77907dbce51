"""What the inline engine alone does; the rest is in the contract."""

import subprocess
import sys

from sweeper.engine import devices
from sweeper.engine.base import Resources, Workplace
from sweeper.engine.crew import Crew
from sweeper.engine.inline import InlineEngine
from tests.sweeper.engine.light import handle, task


def test_it_holds_the_lock_of_its_device(tmp_path, monkeypatch):
    """As the workers of other sweeps on this machine do."""
    workplace, lock, held = Workplace(tmp_path / "jobs", tmp_path / "store"), tmp_path / "GPU-0", []
    workplace.jobs.mkdir()
    workplace.store.mkdir()
    monkeypatch.setattr(devices, "locks", lambda lease: [lock])

    class Watched(InlineEngine):
        @staticmethod
        def handler(*given):
            held.append(taken(lock))
            return handle(*given)

    with Crew(Watched(Resources()), workplace) as crew:
        crew.add(task("done"))
        crew.wait(lambda jobs: None)
    assert held == [True]
    assert not taken(lock)


def taken(lock):
    """As another process sees it."""
    code = "import pathlib, sys; from sweeper.engine.devices import claim_share\n"
    code += "with claim_share(pathlib.Path(sys.argv[1])) as free: print(free)"
    return (
        subprocess.run([sys.executable, "-c", code, str(lock)], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
