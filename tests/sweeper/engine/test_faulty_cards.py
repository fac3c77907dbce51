"""Devices at fault, as the local engine meets them: real workers on cards that only pretend to be there."""

import tempfile
import time

import pytest

from sweeper.engine import devices
from sweeper.engine.base import Resources
from sweeper.engine.crew import Crew
from sweeper.engine.devices import Lease
from sweeper.engine.jobs import COMPLETE, FAIL
from sweeper.engine.local import LocalEngine
from tests.sweeper.engine.contract import workplace  # noqa: F401  - a fixture
from tests.sweeper.engine.light import ran, task
from trainers.files import write_json

pytestmark = pytest.mark.gpus

GB = 1024**3


class Carded(LocalEngine):
    module = "tests.sweeper.engine.carded"


@pytest.fixture
def crew(workplace, monkeypatch, tmp_path):  # noqa: F811
    """A crew on these cards, the list of what is said, and how to change a card."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(devices, "count_gpus", lambda: 1)

    def make(**cards):
        said = []

        def change(**cards):
            write_json(workplace.store / "cards.json", cards)

        def leases(*_):
            return [Lease((name,), 1, memory=card["total"] * GB) for name, card in cards.items()]

        change(**cards)
        monkeypatch.setattr(devices, "leases", leases)
        return Crew(Carded(Resources()), workplace, said.append), said, change

    return make


def wait(crew, watch=lambda jobs: None):
    deadline = time.monotonic() + 300

    def watched(jobs):
        assert time.monotonic() < deadline
        watch(jobs)

    crew.wait(watched)


@pytest.mark.faults
def test_dead_lost_and_small_cards_leave_their_jobs_to_the_others(crew, workplace):  # noqa: F811
    crew, said, _ = crew(
        dead={"total": 24, "dead": True}, lost={"total": 80, "lost": True}, small={"total": 8}, good={"total": 24}
    )

    def watch(jobs):
        if {line.split()[0] for line in said if "is left out" in line} == {"dead", "lost"}:
            (workplace.store / "go").touch()

    with crew:
        crew.engine.prepare()
        jobs = [crew.add(task("wait", seed, gb=10)) for seed in range(3)] + [crew.add(task("wait", 3))]
        wait(crew, watch)
    assert [job.outcome.state for job in jobs] == [COMPLETE] * 4
    assert all(not job.lost for job in jobs)
    died = "its context is dead (CUDA error: an illegal memory access was encountered)"
    assert f"dead is left out: {died}" in said
    assert "lost is left out: it cannot be used (no CUDA-capable device is detected)" in said
    assert len(ran(workplace.store)) == 4


@pytest.mark.faults
def test_a_job_too_large_for_the_largest_card_has_failed_and_its_worker_goes_on(crew):
    crew, said, _ = crew(small={"total": 8}, good={"total": 24})
    with crew:
        large, other = crew.add(task("done", gb=40)), crew.add(task("done", 1))
        wait(crew)
        assert all(state.fault is None for state in crew.engine.states().values())
    assert (large.outcome.state, large.outcome.reason) == (FAIL, "DoesNotFit: this training needs 40 GB")
    assert other.outcome.state == COMPLETE
    assert not [line for line in said if "left out" in line]


def test_a_job_waits_until_the_neighbour_is_gone_and_says_so(crew, workplace):  # noqa: F811
    """A smaller one need not."""
    crew, said, change = crew(good={"total": 24, "others": 15})
    with crew:
        large, small, begun = crew.add(task("done", gb=10)), crew.add(task("done", 1, gb=9)), []

        def watch(jobs):
            if said and small.outcome and not begun:
                begun.append(large.status)
                change(good={"total": 24, "others": 14})

        wait(crew, watch)
    assert begun == [None]
    assert (large.outcome.state, small.outcome.state) == (COMPLETE, COMPLETE)
    assert ran(workplace.store) == [small.id, large.id]
    assert said == ["waits until good has room: the next job needs 10.0 GB, and other programs hold 15.0 of its 24.0"]
