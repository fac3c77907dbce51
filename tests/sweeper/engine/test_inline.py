"""What the inline engine alone does; the rest is in the contract."""

from sweeper.engine import devices
from sweeper.engine.base import Resources, Workplace
from sweeper.engine.crew import Crew
from sweeper.engine.inline import InlineEngine
from sweeper.store import is_claimed
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
            held.append(is_claimed(lock))
            return handle(*given)

    with Crew(Watched(Resources()), workplace) as crew:
        crew.add(task("done"))
        crew.wait(lambda jobs: None)
    assert held == [True]
    assert not is_claimed(lock)
