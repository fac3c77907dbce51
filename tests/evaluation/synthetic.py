"""Scorecards from formulas: s and t as functions of step and lr, laid over prompts and images with noise."""

import numpy as np

from evaluation.sweetspot import Candidate

PROMPTS, IMAGES, PHOTOGRAPHS = 8, 2, 5
S0, SR, TC, T0 = 0.3, 0.8, 0.2, 0.3
STEPS = (100, 200, 300, 400, 500, 600)


def grid(lrs=(2e-6,), steps=STEPS, seeds=(0,)):
    return [
        Candidate(f"{lr}-{step}-{seed}", f"lr={lr}", f"{lr}-{seed}", step, lr, seed, f"lr={lr:g} at step {step}")
        for lr in lrs for step in steps for seed in seeds
    ]  # fmt: skip


def per_image(level, rng, noise=0.0, prompts=PROMPTS, images=IMAGES):
    """`level` plus an effect of the prompt and noise of the image, both of mean zero over the prompts."""
    effect = np.linspace(-1, 1, prompts)[:, None] * 0.02
    jitter = rng.normal(0, noise, (prompts, images))
    return (level + effect + jitter).tolist()


def scorecard(s, t, rng, noise=0.0, **other):
    """The scorecard of a checkpoint whose fidelities are `s` and `t`; `other` replaces metrics."""
    shape = {k: other.pop(k) for k in ("prompts", "images") if k in other}
    values = {
        "dino": per_image(S0 + s * (SR - S0), rng, noise * (SR - S0), **shape),
        "clip_t": per_image(TC + t * (T0 - TC), rng, noise * (T0 - TC), **shape),
        "copying": per_image(0.7, rng, **shape),
        "noise": per_image(3.0, rng, **shape),
        "div": per_image(0.4, rng, **shape),
        "pres": [[S0, S0 + 0.01, S0 - 0.01, S0]],
    } | other
    return {"values": values}


def baselines(prompts=PROMPTS, images=IMAGES, sr=SR, tc=TC):
    rng = np.random.default_rng(99)
    untuned = scorecard(0.0, 1.0, rng, prompts=prompts, images=images)["values"]
    photographs = {
        "dino": [sr] * PHOTOGRAPHS,
        "clip_i": [0.9] * PHOTOGRAPHS,
        "copying": [0.9] * PHOTOGRAPHS,
        "noise": [3.0] * PHOTOGRAPHS,
        "clip_t": (np.linspace(-1, 1, prompts)[:, None] * 0.02 + np.full((prompts, PHOTOGRAPHS), tc)).tolist(),
    }
    return {"untuned": untuned, "photographs": photographs}


def sweep(candidates, s, t, noise=0.03, seed=0, **kwargs):
    """Arguments of `find`: s and t are functions of (step, lr)."""
    rng = np.random.default_rng(seed)
    cards = [scorecard(s(c.step, c.lr), t(c.step, c.lr), rng, noise, **kwargs) for c in candidates]
    shape = {k: kwargs[k] for k in ("prompts", "images") if k in kwargs}
    return candidates, cards, [baselines(**shape)] * len(candidates)
