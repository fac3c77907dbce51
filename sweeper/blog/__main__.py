"""The post, reconstructed: runs its experiments, assesses its twelve claims, writes blog.html and blog.json.

  python -m sweeper.blog                                        on the miniature
  python -m sweeper.blog plan_only=true                         what it would cost, and stop
  python -m sweeper.blog --photos DIR model=sd14 [KEY=VALUE...]  your weights and photographs

DIR holds one folder of photographs for each subject: object/CLASS_NOUN (up to three) and face/CLASS_NOUN (one), such
as object/cat_toy and face/man. Every KEY=VALUE goes to every experiment and wins over its file: seed=0,1,2 trains three
seeds. keep=best saves disk and costs a few trainings, as experiments share checkpoints. The same command goes on after
it was stopped.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from sweeper import forecast
from sweeper.blog.catalogue import EXPERIMENTS
from sweeper.blog.experiments import Experiment, compose_all
from sweeper.blog.page import write_blog
from sweeper.engine.engines import make_engine
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.downloads import left_of
from sweeper.plan.grid import check_arguments
from sweeper.plan.warnings import warnings
from sweeper.report.progress import print_plan
from sweeper.settings import Settings, one_line
from sweeper.store import Store

PROJECT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m sweeper.blog", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="your photographs, instead of the miniature's subjects")
    parser.add_argument("--only", choices=EXPERIMENTS, help="this experiment; claims that need others get no verdict")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    with one_line():
        names = (options.only,) if options.only else EXPERIMENTS
        check_arguments(options.overrides, multirun=True)
        experiments, settings = compose_all(names, options.overrides, options.photos)
        store = Store(settings.output_dir / "store")
        store.check_format()
        show_plan(experiments, store, settings)
        if settings.plan_only:
            return 0
        failed = [experiment for experiment in experiments if run(experiment, store)]
        folder = settings.output_dir / f"blog-{experiments[0].model}"
        sys.stdout.write(f"\nblog.html          {write_blog(folder, experiments, store)}\n")
        return 1 if failed else 0


def show_plan(experiments: list[Experiment], store: Store, settings: Settings) -> None:
    """What all experiments take together. A training that several of them need counts once."""
    plan = compile_plan(cell for experiment in experiments for cell in experiment.grid.cells)
    left = [store.left(training) for training in plan.trainings]
    names = tuple(dict.fromkeys(experiment.name for experiment in experiments))
    capacity = make_engine(settings).capacity()
    seconds = forecast.seconds(left, store, capacity.devices)
    disk = forecast.disk_of(left, store, settings.keep, capacity)
    model = experiments[0].model
    basis = forecast.basis(store, plan.trainings[0].spec.model)
    axes = {"experiment": names}
    print_plan(Console(), cost(left, store), axes, seconds, disk, model, plan, left_of(plan), basis, warnings(plan))


def run(experiment: Experiment, store: Store) -> int:
    """Runs the experiment's sweep, unless all of its results and its page are there. Returns the exit code."""
    done = not any(store.missing(training) for training in experiment.plan.trainings)
    if done and experiment.report(store).exists():
        return 0
    sys.stdout.write(f"\n$ python {' '.join(experiment.command)}\n")
    sys.stdout.flush()
    paths = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, str(PROJECT / "sweep.py"), *experiment.command[1:]]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}).returncode


if __name__ == "__main__":
    sys.exit(main())
