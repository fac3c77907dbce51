"""One fine-tuning, or with -m a grid or a search: which checkpoint to use, why, and when overfitting began."""

import sys

import hydra
from omegaconf import DictConfig

from sweeper.engine.engines import check_launcher
from sweeper.plan.grid import check_arguments
from trainers.errors import SpecError


@hydra.main(version_base="1.3", config_path="conf", config_name="sweep")
def main(config: DictConfig) -> None:
    from sweeper.main import run_one

    run_one(config)


if __name__ == "__main__":
    given = [a for a in sys.argv[1:] if a.startswith("~") or ("=" in a and not a.startswith("-"))]
    try:
        check_arguments(given, multirun=bool({"-m", "--multirun"} & set(sys.argv)))
        check_launcher(given)
    except SpecError as error:
        sys.exit(f"sweep.py: {error}")
    main()
