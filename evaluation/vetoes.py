"""What rules a checkpoint out however well it scores: copying, noise, a drifted class, collapse.

A veto needs evidence: the lower end of the interval of an excess must be above its margin. Class drift is special:
without prior preservation the class nearly always drifts as the subject is learned (see `vetoes_in_force`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import average, draw_weights, drawn_means, interval, means

Arrays = dict[str, dict[str, np.ndarray]]  # baselines: "untuned" [U, K] and "photographs" [N], each by metric


@dataclass(frozen=True)
class Veto:
    """`excess` turns values [..., U] and the baselines' values into what must stay at or below `margin`."""

    excess: Callable[[np.ndarray, Arrays], np.ndarray]
    needs: tuple[tuple[str, str], ...]  # what it reads of the baselines
    margin: float
    words: str  # takes the excess and the ends of its interval
    advice: str

    def applies(self, base: Arrays) -> bool:
        """Whether the baselines hold what it needs."""
        return all(name in base[kind] for kind, name in self.needs)


def copied(values: np.ndarray, base: Arrays) -> np.ndarray:
    """1 for an image that is a copy, else 0: in the mean of `nearness` images that are none excuse the others."""
    return np.where(np.isfinite(values), nearness(values, base) > COPY, np.nan)


def nearness(values: np.ndarray, base: Arrays) -> np.ndarray:
    """How near images are to a photograph: as near as photographs are to each other (0), or identical to one (1)."""
    usual = np.mean(base["photographs"]["copying"])
    return (values - usual) / max(1 - usual, FLOOR)


def noise(values: np.ndarray, base: Arrays) -> np.ndarray:
    """Log of the noise, relative to the untuned model's on the same prompt or to the photographs' if they have more."""
    usual = np.maximum(base["untuned"]["noise"], np.mean(base["photographs"]["noise"]))
    return np.log(np.maximum(values, FLOOR) / np.maximum(usual, FLOOR))


def pres(values: np.ndarray, base: Arrays) -> np.ndarray:
    """How far plain images of the class have gone from the untuned model's (0) towards the photographs (1)."""
    way = np.mean(base["photographs"]["dino"]) - np.mean(base["untuned"]["pres"])
    return (values - base["untuned"]["pres"]) / max(way, FLOOR)


def div(values: np.ndarray, base: Arrays) -> np.ndarray:
    """The share of the untuned model's diversity that is lost."""
    return 1 - values / np.maximum(average(base["untuned"]["div"].ravel()), FLOOR)


FLOOR = 1e-3
COPY = 0.5  # nearness, above which an image is a copy: half of the way from the photographs' usual likeness to identity
NEARLY = 0.9  # of the best score: what a point that keeps the class must reach for drift to be a veto
VETOES = {
    "copying": Veto(
        copied, (("photographs", "copying"),), 0.25,
        "copies the photographs: {0:.0%} of its images are copies, surely more than {1:.0%}; 25 % may be",
        "fewer steps or a lower lr",
    ),
    "noise": Veto(
        noise, (("untuned", "noise"), ("photographs", "noise")), float(np.log(1.5)),
        "noisy: log-ratio {:.2f} [{:.2f}, {:.2f}] to the noise of the untuned model and the photographs",
        "fewer steps, a lower lr or another scheduler",
    ),
    "pres": Veto(
        pres, (("photographs", "dino"), ("untuned", "pres")), 0.5,
        "the class has turned into the subject: plain images of it went {:.2f} [{:.2f}, {:.2f}] of the way",
        "prior_preservation=true",
    ),
    "div": Veto(
        div, (("untuned", "div"),), 0.75,
        "collapse: {:.2f} [{:.2f}, {:.2f}] of the untuned model's diversity is lost",
        "fewer steps or a lower lr",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """An excess above its margin: on average, and `sure` where its whole interval is."""

    words: str
    sure: bool


def faults(values: dict[str, np.ndarray], baselines: Sequence[Arrays]) -> list[dict[str, Fault]]:
    """What is wrong with each point: name of the veto -> fault. A veto whose scores are missing finds nothing.

    values: metric -> [G, R, U, K], U the units that are resampled; baselines: a point's, in arrays of the same [U, K].
    """
    found: list[dict[str, Fault]] = [{} for _ in baselines]
    for name, veto in VETOES.items():
        if name not in values:
            continue
        pairs = zip(values[name], baselines, strict=True)
        of_points = [veto.excess(v, base) if veto.applies(base) else np.full_like(v, np.nan) for v, base in pairs]
        excess = average(np.stack(of_points))
        bounds = interval(drawn_means(excess, draw_weights(*excess.shape[1:])))
        for held, e, (low, high) in zip(found, means(excess), bounds, strict=True):
            if e > veto.margin:
                held[name] = Fault(veto.words.format(e, low, high), bool(low > veto.margin))
    return found


def vetoes_in_force(found: list[dict[str, Fault]], score: np.ndarray) -> list[dict[str, str]]:
    """The vetoes of each point, in words; drift only where a point that keeps the class scores nearly as well."""
    sure = [{name: fault.words for name, fault in faults.items() if fault.sure} for faults in found]
    hard = [{name: words for name, words in vetoes.items() if name != "pres"} for vetoes in sure]
    there = np.isfinite(score) & np.array([not vetoes for vetoes in hard])
    keeps = there & np.array(["pres" not in faults for faults in found])
    nearly = keeps.any() and score[keeps].max() >= NEARLY * score[there].max()
    return sure if nearly else hard
