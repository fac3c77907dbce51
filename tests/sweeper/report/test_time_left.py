"""The time left of a sweep, on a simulated clock."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from sweeper.engine.jobs import COMPLETE, PRUNED, Kind, Outcome, Status, Task
from sweeper.forecast import MINIATURE
from sweeper.plan.compile import compile_plan
from sweeper.plan.types import Remaining
from sweeper.report.progress import ProgressDisplay
from sweeper.report.time_left import TRUST, TimeLeft, roughly


@dataclass
class Simulated:
    """A job as the display sees it."""

    path: Path
    task: Task
    status: Status | None = None
    outcome: Outcome | None = None


@dataclass
class Clock:
    time: float = 0.0

    def __call__(self):
        return self.time


@pytest.fixture
def trainings(make_cell):
    """Four trainings of 1,600 steps with four checkpoints each."""
    return compile_plan([make_cell(lr=lr, step=s) for lr in (1, 2, 3, 4) for s in (400, 800, 1200, 1600)]).trainings


def simulate(trainings, rate, expected, at_once=1, loading=20.0, between=5.0, end=COMPLETE, count=None):
    """Sweeps with a true rate: yields (seconds that are really left, what is estimated, the display's share)."""
    clock = Clock()
    time_left = TimeLeft(at_once, expected, clock)
    jobs = [Simulated(Path(str(i)), Task(Kind.TRAIN, training)) for i, training in enumerate(trainings)]
    for job in jobs:
        time_left.expect(job, Remaining(job.task.training, job.task.training.points, 0))
    waiting = [
        (job, _events(job.task.training, rate, loading if i < at_once else between)) for i, job in enumerate(jobs)
    ]
    running = []
    seen = []
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(waiting.pop(0))
        time_left.look(jobs)
        seen.append((clock.time, time_left.seconds(count or len(jobs)), time_left.share(count or len(jobs))))
        clock.time += 1
        for job, events in list(running):
            job.status = next(events, None)
            if job.status is None:
                job.outcome = Outcome(end, rates=dict(rate))
                running.remove((job, events))
    return [(clock.time - at, left, share) for at, left, share in seen]


def _events(training, rate, before):
    """The status of a training, second by second."""
    clock = 0.0
    for _ in range(int(before)):
        yield Status("loading the model")
    begun = 0
    for step in training.steps:
        points = [point for point in training.points if point.step == step]
        for now in range(begun + 1, step + 1):
            clock += rate["step"] * training.spec.images_per_step
            while clock >= 1:
                clock -= 1
                yield Status("training", now, training.last_step, now / training.last_step)
        for point in points:
            for image in range(point.images):
                clock += rate["image"] * point.sample.inference_steps
                while clock >= 1:
                    clock -= 1
                    yield Status(f"sampling step {step}", image, point.images, step / training.last_step)
        begun = step


FAST = {"step": 0.02, "image": 0.011}


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("slower", [0.5, 1, 4])
@pytest.mark.parametrize("expected", [MINIATURE, None])
def test_the_estimate_is_near_and_steady(trainings, at_once, slower, expected):
    """Also where the machine is four times slower than expected, and while the second training loads."""
    rate = {kind: seconds * slower for kind, seconds in FAST.items()}
    seen = simulate(trainings, rate, expected, at_once)
    whole = seen[0][0]
    later = [(true, left) for true, left, _ in seen if true < whole - 20 - 2 * TRUST * slower and true > 15]
    assert len(later) > 20
    for true, left in later:
        assert left == pytest.approx(true, rel=0.3, abs=30)
    for (_, left), (_, following) in zip(later, later[1:], strict=False):
        assert abs(left - following) < 0.1 * whole  # it never jumps
    shares = [share for _, _, share in seen]
    assert shares == sorted(shares)


def test_what_is_not_known_is_not_said(trainings):
    seen = simulate(trainings, FAST, None)
    assert seen[5][1] is None
    assert sum(left is None for _, left, _ in seen) == pytest.approx(20 + TRUST, abs=3)


def test_a_search_counts_the_trials_that_are_not_asked_for_yet(trainings):
    (true, left, _), *_ = simulate(trainings[:2], FAST, MINIATURE, loading=0)
    (_, more, share), *_ = simulate(trainings[:2], FAST, MINIATURE, loading=0, count=8)
    assert more == pytest.approx(4 * left, rel=0.1)


def test_trainings_that_end_early_leave_no_work_behind(trainings):
    """What a pruned training had left counts neither as done nor as to be done."""
    job = Simulated(Path("0"), Task(Kind.TRAIN, trainings[0]))
    clock = Clock()
    time_left = TimeLeft(1, MINIATURE, clock)
    time_left.expect(job, Remaining(trainings[0], trainings[0].points, 0))
    for step in range(1, 101):
        clock.time += 0.08
        job.status = Status("training", step, 1600, step / 1600)
        time_left.look([job])
    before = time_left.seconds(1)
    job.outcome = Outcome(PRUNED)
    time_left.look([job])
    assert time_left.seconds(1) == 0 < before
    assert time_left.share(1) == 1


def test_a_training_that_goes_on_from_a_state_counts_what_it_trains(trainings):
    left = Remaining(trainings[0], trainings[0].points[2:], 800)
    job = Simulated(Path("0"), Task(Kind.TRAIN, trainings[0]), Status("training", 1200, 1600, 0.75))
    time_left = TimeLeft(1, MINIATURE, Clock())
    time_left.expect(job, left)
    time_left.look([job])
    (work,) = time_left.works.values()
    assert (work.trained, work.to_train) == (400 * 4, 800 * 4)


def test_without_a_terminal_there_is_a_line_each_half_minute(trainings, capsys):
    from rich.console import Console

    clock = Clock()
    time_left = TimeLeft(1, MINIATURE, clock)
    job = Simulated(Path("0"), Task(Kind.TRAIN, trainings[0]), Status("training", 400, 1600, 0.25))
    time_left.expect(job, Remaining(trainings[0], trainings[0].points, 0))
    with ProgressDisplay(Console(width=200), {job.path: "lr=1"}, 1, time_left) as display:
        for second in range(91):
            clock.time = float(second)
            display([job])
    lines = [line for line in capsys.readouterr().out.splitlines() if "  sweep  " in line]
    assert len(lines) == 3
    assert " %, about " in lines[0]
    assert lines[0].endswith("left, lr=1  training 400/1600")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "10 s"),
        (94, "90 s"),
        (99.9, "100 s"),
        (100, "2 min"),
        (3569, "59 min"),
        (3571, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_an_estimate_is_said_as_exactly_as_it_is(seconds, words):
    assert roughly(seconds) == words
