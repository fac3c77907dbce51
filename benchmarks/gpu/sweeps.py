"""Whole sweeps through the command: undisturbed, with a killed worker, two trainings on one card, two cards for one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.gpu.jobs import cell_of, fitted
from benchmarks.gpu.lines import Line, judged, skipped
from benchmarks.gpu.setup import Setup

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 600  # seconds
LORA = "dreambooth_lora"


def lines(setup: Setup) -> Iterator[Line]:
    trainer = next((trainer for trainer in ("dreambooth", LORA) if not refusal(setup, trainer)), "")
    if not trainer:
        yield skipped("sweeps", refusal(setup, LORA))
        return
    whole = Command(setup, "undisturbed", f"trainer={trainer}").finish()
    yield judged(f"a sweep of two trainings, {trainer}", states(whole), "COMPLETE", complete(whole))
    killed = Command(setup, "killed", f"trainer={trainer}")
    killed.kill_a_worker()
    results = killed.finish()
    yield judged("the same, a worker killed", states(results), "COMPLETE", complete(results))
    yield Line("the same, a worker killed: metrics", differences(whole, results))
    yield from two_on_one(setup)
    if setup.gpu and torch.cuda.device_count() < 2:
        yield skipped("one training on two cards", "there is one card")
        return
    results = Command(setup, "shared", f"trainer={trainer}", "gpus_per_trial=2", "batch_size=2").finish()
    yield judged("one training on two devices", states(results), "COMPLETE", complete(results))


def two_on_one(setup: Setup) -> Iterator[Line]:
    together = "trials_per_gpu=2" if setup.gpu else "cpu_trials=2"
    what = f"two trainings on one device, {LORA}, {together}"
    refused = refusal(setup, LORA, trials=2)
    if refused:
        yield skipped(what, refused)
        return
    results = Command(setup, "together", f"trainer={LORA}", together).finish()
    yield judged(what, states(results), "COMPLETE", complete(results))


def refusal(setup: Setup, trainer: str, trials: int = 1) -> str:
    """Why the card is too small for such trainings, `trials` of them at once; "" where it is not."""
    if not setup.gpu:
        return ""
    spec = setup.spec(mixed_precision="fp16", trainer={"name": trainer})
    found = fitted(cell_of(spec, "fp16"), setup.memory, setup, trials)
    return found if isinstance(found, str) else ""


class Command:
    """`python sweep.py` with a small sweep of the model."""

    def __init__(self, setup: Setup, name: str, *typed: str) -> None:
        self.folder = setup.folder / "sweeps" / name
        arguments = [
            "-m", "model=sd15", f"model.repo={setup.repo}", f"model.resolution={setup.resolution}",
            "model.clip=miniature/weights/clip", "model.dino=miniature/weights/identity",
            f"subject.images={setup.images}", "subject.class_noun=dog", "lr=1e-6,2e-6", "steps=4", "eval_every=2",
            "batch_size=1", "inference_steps=2", "evaluation.images_per_prompt=1", "evaluation.class_images=2",
            f"output_dir={self.folder}", f"name={name}", *typed,
        ]  # fmt: skip
        self.log = setup.folder / f"{name}.log"
        with open(self.log, "wb") as out:
            environment = os.environ | {"HF_HUB_OFFLINE": "1"}
            command = [sys.executable, "sweep.py", *arguments]
            self.process = subprocess.Popen(command, cwd=PROJECT, stdout=out, stderr=out, env=environment)

    def kill_a_worker(self) -> None:
        """Once the first checkpoint is there."""
        deadline = time.monotonic() + PATIENCE
        while not list(self.folder.glob("store/trainings/*/checkpoints/*/manifest.json")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no checkpoint was written; {self.said}")
            time.sleep(0.05)
        workers = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "sweeper.engine.worker" in child.cmdline() and "accelerate.commands.launch" not in child.cmdline()
        ]
        os.kill(workers[0].pid, signal.SIGKILL)

    def finish(self) -> list[dict[str, Any]]:
        """Its cells."""
        self.process.wait(PATIENCE)
        found = list(self.folder.glob("*/results.json"))
        if not found:
            raise RuntimeError(self.said)
        cells: list[dict[str, Any]] = json.loads(found[0].read_text())["cells"]
        return cells

    @property
    def said(self) -> str:
        """The last line that it printed."""
        return (self.log.read_text().strip().splitlines() or ["nothing was printed"])[-1]


def complete(cells: list[dict[str, Any]]) -> bool:
    return bool(cells) and all(cell["state"] == "COMPLETE" for cell in cells)


def states(cells: list[dict[str, Any]]) -> str:
    """The states of the cells, and the first reason of one that failed."""
    reasons = [cell["reason"] for cell in cells if cell.get("reason")]
    return ", ".join(cell["state"] for cell in cells) + (f": {reasons[0]}" if reasons else "")


def differences(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    """How far apart the metrics of two sweeps are."""
    pairs = [
        (first["metrics"][name], second["metrics"][name])
        for first, second in zip(one, other, strict=True)
        for name in first["metrics"].keys() & second["metrics"].keys()
        if isinstance(first["metrics"][name], float) and isinstance(second["metrics"][name], float)
    ]
    largest = max(abs(a - b) for a, b in pairs)
    return "equal" if largest == 0 else f"{largest:.1e} apart at most"
