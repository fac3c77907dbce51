"""Scores of the bank's cells: today's, and mended ones, each stated here before it was judged.

A score is the harmonic mean of s and t (evaluation/fidelity.py). What may be mended is what s and t are made of, image
by image, and the baselines that go with them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import isotonic_regression

from benchmarks.bank_cells import Cells, Drawn, Floats, everything, true_prompt, true_subject, truth
from evaluation.fidelity import harmonic

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)  # of copying, in units of s; one of them is fitted


@dataclass(frozen=True)
class Measures:
    """What s and t are made of. s is 0 at `subject_zero` and 1 at `subject_one`, t likewise."""

    subject: Floats  # [C, P, K]
    subject_zero: Floats  # [P, K]
    subject_one: float
    prompt: Floats  # [C, P, K]
    prompt_zero: Floats  # [P]
    prompt_one: Floats  # [P, K]

    def take(self, drawn: Drawn) -> "Measures":
        return Measures(
            drawn.of(self.subject), drawn.of(self.subject_zero), self.subject_one,
            drawn.of(self.prompt), self.prompt_zero[drawn.prompts], drawn.of(self.prompt_one),
        )  # fmt: skip

    @property
    def s(self) -> Floats:
        """[C, P, K]"""
        zero = self.subject_zero.mean()
        return (self.subject - zero) / (self.subject_one - zero)

    @property
    def t(self) -> Floats:
        """[C, P, K]"""
        zero = self.prompt_zero.mean()
        return (self.prompt - zero) / (self.prompt_one.mean() - zero)

    @property
    def score(self) -> Floats:
        """[C]"""
        score: Floats = harmonic(self.s.mean((1, 2)), self.t.mean((1, 2)))
        return score


def today(cells: Cells) -> Measures:
    """s from the mean likeness to all photographs, t from the likeness to the prompt."""
    text = own_prompt(cells["text"])
    return Measures(
        cells["dino"].mean(-1), cells["untuned_dino"].mean(-1), float(apart(cells["photographs_dino"]).mean()),
        text, cells["photographs_text"].mean(1), own_prompt(cells["untuned_text"]),
    )  # fmt: skip


def own_prompt(text: Floats) -> Floats:
    """Cosines to every prompt [..., P, K, P] -> to the image's own [..., P, K]."""
    own: Floats = np.einsum("...pkp->...pk", text)
    return own


