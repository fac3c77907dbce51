"""One fine-tuning, or with -m a grid or a search: which checkpoint to use, why, and when overfitting began."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from sweeper.engine.engines import check_launcher
from sweeper.plan.grid import check_arguments
from trainers.errors import SpecError


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().with_name("conf")), config_name="sweep")
def main(config: DictConfig) -> None:
    from sweeper.main import run_one

    run_one(config)


def command() -> None:
    """What was typed: `python sweep.py`, or `dreambooth-sweep` where the project is installed."""
    given = [a for a in sys.argv[1:] if a.startswith("~") or ("=" in a and not a.startswith("-"))]
    try:
        check_arguments(given, multirun=bool({"-m", "--multirun"} & set(sys.argv)))
        check_launcher(given)
    except SpecError as error:
        sys.exit(f"sweep.py: {error}")
    main()


if __name__ == "__main__":
    command()
