"""The sweet spot in sentences."""

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.metrics import METRICS
from evaluation.spec import ONSET_UNITS

NOT_EVALUATED = "No checkpoint has been evaluated."
NO_SCORES = "No checkpoint has both scores of subject and prompt fidelity and baselines to compare them with."
REFUSED = "Use photographs that show the subject alike, or an encoder that knows such images."
NO_SUBJECT_SCALE = (
    "The photographs are no more alike (DINO {:.3f}) than the untuned model's images are like them ({:.3f}), "
    "so subject fidelity cannot be measured."
)
NO_PROMPT_SCALE = (
    "The untuned model follows the prompts (CLIP-T {:.3f}) no better than the photographs do ({:.3f}), "
    "so prompt fidelity cannot be measured."
)
NOTHING_LEARNED = "No checkpoint resembles the subject more than the untuned model does."
RULED_OUT = "Every checkpoint that has learned the subject is ruled out; the commonest reason is that it {}."
PROMPTS_LOST = "Every checkpoint that shows the subject ignores the prompts."
DRIFTED = "plain images of its class show the subject too: prior_preservation=true is against that"
DELETED = "{} has the highest expected score, but its weights were deleted."
WEAK = "The best checkpoint, {}, scores {:.2f} [{:.2f}, {:.2f}]: not surely above {}."
NO_ONSET = "Where overfitting begins is not said: that takes {} prompts, and these are {}."
SINGLE = "Sweep steps or lr to have something to compare it with."
FLAT = "All are equally good: take the cheapest, or sweep more widely."
VETOED = {
    "copying": "copies the photographs",
    "noise": "makes noisier images than the untuned model",
    "pres": "turns the whole class into the subject",
    "div": "makes one and the same image",
}


def unchecked(counts: Mapping[str, int], measured: int) -> tuple[str, ...]:
    """Which vetoes could not be applied to how many of the checkpoints, a sentence each."""
    return tuple(
        f"The check for {METRICS[name].title} was skipped for {count} of {measured} checkpoints: scores are missing."
        for name, count in counts.items()
    )


def reason(
    verdict: str,
    chosen: str,
    s: float,
    t: float,
    others: Sequence[str],
    probability: float,
    after: Sequence[str],
    drifted: bool,
) -> str:
    """Why `chosen` is recommended: s and t as expected; the best is it or one of `others` with that probability.

    after: what `overfitting` says.
    """
    fidelity = (
        f"its images go {percent(s)} of the way from the untuned model to the photographs "
        f"and keep {percent(t)} of the prompt fidelity"
    )
    clauses = {
        "single": [fidelity, "there is nothing to compare it with"],
        "flat": [fidelity, "all checkpoints are within 0.05 of each other"],
        "edge": [fidelity, *after, "the best lies at the edge of the grid"],
        "region": [fidelity, *as_good_as(others, probability), *after],
    }
    return f"{chosen}: {'; '.join(clauses[verdict] + [DRIFTED] * drifted)}."


def overfitting(onset: int | None, units: int) -> list[str]:
    """The clause on what comes after the chosen checkpoint; none where too few prompts tell."""
    if units < ONSET_UNITS:
        return []
    return [f"overfitting begins at step {onset}" if onset else "no overfitting seen on its curve"]


def no_onset(units: int) -> tuple[str, ...]:
    """Why no onset is claimed, where it cannot be."""
    return () if units >= ONSET_UNITS else (NO_ONSET.format(ONSET_UNITS, units),)


def as_good_as(others: Sequence[str], probability: float) -> list[str]:
    if not others:
        return []
    others_too = f"one of {len(others)} others, above all {others[0]}" if len(others) > 1 else others[0]
    return [f"the best is this one or {others_too} ({percent(min(probability, 0.99))} likely)"]


def percent(fraction: float) -> str:
    return f"{100 * min(max(fraction, 0), 1):.0f} %"


def conditional_on(prompts: int, images: int, seeds: int, photographs: int) -> str:
    """What was resampled for the intervals, and what they take as given."""
    resampled = f"{prompts} prompts of {images} images" if prompts > 1 else f"{images} images of one prompt"
    trainings = f" and {seeds} training seeds, given" if seeds > 1 else ", given one training seed and"
    return f"95 % bootstrap over {resampled}{trainings} these {photographs} photographs"


def extend(directions: Sequence[str], steps: np.ndarray, lrs: np.ndarray) -> str:
    """What to add to the grid at its ends."""
    tries = {
        "more steps": lambda: f"steps={2 * steps.max()}",
        "fewer steps": lambda: f"steps={max(1, steps.min() // 2)}",
        "higher lr": lambda: f"lr={beyond(lrs, up=True)}",
        "lower lr": lambda: f"lr={beyond(lrs, up=False)}",
    }
    return f"Extend the grid: {', '.join(tries[d]() for d in directions)}." if directions else ""


def more(steps: np.ndarray, lrs: np.ndarray) -> str:
    return f"Train harder: lr={beyond(lrs, up=True)} or steps={2 * steps.max()}."


def less(steps: np.ndarray, lrs: np.ndarray) -> str:
    return f"Train less: lr={beyond(lrs, up=False)} or steps={max(1, steps.min() // 2)}."


def beyond(lrs: np.ndarray, up: bool) -> str:
    """The next learning rate outside the grid, at the distance of the last two, at least twice: "1e-5"."""
    values = np.unique(lrs) if up else np.unique(lrs)[::-1]
    factor = max(2.0, values[-2:].max() / values[-2:].min())
    return number(values[-1] * factor if up else values[-1] / factor)


def number(value: float) -> str:
    """One significant digit: 1e-5."""
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"
