"""Accepts a GPU in one command: speed, memory, repeatability and faults, with a model of full size and random weights.

make gpu                            Stable Diffusion 1.5 at 512 px; about ten minutes; writes docs/gpu/CARD.md
python -m benchmarks.gpu --small    an eighth of the width at 64 px, also without a GPU: that all of it runs
"""

import argparse
import re
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu import memory, memory_error, repeat, speed, sweeps
from benchmarks.gpu.lines import FAIL, Line, attempted, markdown
from benchmarks.gpu.setup import Setup
from benchmarks.random_models import FAMILIES
from benchmarks.training import photographs
from trainers.families.hub import quiet

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gpu"
STEPS, SMALL_STEPS = 20, 3  # optimizer steps that are timed
CHECKS = {
    "training": speed.training_lines,
    "a plain loop": speed.plain_lines,
    "sampling": speed.sampling_lines,
    "memory": memory.lines,
    "repeating": repeat.lines,
    "out of memory": memory_error.lines,
    "sweeps": sweeps.lines,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=FAMILIES, default=next(iter(FAMILIES)))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--to", type=Path, help="the folder of the table; default: docs/gpu, with --small none")
    arguments = parser.parse_args()
    if not (torch.cuda.is_available() or arguments.small):
        parser.error("there is no GPU; --small runs without")
    quiet()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        setup, found = measured(Path(folder), arguments.family, arguments.small)
    minutes = (time.monotonic() - start) / 60
    size = "an eighth of the width" if arguments.small else "full size"
    about = f"{arguments.family} with random weights, {size}, {setup.resolution} px; torch {torch.__version__}"
    about += f"; {minutes:.0f} minutes."
    to = arguments.to or (None if arguments.small else DOCS)
    if to:
        path = to / f"{re.sub(r'[^a-z0-9]+', '-', setup.card.lower()).strip('-')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown(setup.card, [about], found))
        print(path)
    failed = sum(line.verdict == FAIL for line in found)
    print(f"{setup.card}, {about} {failed} of {len(found)} lines fail.")
    return 1 if failed else 0


def measured(folder: Path, family: str, small: bool) -> tuple[Setup, list[Line]]:
    """Every line, printed as it comes."""
    build, resolution = FAMILIES[family]
    repo = str(build(folder / "model", 8 if small else 1))
    resolution = 64 if small else resolution
    images = photographs(folder / "images", size=resolution)
    setup = Setup(repo, images, resolution, folder, SMALL_STEPS if small else STEPS)
    found: list[Line] = []
    for what, check in CHECKS.items():
        for line in attempted(what, partial(check, setup)):
            wanted = f" (wanted: {line.wanted})" if line.wanted else ""
            print(f"{line.verdict:9} {line.what}: {line.measured}{wanted}", flush=True)
            found.append(line)
    return setup, found


if __name__ == "__main__":
    sys.exit(main())
