"""A finished sweep made of formulas and drawn shapes: what the reports and the tracker are tested on."""

import math
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from evaluation.sweetspot import SweetSpot
from sweeper.results.types import COMPLETE, FAIL, Results, Row, TrainingResult

PROMPTS = ("a sks cat toy in the snow", "a sks cat toy on a beach", "a red sks cat toy", "a sks cat toy in a jungle")
PAPERS = ((225, 235, 245), (240, 215, 160), (245, 245, 245), (120, 165, 110))
AXES = {
    "lr": (1e-6, 2e-6, 5e-6),
    "steps": (400, 800, 1200),
    "prior_preservation": (False, True),
    "train_text_encoder": (False, True),
    "scheduler": ("pndm", "lms", "ddim"),
}


def make_results(
    folder: Path,
    axes: dict = AXES,
    *,
    images: bool = True,
    prompts: tuple = PROMPTS,
    subject: str = "cat toy",
    fail: tuple = (),
    name: str = "2026-11-20_12-00-00",
) -> Results:
    """Every combination of `axes`; the combinations numbered in `fail` did not finish."""
    rows = [_row(folder, dict(zip(axes, values, strict=True)), images, prompts) for values in product(*axes.values())]
    for i in fail:
        reason = "not enough memory: tried 2.1 GiB"
        rows[i] = Row(rows[i].params, rows[i].training, FAIL, reason=reason, log=folder / "log.txt")
    spot, best = _sweet_spot(rows, axes)
    trainings = {row.training: row for row in rows}
    photographs = tuple(_photograph(folder / "instance" / f"{i}.png", i) for i in range(4)) if images else ()
    if images:
        _samples(folder / "untuned", 0.0, 1.0, 0.0, prompts)
    return Results(
        name=name,
        folder=folder,
        command="python sweep.py -m lr=1e-6,2e-6,5e-6",
        axes={n: v for n, v in axes.items() if len(v) > 1},
        rows=tuple(rows),
        trainings=tuple(_training(row) for row in trainings.values()),
        sweet_spot=spot,
        best=best,
        export=folder / "sweet_spot",
        instance_images=photographs,
        prompts=prompts,
        baselines={"S0": 0.31, "T0": 0.29, "SR": 0.88, "Tc": 0.21},
        backbones={"dino": "miniature-identity", "clip_i": "miniature-clip", "clip_t": "miniature-clip"},
        model="miniature",
        subject=subject,
        plan={
            "cells": len(rows),
            "trainings": len(trainings),
            "training_steps": 1200 * len(trainings),
            "training_steps_unshared": sum(row.step for row in rows),
        },
        timings={"training": 700.0, "sampling": 420.0, "scoring": 61.0, "pages": 9.0},
    )


def _row(folder: Path, params: dict, images: bool, prompts: tuple) -> Row:
    dose = params.get("lr", 2e-6) / 2e-6 * params["steps"] / 700 * (1.3 if params.get("train_text_encoder") else 1.0)
    prior = 0.6 if params.get("prior_preservation") else 1.0
    s = 1 / (1 + math.exp(-3.2 * (math.log(dose) + 0.45)))
    t = 1 - 0.75 / (1 + math.exp(-3.0 * (math.log(dose * prior) - 0.9)))
    noise = max(0.0, math.log(dose * prior)) * {"ddim": 0.4, "lms": 1.2}.get(params.get("scheduler"), 0.8)
    s, t = s - 0.04 * noise, t - 0.05 * noise
    score = 2 * s * t / (s + t)
    key = "-".join(str(v) for v in params.values())
    training = "-".join(str(v) for n, v in params.items() if n not in ("steps", "scheduler"))
    vetoes = (f"noise {noise:.2f} above the untuned model's",) if noise > 0.9 else ()
    expected = {} if vetoes else {"expected_score": 0.98 * score, "p_best": score / 50}
    samples = folder / "samples" / key
    if images:
        _samples(samples, s, t, noise, prompts)
    return Row(
        params=params | {"guidance_scale": 7.5},
        training=training,
        state=COMPLETE,
        metrics={"s": s, "t": t, "score": score, "dino": 0.31 + 0.57 * s, "clip_i": 0.5 + 0.3 * s}
        | expected
        | {"clip_t": 0.21 + 0.08 * t, "noise": noise, "copying": max(0.0, dose * prior - 2)},
        intervals={"s": (s - 0.05, s + 0.05), "t": (t - 0.06, t + 0.06), "score": (score - 0.04, score + 0.04)},
        vetoes=vetoes,
        checkpoint=folder / "trainings" / training / "checkpoints" / f"{params['steps']:06d}",
        samples=samples if images else None,
        untuned=folder / "untuned" if images else None,
        curve="-".join(str(v) for n, v in params.items() if n not in ("steps", "seed")),
    )


