"""Whether two revisions of this repository compute the same, bit for bit.

    python -m benchmarks.same main .            the working tree as it is, against main
    python -m benchmarks.same v0.1 HEAD --work DIR

Both are checked out aside and run the same four short commands on the miniature: a sweep, a search with a pruner, two
trainers with prior preservation, two with a learned word. Their metrics, choices, checkpoints and images are compared.
What the second tells beyond the first is named and no difference; what it tells no more, or otherwise, is one. The exit
code is 0 where all is equal, 1 where something is not. A revision takes three minutes of one core; what it gave is kept
in --work, so that it runs once.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.record import KINDS, Kinds, compare, read_part

PROJECT = Path(__file__).resolve().parent.parent
SHORT = "evaluation.images_per_prompt=1 evaluation.class_images=2 inference_steps=10 batch_size=2"
PARTS = {  # what is typed after `python sweep.py -m`
    "sweep": f"lr=1e-6,2e-6,5e-6 steps=40 eval_every=20 scheduler=dpm {SHORT}",
    "search": "hydra/sweeper=optuna hydra.sweeper.trials=3 hydra.sweeper.pruner=halving lr=interval(1e-7,1e-5) "
    f"steps=20 eval_every=10 scheduler=dpm {SHORT}",
    "prior": "trainer=dreambooth,dreambooth_lora train_text_encoder=true gradient_accumulation_steps=2 "
    "prior_preservation=true prior.num_class_images=4 prior.inference_steps=5 trainer.ema_decay=0.9 use_ema=true,false "
    "trainer.lr_schedule=cosine trainer.min_snr_gamma=5 trainer.offset_noise=0.1 "
    f"lr=5e-6 steps=10 eval_every=0 scheduler=dpm {SHORT}",
    # With the default sampler, pndm, which after so few steps leaves nothing to choose: that is an answer too.
    "words": "trainer=textual_inversion,ti_dreambooth ++trainer.inversion_steps=6 "
    f"lr=2e-6 steps=10 eval_every=0 {SHORT}",
}
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "optuna", "numpy", "scipy", "pillow")
SHOWN = 3  # differences of a row of the table
# An editable installation of another checkout is on the path too, and would lend its modules where this one has none.
ALONE = """import os, sys
sys.path[:] = [p for p in sys.path if p == {checkout!r} or not os.path.exists(os.path.join(p, "sweep.py"))]
"""


def git(*arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=PROJECT, check=True, capture_output=True, text=True)
    return ran.stdout


def commit_of(revision: str) -> str:
    """The full name of its commit. Raises CalledProcessError where there is none."""
    return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()


@contextmanager
def checkout(revision: str) -> Iterator[tuple[str, Path]]:
    """What to call the revision, and a folder with its files; `.` is the working tree, as it is now."""
    with tempfile.TemporaryDirectory(prefix="same-") as temporary:
        folder = Path(temporary) / "checkout"
        if revision == ".":
            yield copy_working_tree(folder), folder
            return
        commit = commit_of(revision)
        git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield commit, folder
        finally:
            git("worktree", "remove", "--force", str(folder))


def copy_working_tree(to: Path) -> str:
    """Copies every file that git does not ignore, and returns a name made from their contents."""
    digest = hashlib.sha256()
    for name in sorted(git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")):
        if (PROJECT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, to / name)
            digest.update(name.encode() + b"\0" + hashlib.sha256((to / name).read_bytes()).digest())
    return f"tree-{digest.hexdigest()}"


def circumstances() -> str:
    """A hash of all that may change the last bits beside the revision: the commands, the packages, the processor."""
    versions = [importlib.metadata.version(name) for name in PACKAGES]
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")][:1]
    facts = json.dumps([PARTS, KINDS, platform.python_version(), versions, processor])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def record_of(name: str, code: Path, work: Path) -> dict[str, Kinds]:
    """What each part gave, by kind; run where it is not kept."""
    kept = work / f"{name}-{circumstances()}.json"
    if kept.exists():
        print(f"{name[:12]} was run before: {kept}")
    else:
        work.mkdir(parents=True, exist_ok=True)
        out = Path(tempfile.mkdtemp(prefix=f"{name[:12]}-", dir=work))
        record: dict[str, Kinds] = {}
        for part, arguments in PARTS.items():
            run(name, code, part, arguments.split(), out)
            record[part] = read_part(out / part, part)
        (out / "record.json").write_text(json.dumps(record, indent=1))
        os.replace(out / "record.json", kept)
        shutil.rmtree(out)
    record = json.loads(kept.read_text())
    return record


def run(name: str, code: Path, part: str, arguments: list[str], out: Path) -> None:
    """One command in a revision's folder. Ends the program where it fails; what it wrote is left to look at."""
    (out / "path").mkdir(exist_ok=True)
    (out / "path" / "sitecustomize.py").write_text(ALONE.format(checkout=str(code)))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(code), str(out / "path")]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",  # a GPU does not give the same bits twice
    }
    command = [sys.executable, "sweep.py", "-m", *arguments, f"output_dir={out / part}", f"name={part}"]
    start = time.monotonic()
    log = out / f"{part}.log"
    with open(log, "w") as text:
        ended = subprocess.run(command, cwd=code, env=environment, stdout=text, stderr=subprocess.STDOUT)
    if ended.returncode:
        sys.exit(f"same: {name[:12]}: {part} ended with code {ended.returncode}; see {log}")
    print(f"{name[:12]} {part}: {time.monotonic() - start:.0f} s", flush=True)


def show(old: dict[str, Kinds], new: dict[str, Kinds]) -> bool:
    """Prints the table. Returns whether all is equal."""
    equal = True
    extras = []
    print(f"\n{'part':8}{'compared':12}{'count':>7}  outcome")
    for part in PARTS:
        for kind in KINDS:
            found = compare(kind, old[part][kind], new[part][kind])
            outcome = f"{len(found.differences)} differ" if found.differences else "same"
            print(f"{part:8}{kind:12}{found.compared:7,}  {outcome}")
            for difference in found.differences[:SHOWN]:
                print(f"{'':29}{difference}")
            extras += [f"{part} {kind} {path}" for path in found.extras]
            equal = equal and not found.differences
    if extras:
        print(f"\n{len(extras)} values that only the second has, such as")
        print("\n".join(extras[:SHOWN]))
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="REVISION", help="what git knows, or . for the working tree")
    parser.add_argument("new", metavar="REVISION")
    parser.add_argument(
        "--work", metavar="DIR", type=Path, default=PROJECT / "outputs" / "same", help="where results are kept"
    )
    given = parser.parse_args()
    for revision in {given.old, given.new} - {"."}:
        try:
            commit_of(revision)
        except subprocess.CalledProcessError:
            parser.exit(2, f"same: {revision}: no such revision of {PROJECT}\n")
    # A worker takes a thread for each core that it may use, and their number decides about the last bits.
    os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
    with checkout(given.old) as old, checkout(given.new) as new:  # before the first runs: a working tree changes
        records = [record_of(*each, given.work.absolute()) for each in (old, new)]
    equal = show(*records)
    print(f"\n{given.old} and {given.new}: {'same' if equal else 'not the same'}")
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