def apart(cosines: Floats) -> Floats:
    """[N, N] -> [N, N - 1], every photograph's to the others."""
    count = len(cosines)
    others: Floats = cosines[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    return others


def without_nearest(cosines: Floats) -> Floats:
    """Mean over all photographs but the nearest: [..., N] -> [...]."""
    mean: Floats = np.sort(cosines, axis=-1)[..., :-1].mean(-1)
    return mean


def not_nearest(cells: Cells) -> Measures:
    """s from the photographs other than the nearest, image by image; the photographs' own likeness likewise."""
    return replace(
        today(cells),
        subject=without_nearest(cells["dino"]),
        subject_zero=without_nearest(cells["untuned_dino"]),
        subject_one=float(without_nearest(apart(cells["photographs_dino"])).mean()),
    )


def held_out(cells: Cells) -> Measures:
    """s from five photographs that no training saw; 1 is the likeness of these to those that it saw."""
    return replace(
        today(cells),
        subject=cells["held_out"].mean(-1),
        subject_zero=cells["untuned_held_out"].mean(-1),
        subject_one=float(cells["photographs_seen_and_held_out"].mean()),
    )


def saturating(measures: Measures) -> Measures:
    """No image is better than the photographs' own likeness, nor than the untuned model's mean at obeying its prompt.
    (Today the means are cut in this way, the images are not.)"""
    ceiling = measures.prompt_one.mean(1, keepdims=True)
    return replace(
        measures,
        subject=np.minimum(measures.subject, measures.subject_one),
        subject_zero=np.minimum(measures.subject_zero, measures.subject_one),
        prompt=np.minimum(measures.prompt, ceiling),
        prompt_one=np.minimum(measures.prompt_one, ceiling),
    )


def retrieved(cells: Cells) -> Measures:
    """t from whether CLIP finds an image's own prompt the nearest of all prompts."""
    return replace(
        today(cells),
        prompt=nearest_is_own(cells["text"]),
        prompt_zero=(cells["photographs_text"].argmax(0) == np.arange(cells.shape[0])[:, None]).mean(1),
        prompt_one=nearest_is_own(cells["untuned_text"]),
    )


def nearest_is_own(text: Floats) -> Floats:
    """[..., P, K, P] -> [..., P, K], 1 or 0."""
    right: Floats = (text.argmax(-1) == np.arange(text.shape[-1])[:, None]).astype(float)
    return right


def less_copying(weight: float, measures: Measures, cells: Cells) -> Measures:
    """s less `weight` times copying: 0 at the photographs' usual likeness to the nearest other one, 1 at a copy."""
    usual = apart(cells["photographs_clip"]).max(1).mean()
    unit = weight * (measures.subject_one - measures.subject_zero.mean())

    def excess(clip: Floats) -> Floats:
        return np.maximum(clip.max(-1) - usual, 0) / max(1 - usual, 1e-3)

    return replace(
        measures,
        subject=measures.subject - unit * excess(cells["clip"]),
        subject_zero=measures.subject_zero - unit * excess(cells["untuned_clip"]),
    )


# --- scores: fitted on some sweeps, they score the cells of another -------------------------------------------------

Scorer = Callable[[Cells, Drawn], Floats]  # -> [C]
Measuring = Callable[[Cells], Measures]


def plain(measuring: Measuring) -> Callable[[Sequence[Cells]], Scorer]:
    """A score that needs no fitting."""
    return lambda others: lambda cells, drawn: measuring(cells).take(drawn).score


def minding_copies(measuring: Measuring) -> Callable[[Sequence[Cells]], Scorer]:
    """With the weight of copying that loses least on the other sweeps, chosen by all of their images."""

    def scorer(weight: float) -> Scorer:
        return lambda cells, drawn: less_copying(weight, measuring(cells), cells).take(drawn).score

    def lost(weight: float, others: Sequence[Cells]) -> float:
        losses = []
        for cells in others:
            true = truth(cells, everything(cells))
            score = scorer(weight)(cells, everything(cells))
            losses.append(true.max() - true[score.argmax()])
        return float(np.mean(losses))

    return lambda others: scorer(min(WEIGHTS, key=lambda weight: lost(weight, others)))


def calibrated(measuring: Measuring) -> Callable[[Sequence[Cells]], Scorer]:
    """s and t turned into what the judge sees by rising curves (isotonic regressions) through the other sweeps."""

    def fitted(others: Sequence[Cells]) -> Scorer:
        measures = [measuring(cells) for cells in others]
        whole = [everything(cells) for cells in others]
        of_s = rising([m.s.mean((1, 2)) for m in measures], map(true_subject, others, whole))
        of_t = rising([m.t.mean((1, 2)) for m in measures], map(true_prompt, others, whole))

        def score(cells: Cells, drawn: Drawn) -> Floats:
            own = measuring(cells).take(drawn)
            good: Floats = harmonic(of_s(own.s.mean((1, 2))), of_t(own.t.mean((1, 2))))
            return good

        return score

    return fitted


def rising(x: Iterable[Floats], y: Iterable[Floats]) -> Callable[[Floats], Floats]:
    """The isotonic regression of y on x, straight between the middles of its steps."""
    xs = np.concatenate(list(x))
    ys = np.concatenate(list(y))
    order = np.argsort(xs, kind="stable")
    xs = xs[order]
    level = isotonic_regression(ys[order]).x
    starts = np.flatnonzero(np.append(True, np.diff(level) > 0))
    counts = np.diff(np.append(starts, len(xs)))
    middles = np.add.reduceat(xs, starts) / counts
    return lambda values: np.interp(values, middles, level[starts])


SCORES: dict[str, Callable[[Sequence[Cells]], Scorer]] = {
    "today": plain(today),
    "photographs not nearest": plain(not_nearest),
    "photographs held out": plain(held_out),
    "less copying": minding_copies(today),
    "saturating": plain(lambda cells: saturating(today(cells))),
    "prompt retrieved": plain(retrieved),
    "calibrated": calibrated(today),
    "held out, saturating": plain(lambda cells: saturating(held_out(cells))),
    "held out, less copying": minding_copies(held_out),
    "held out, calibrated": calibrated(held_out),
    "held out, prompt retrieved": plain(
        lambda cells: replace(retrieved(cells), **{n: getattr(held_out(cells), n) for n in SUBJECT})
    ),
}
SUBJECT = ("subject", "subject_zero", "subject_one")