def _training(row: Row) -> TrainingResult:
    params = {n: v for n, v in row.params.items() if n not in ("steps", "scheduler", "guidance_scale")}
    loss = tuple((step, 0.4 * math.exp(-step / 300) + 0.1) for step in range(10, 1201, 10))
    return TrainingResult(row.training, params, COMPLETE, loss)


def _sweet_spot(rows: list[Row], axes: dict) -> tuple[SweetSpot, int | None]:
    score = np.array([row.metrics.get("score", np.nan) for row in rows])
    allowed = np.where([bool(row.vetoes) for row in rows], -1, score)
    if np.isnan(score).all():
        return SweetSpot(False, "none", "No cell finished."), None
    best = int(np.nanargmax(allowed))
    words = " ".join(f"{name}={rows[best].params[name]}" for name in axes)
    onset = {}
    for row in rows:
        if row.metrics and row.metrics["t"] < 0.6:
            onset[row.curve] = min(row.step, onset.get(row.curve) or row.step)
    column = lambda name: tuple(row.metrics.get(name, math.nan) for row in rows)  # noqa: E731
    s, t = np.array(column("s")), np.array(column("t"))
    pareto = tuple(i for i in range(len(rows)) if not (((s >= s[i]) & (t > t[i])) | ((s > s[i]) & (t >= t[i]))).any())
    spot = SweetSpot(
        found=True,
        verdict="region",
        reason=f"Use {words}: it keeps the subject (s {s[best]:.2f}) and still obeys prompts (t {t[best]:.2f}).",
        best=best,
        region=tuple(np.flatnonzero(allowed > allowed[best] - 0.03).tolist()),
        pareto=tuple(i for i in pareto if not math.isnan(s[i])),
        knee=best,
        onset=onset,
        s=column("s"),
        t=column("t"),
        score=column("score"),
        vetoes=tuple(row.vetoes for row in rows),
        expected_score=column("expected_score"),
        p_best=column("p_best"),
        region_probability=0.93,
        conditional_on="one training seed",
    )
    return spot, best


def _samples(folder: Path, s: float, t: float, noise: float, prompts: tuple) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for p in range(len(prompts)):
        _scene(p, s, t, noise).save(folder / f"{p:02d}-00.png")


def _photograph(path: Path, i: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _scene(i, 1.0, 0.0, 0.0).save(path)
    return path


def _scene(p: int, s: float, t: float, noise: float) -> Image.Image:
    """A toy whose colours are the subject's as far as s goes, on the prompt's paper as far as t goes."""
    mix = lambda a, b, w: tuple(int(x * (1 - w) + y * w) for x, y in zip(a, b, strict=True))  # noqa: E731
    image = Image.new("RGB", (64, 64), mix((150, 120, 100), PAPERS[p % 4], max(0.0, t)))
    pen = ImageDraw.Draw(image)
    x, y = 12 + 4 * (p % 3), 14 + 3 * (p % 2)
    pen.ellipse((x, y, x + 36, y + 38), fill=mix((140, 140, 150), (220, 90, 50), max(0.0, min(1.0, s))))
    for ear in (0, 22):
        pen.polygon([(x + 3 + ear, y + 8), (x + 8 + ear, y - 8), (x + 13 + ear, y + 8)], fill=(90, 50, 40))
    pen.ellipse((x + 9, y + 14, x + 14, y + 19), fill="white")
    pen.ellipse((x + 22, y + 14, x + 27, y + 19), fill="white")
    grain = np.random.default_rng(p).normal(0, 30 * min(2.0, noise), (64, 64, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
