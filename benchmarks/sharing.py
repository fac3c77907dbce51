"""What sharing saves: the grid of the post as one sweep, against one process per cell that trains and samples it alone.

    python -m benchmarks.sharing --scale 0.1

lr{3} x steps{3} x prior{2} x text encoder{2} x scheduler{3} = 108 cells on the miniature. The loop runs on a stratified
part of the cells (every value of every axis equally often where --cells is a multiple of 6) and is scaled to all 108 by
their number; its results must equal the sweep's. --scale multiplies the post's 400, 800 and 1200 steps. Every command
starts with an empty store, and evaluates at the asked steps only.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
AXES = {
    "lr": ("1e-6", "2e-6", "5e-6"),
    "prior_preservation": ("false", "true"),
    "train_text_encoder": ("false", "true"),
    "scheduler": ("pndm", "lms", "ddim"),
}


def run(arguments: list[str], out: Path) -> tuple[float, dict]:
    """Seconds of the command, and its results.json."""
    start = time.perf_counter()
    command = [sys.executable, "sweep.py", *arguments, "eval_every=0", f"output_dir={out}", "name=benchmark"]
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, json.loads((out / "benchmark" / "results.json").read_text())


def stratified(cells: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    """`count` cells in which the values of each axis appear as equally often as can be."""
    draw = random.Random(0)
    chosen: list[dict[str, str]] = []
    for _ in range(count):
        seen = {(name, cell[name]): 0 for cell in cells for name in cell}
        for cell in chosen:
            for item in cell.items():
                seen[item] += 1
        left = [cell for cell in cells if cell not in chosen]
        chosen.append(min(left, key=lambda cell: (sum(seen[item] for item in cell.items()), draw.random())))
    return chosen


def key(params: dict) -> tuple:
    return tuple(params[name] for name in ("lr", "steps", "prior_preservation", "train_text_encoder", "scheduler"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--cells", type=int, default=6, help="cells that the loop runs")
    parser.add_argument("--out", type=Path, help="default: a temporary folder")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="for every command, such as inference_steps=8"
    )
    given = parser.parse_args()
    steps = tuple(str(round(n * given.scale)) for n in (400, 800, 1200))
    axes = {**AXES, "steps": steps}
    cells = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        grid = (f"{name}={','.join(values)}" for name, values in axes.items())
        shared, sweep = run(["-m", *grid, *given.overrides], out / "sweep")
        results = {key(cell["params"]): cell["metrics"] for cell in sweep["cells"]}
        alone = equal = 0.0
        chosen = stratified(cells, given.cells)
        for number, cell in enumerate(chosen):
            typed = (f"{name}={value}" for name, value in cell.items())
            seconds, single = run([*typed, *given.overrides], out / f"cell-{number}")
            (own,) = single["cells"]
            raw = [name for name in own["metrics"] if name not in ("s", "t", "score")]  # these depend on the whole grid
            equal += all(own["metrics"][name] == results[key(own["params"])][name] for name in raw)
            alone += seconds
            print(f"alone {cell}: {seconds:.1f} s", flush=True)
    plan = sweep["plan"]
    whole = alone * len(cells) / len(chosen)
    print(f"training steps: {plan['training_steps_unshared']:,} / {plan['training_steps']:,} = "
          f"{plan['training_steps_unshared'] / plan['training_steps']:.1f} times fewer")  # fmt: skip
    print(
        f"wall time: {whole:.0f} s (scaled from {len(chosen)} cells) / {shared:.0f} s = {whole / shared:.1f} times less"
    )
    print(f"equal results: {equal:.0f} of {len(chosen)} cells")
    kinds = ("training", "sampling", "scoring", "baselines", "class images")
    work = sum(sweep["timings"].get(kind, 0.0) for kind in kinds)
    print(f"overhead of the sweep (neither training, sampling nor scoring): {1 - work / sweep['timings']['wall']:.1%}")


if __name__ == "__main__":
    main()
