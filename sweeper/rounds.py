"""The rounds of adaptive evaluation while they run: each is decided, written down, sampled, and decides the next."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from evaluation.allocation import Taken
from sweeper.engine.crew import Crew
from sweeper.engine.jobs import Job, Kind, Task
from sweeper.plan.types import Plan
from sweeper.report.progress import ProgressDisplay
from sweeper.results.rounds import Rounds, rounds_of
from sweeper.store import Store


def run_rounds(crew: Crew, plan: Plan, store: Store, folder: Path, console: Console, devices: int) -> list[Job]:
    """All rounds of all cells that are scored on their first slice; the jobs that they took. Where a job fails, the
    rounds end with it: the same command goes on from there."""
    jobs: list[Job] = []
    for rounds in rounds_of(plan, store, folder):
        while True:
            decided = rounds.decided
            jobs += _sample(crew, rounds, decided[-1], len(decided), console, devices)
            if not _complete(rounds, decided[-1]):
                console.print(f"round {len(decided)} of evaluation={rounds.evaluation.name} is not complete: "
                              "the same command goes on from there", soft_wrap=True)  # fmt: skip
                break
            if rounds.ended:
                break
            rounds.decide()
    return jobs


def _complete(rounds: Rounds, taken: Taken) -> bool:
    return not rounds.missing(taken) and not rounds.missing_baselines(taken)


def _sample(crew: Crew, rounds: Rounds, taken: Taken, number: int, console: Console, devices: int) -> list[Job]:
    """Samples and scores what the round lacks."""
    lacking = rounds.missing_baselines(taken)
    first = rounds.places[0].training
    needed = [crew.add(Task(Kind.BASELINE, first, points=lacking, devices=devices))] if lacking else []
    needs = tuple(job.id for job in needed)
    jobs = [
        crew.add(Task(Kind.SAMPLE, training, points=points, needs=needs, devices=devices))
        for training, points in rounds.missing(taken).items()
    ]
    titles: Mapping[Path, str] = {job.path: f"round {number}" for job in [*needed, *jobs]}
    if titles:
        with ProgressDisplay(console, dict(titles)) as display:
            crew.wait(display)
    return [*needed, *jobs]
