"""Two processes of one trial, with gloo: all of them sample, and what they sample is what one would."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate import PartialState

from sweeper.engine import scoring
from sweeper.engine.jobs import Kind, Reporter, Task
from sweeper.engine.queue import Queue
from sweeper.engine.training import Execution
from sweeper.store import Store
from tests.sweeper.tiny_sweep import trainings

BATCH = 2
SCRIPT = """
import os, sys
from pathlib import Path
from tests.sweeper.engine import test_several
test_several.run(Path(sys.argv[1]), sys.argv[2:], rank=os.environ["RANK"])
"""


def run(root: Path, typed: list[str], rank: str = "") -> Execution:
    """Does what the trial lacks. With a rank, notes which images this process drew."""
    torch.set_num_threads(1)
    scoring.SAMPLE_BATCH = BATCH
    if rank:
        note_drawn(root, rank)
    (training,) = trainings(*typed)
    (root / "jobs").mkdir(parents=True, exist_ok=True)
    job = Queue(root / "jobs").add(Task(Kind.TRAIN, training))
    execution = Execution(training, Store(root / "store"), Reporter(job), PartialState(cpu=True))
    execution.run()
    return execution


def note_drawn(root: Path, rank: str) -> None:
    from evaluation import sample

    draw = sample.sample_batch

    def noted(components, spec, texts, batch, seed, folder, *rest):
        draw(components, spec, texts, batch, seed, folder, *rest)
        with open(root / f"drawn-{rank}", "a") as file:
            file.writelines(f"{folder.relative_to(root)} {place}\n" for place in batch)

    sample.sample_batch = noted


def files(root: Path) -> dict[str, bytes]:
    """Every sample and score, by name; scores without what differs between two runs."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("store/**/*.png")}


@pytest.mark.faults
def test_all_processes_sample_and_the_files_are_those_of_one(models, tmp_path):
    typed = [*models, "lr=1e-3", "scheduler=ddim,euler_a", "evaluation.class_images=3"]
    one = run(tmp_path / "one", typed)
    shutil.copytree(tmp_path / "one" / "store", tmp_path / "two" / "store")
    sampled = [*(tmp_path / "two" / "store").glob("trainings/*/evaluations"), tmp_path / "two" / "store" / "baselines"]
    for folder in sampled:
        shutil.rmtree(folder)  # the checkpoints stay: those of two processes would differ by rounding
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--no-python"]
    done = subprocess.run(
        [*launcher, sys.executable, "-c", SCRIPT, str(tmp_path / "two"), *typed],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert files(tmp_path / "two") == files(tmp_path / "one")
    store = Store(tmp_path / "two" / "store")
    for point in one.training.points:
        assert store.scorecard(one.spec, point).values == one.store.scorecard(one.spec, point).values
        assert store.baseline_values(one.spec, point).untuned == one.store.baseline_values(one.spec, point).untuned
    drawn = [(tmp_path / "two" / f"drawn-{rank}").read_text().splitlines() for rank in (0, 1)]
    assert max(Counter(drawn[0] + drawn[1]).values()) == 1  # nothing twice
    sets = len(one.training.points) + len({one.store.baselines(one.spec, point) for point in one.training.points})
    assert len(drawn[0] + drawn[1]) == sets * one.training.points[0].images
    assert abs(len(drawn[0]) - len(drawn[1])) <= BATCH * sets
