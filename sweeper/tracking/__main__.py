"""`python -m sweeper.tracking OUTPUT_DIR [URI [EXPERIMENT]]` sends what was kept aside."""

import argparse
import contextlib
from pathlib import Path

from sweeper.tracking.mlflow import Tracker


def main() -> None:
    parser = argparse.ArgumentParser("python -m sweeper.tracking", description="Sends what was kept aside to MLflow.")
    parser.add_argument("folder", type=Path, metavar="OUTPUT_DIR")
    parser.add_argument("uri", nargs="?", help="of an MLflow server; default: the database in OUTPUT_DIR")
    parser.add_argument("experiment", nargs="?", default="dreambooth")
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is no folder; give the output_dir of your sweeps, such as outputs")
    with contextlib.suppress(KeyboardInterrupt):
        print(Tracker(given.uri, given.folder, given.experiment).close() or "Everything is sent.")


if __name__ == "__main__":
    main()
