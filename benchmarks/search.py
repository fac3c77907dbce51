"""What a search saves: how many trainings and steps until it has trained a checkpoint of the grid's region.

    python -m benchmarks.search

The grid lr{6} x prior{2} x text encoder{2} on the miniature runs once (about half an hour on two cores; kept in --out,
so a second call goes on). Its scores then answer every search of the same 24 trainings, so that each sampler and pruner
runs with many seeds and spends nothing: a search is done when it has trained a checkpoint of the grid's region. Printed
are the means over the seeds; a search that never gets there counts as the whole grid. `random` without pruning is what
any search has to beat.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

from sweeper.engine.jobs import COMPLETE, PRUNED
from sweeper.engine.rungs import Rung, rungs, sweet_spot_so_far
from sweeper.plan.grid import CONF, parse
from sweeper.plan.types import Training
from sweeper.search.space import Space, search_space
from sweeper.search.study import SearchSettings, Study
from sweeper.store import Store

PROJECT = Path(__file__).resolve().parent.parent
SPACE = ["lr=5e-7,1e-6,2e-6,5e-6,1e-5,2e-5", "prior_preservation=true,false", "train_text_encoder=true,false"]
FIXED = ["steps=200", "eval_every=50", "batch_size=2", "scheduler=dpm", "inference_steps=15", "guidance_scale=5"]
TINY = ["lr=2e-6,1e-5,5e-5"], ["steps=4", "eval_every=2", "batch_size=1", "scheduler=dpm", "inference_steps=2"]
SEARCHES = [*product(("random", "tpe", "gp"), ("none", "halving", "median")), ("nsga2", "none")]


def run_grid(arguments: Sequence[str], out: Path) -> dict:
    """results.json of the grid, run where it is not complete."""
    command = [sys.executable, "sweep.py", "-m", *arguments, f"output_dir={out}", "name=grid"]
    subprocess.run(command, cwd=PROJECT, check=True)
    return json.loads((out / "grid" / "results.json").read_text())


def known_trainings(space: Space, store: Store) -> dict[tuple, tuple[Training, list[Rung]]]:
    """Every training of the space and its scored checkpoints, by the values of its axes."""
    found = {}
    for point in space.combinations:
        training = space.training(point)
        found[tuple(point.values())] = (
            training,
            rungs(*sweet_spot_so_far(training, store, training.cells[0].evaluation)),
        )
    return found


def search(space: Space, known: dict, region: set, settings: SearchSettings) -> tuple[int, int]:
    """Trainings and steps until a checkpoint of `region` is trained; all there are if that never happens."""
    trained: dict[str, int] = {}  # training -> last step
    with tempfile.TemporaryDirectory() as folder:
        study = Study(settings, space, space.dearest.steps, Path(folder) / "study", "benchmark")
        while trial := study.ask(workers=1):
            training, found = known[tuple(trial.params[axis.key] for axis in space.axes)]
            key = training.spec.signature
            state = COMPLETE
            for count, rung in enumerate(found, start=1):
                trained[key] = max(trained.get(key, 0), rung.step)
                if (key, rung.step) in region:
                    return len(trained), sum(trained.values())
                if study.report(trial, found[:count]) and count < len(found):
                    state = PRUNED
                    break
            study.tell(trial, state, found[:count])
    return len(known), sum(training.last_step for training, _ in known.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PROJECT / "outputs" / "search-benchmark")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="three trainings of four steps: does it run?")
    given = parser.parse_args()
    axes, fixed = TINY if given.tiny else (SPACE, FIXED)
    results = run_grid([*axes, *fixed], given.out)
    spot = results["sweet_spot"]
    rows = results["checkpoints"]
    region = {(rows[i]["training"], rows[i]["params"]["steps"]) for i in spot["region"]}
    if not region:
        best = max(rows, key=lambda row: row["metrics"].get("score", 0))
        region = {(best["training"], best["params"]["steps"])}
        print(f"\n{spot['reason']} So the best score is what is searched for.")
    print(f"\n{len(region)} of {len(rows)} checkpoints are in the region")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        space = search_space(
            parse([*axes, *fixed], None), lambda lines: compose("sweep", lines), lambda lines: parse(lines, None)
        )
        known = known_trainings(space, Store(given.out / "store"))
    whole = len(known), sum(training.last_step for training, _ in known.values())
    print(f"grid: {whole[0]} trainings, {whole[1]:,} steps")
    for sampler, pruner in SEARCHES:
        searches = [
            search(space, known, region, SearchSettings(sampler, pruner, "score", 3 * len(known), seed, None))
            for seed in range(given.seeds)
        ]
        trainings, steps = np.mean(searches, axis=0)
        print(
            f"{sampler:7} {pruner:8} {trainings:5.1f} trainings ({whole[0] / trainings:4.1f} times fewer)  "
            f"{steps:7,.0f} steps ({whole[1] / steps:4.1f} times fewer)",
            flush=True,
        )


if __name__ == "__main__":
    main()
