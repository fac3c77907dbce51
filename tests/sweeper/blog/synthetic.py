"""Results of experiments from formulas: levels of s, t, copying, drift and noise as functions of the parameters."""

from itertools import product

import numpy as np

from evaluation.scorecard import Baselines, Scorecard
from sweeper.blog.evidence import Evidence, Observation

PROMPTS, IMAGES, CLASS_IMAGES, PHOTOGRAPHS = 8, 2, 4, 5
S0, SR, TC, T0, ALIKE, GREY = 0.3, 0.8, 0.2, 0.3, 0.9, 3.0
LEVELS = {"s": 0.5, "t": 0.5, "copying": 0.0, "drift": 0.0, "noise": 0.0}
KINDS = {"cat_toy": "object", "potato_head": "object", "face": "face"}


def values(rng, sway=0.0, **levels):
    """Per-image values whose means are `levels`, give or take `sway` on half of the prompts each."""

    def around(name, count, images):
        give = sway * rng.permutation([1, -1] * (count // 2))
        return np.repeat((levels[name] + give)[:, None], images, axis=1)

    return {
        "dino": (S0 + around("s", PROMPTS, IMAGES) * (SR - S0)).tolist(),
        "clip_t": (TC + around("t", PROMPTS, IMAGES) * (T0 - TC)).tolist(),
        "copying": (ALIKE + around("copying", PROMPTS, IMAGES) * (1 - ALIKE)).tolist(),
        "pres": (S0 + around("drift", CLASS_IMAGES, 1) * (SR - S0)).T.tolist(),
        "noise": (GREY * np.exp(around("noise", PROMPTS, IMAGES))).tolist(),
        "div": np.full((PROMPTS, IMAGES), 0.4).tolist(),
    }


def scorecard(values):
    return Scorecard.from_json({"values": values})


_UNTUNED_AND_PHOTOGRAPHS = {
    "untuned": values(np.random.default_rng(0), s=0.0, t=1.0, copying=-1.0, drift=0.0, noise=0.0),
    "photographs": {
        "dino": [SR] * PHOTOGRAPHS,
        "clip_i": [0.9] * PHOTOGRAPHS,
        "copying": [ALIKE] * PHOTOGRAPHS,
        "noise": [GREY] * PHOTOGRAPHS,
        "clip_t": np.full((PROMPTS, PHOTOGRAPHS), TC).tolist(),
    },
}
BASELINES = Baselines.from_json(_UNTUNED_AND_PHOTOGRAPHS)


def evidence(levels, sway=0.0, seeds=(0,), **axes):
    """All combinations of `axes`; `levels(params)` gives what differs from LEVELS, `steps(subject)` the steps."""
    rng = np.random.default_rng(1)
    observations = []
    steps = axes.pop("steps")
    for picked in product(*axes.values()):
        params = dict(zip(axes, picked, strict=True))
        for step, seed in product(steps(params["subject"]), seeds):
            params = {**params, "steps": step, "seed": seed, "kind": KINDS[params["subject"]]}
            card = scorecard(values(rng, sway, **{**LEVELS, **levels(params)}))
            observations.append(Observation(params, card, BASELINES))
    return Evidence(tuple(observations))
