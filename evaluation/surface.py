"""Which checkpoint has the highest expected score: a model of s and t over the candidates of a sweep, and the choice.

The measured score of the best of many is too high by luck. A Gaussian process for each of s and t (`process`) lends
every candidate what its neighbours show, and the candidate of the highest expected harmonic mean is chosen. Arrays in,
arrays out: no plans and no files. Names and order have no say: candidates are put in an order of their own first.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.special import ndtr

from evaluation.measurement_error import Measured, summarise
from evaluation.process import HARDLY, Layout, Posterior, fit, posterior

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DRAWS = 4000  # of the posterior, for the chance of being best
NODES = 24  # of the quadrature in each direction
REACH = 6.0  # standard deviations that the quadrature covers
LEVEL = 0.9  # of the region
WIDER = 1.2  # how far the posterior is stretched for the chance of being best: calibrated on development sweeps
JITTER = 1e-10  # added to variances so that they can be drawn from
TIE = 1e-9  # expected scores nearer than this are equal


@dataclass(frozen=True)
class Candidates:
    """C candidates: where they lie and what was measured of them."""

    lr: Floats  # [C]
    steps: Floats  # [C]
    axes: NDArray[np.generic]  # [C, A] values of further axes, in any type that sorts; may be empty
    training: NDArray[np.generic]  # [C] equal for candidates of one training
    s: Floats  # [C, P, K] normalised subject fidelity by prompt and image; NaN where missing
    t: Floats  # [C, P, K] normalised prompt fidelity
    vetoed: Bools  # [C]

    def take(self, rows: Ints) -> "Candidates":
        return Candidates(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Selection:
    """What is chosen and how sure. NaN and zero where a candidate was not measured."""

    choice: int | None  # None where nothing is allowed
    s: Floats  # [C] posterior means
    t: Floats  # [C]
    s_covariance: Floats  # [C, C]
    t_covariance: Floats  # [C, C]
    expected_score: Floats  # [C] NaN where vetoed
    p_best: Floats  # [C] the chance of the highest true score among the allowed; zero where vetoed
    region: tuple[int, ...]  # the likeliest candidates first, as few as reach the level, and the choice
    region_probability: float  # that the best is among them: the sum of their p_best


def select(candidates: Candidates, level: float = LEVEL, s_error: float = 0.0) -> Selection:
    """The candidate of the highest expected score that is not vetoed.

    s_error: sd of an error of s that all images of a training share, so that more images do not make it smaller. It
    widens the chances and the region, and does not choose.

    The region's probability is a posterior's: over many sweeps it holds the best one that often, as far as they are
    such as the model expects. The error that the prompts share is in it, another draw of the training seed is not.
    """
    order = canonical_order(candidates)
    selection = unmeasured(len(candidates.lr))
    if not len(order):
        return selection
    ordered = candidates.take(order)
    s, t = posteriors(ordered)
    show_posterior(selection, order, s, t)
    allowed = np.flatnonzero(~ordered.vetoed)
    if not len(allowed):
        return selection
    expected = expected_harmonic(s, t)[allowed]
    of_training = s_error**2 * (ordered.training[:, None] == ordered.training)
    p_best = chance_of_best(replace(s, covariance=s.covariance + of_training), t, allowed)
    selection.expected_score[order[allowed]] = expected
    selection.p_best[order[allowed]] = p_best
    best = best_of(expected, ordered.take(allowed))
    likeliest = np.lexsort((-expected, -p_best))
    region = likeliest[: int(np.searchsorted(np.cumsum(p_best[likeliest]), level - TIE)) + 1]
    if best not in region:
        region = np.append(region, best)
    return replace(
        selection,
        choice=int(order[allowed[best]]),
        region=tuple(order[allowed[region]].tolist()),
        region_probability=float(p_best[region].sum()),
    )


def unmeasured(count: int) -> Selection:
    """Nothing chosen of `count` candidates."""
    s, t, expected = np.full((3, count), np.nan)
    s_covariance, t_covariance = np.full((2, count, count), np.nan)
    return Selection(None, s, t, s_covariance, t_covariance, expected, np.zeros(count), (), 0.0)


def show_posterior(selection: Selection, order: Ints, s: Posterior, t: Posterior) -> None:
    """Writes posteriors in canonical order where the caller's candidates are."""
    selection.s[order] = s.mean
    selection.t[order] = t.mean
    selection.s_covariance[np.ix_(order, order)] = s.covariance
    selection.t_covariance[np.ix_(order, order)] = t.covariance


def best_of(expected: Floats, candidates: Candidates) -> int:
    """The highest expected score; of equal ones the highest measured score, then fewer steps, then the lower lr."""
    s, t = (np.clip(np.nanmean(values, (1, 2)), 0, 1) for values in (candidates.s, candidates.t))
    tied = expected >= expected.max() - TIE
    order = np.lexsort((candidates.lr, candidates.steps, -harmonic(s, t), ~tied))
    return int(order[0])


def canonical_order(candidates: Candidates) -> Ints:
    """The measured candidates by steps, lr and what was measured, so that neither names nor positions count.

    Where these are equal, the company decides: what was measured of the same training, then of the same axes' values.
    """
    count = len(candidates.lr)
    measured = np.concatenate([candidates.s, candidates.t], axis=1).reshape(count, -1)
    there = np.isfinite(candidates.s).sum((1, 2)) * np.isfinite(candidates.t).sum((1, 2)) > 0
    own = [*np.nan_to_num(measured, nan=-np.inf).T[::-1], candidates.vetoed, candidates.lr, candidates.steps]
    rows = np.column_stack(own[::-1])
    _, rank = np.unique(rows, axis=0, return_inverse=True)
    rank = rank.ravel()
    company = [shared_ranks(names, rank) for names in (candidates.training, *candidates.axes.T)]
    keys = [(int(rank[i]), company[0][i], tuple(sorted(group[i] for group in company[1:]))) for i in range(count)]
    order = np.array(sorted(range(count), key=keys.__getitem__), np.int64)
    measured_first: Ints = order[there[order]]
    return measured_first


def shared_ranks(names: NDArray[np.generic], rank: NDArray[np.intp]) -> list[tuple[int, ...]]:
    """For each candidate the ranks of all that share its name."""
    groups: dict[object, list[int]] = {}
    for name, value in zip(names.tolist(), rank.tolist(), strict=True):
        groups.setdefault(name, []).append(value)
    members = {name: tuple(sorted(values)) for name, values in groups.items()}
    return [members[name] for name in names.tolist()]


def posteriors(candidates: Candidates) -> tuple[Posterior, Posterior]:
    """Of s and of t, for measured candidates in canonical order."""
    layout = layout_of(candidates)
    s, t = (summarise(values, tilt_positions(layout)) for values in (candidates.s, candidates.t))
    return model(layout, s), model(layout, t)


def model(layout: Layout, measured: Measured) -> Posterior:
    found = fit(layout, measured)
    return posterior(layout, measured, found.parameters, found.equal)


def layout_of(candidates: Candidates) -> Layout:
    coordinates = np.log(np.column_stack([candidates.lr, candidates.steps]))
    coordinates = coordinates[:, np.ptp(coordinates, axis=0) > 0]
    if coordinates.shape[1] == 2:
        coordinates = np.column_stack([coordinates, coordinates.sum(1)])
    axes = [numbered(values) for values in candidates.axes.T]
    axes = sorted((codes for codes in axes if codes.max() > 0), key=lambda codes: tuple(codes.tolist()))
    training = numbered(candidates.training)
    _, checkpoint = np.unique(np.column_stack([training, candidates.steps]), axis=0, return_inverse=True)
    rows = np.array(axes, np.int64).T if axes else np.zeros((len(training), 0), np.int64)
    return Layout(coordinates, rows, training, checkpoint.ravel())


def numbered(names: NDArray[np.generic]) -> Ints:
    """Numbers for names in order of first appearance."""
    _, first, codes = np.unique(names, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    numbers: Ints = number[codes.ravel()]
    return numbers


def tilt_positions(layout: Layout) -> Floats:
    """The directions [C, L] along which a prompt's effect may change: each coordinate, of mean 0 and sd 1."""
    centred = layout.coordinates[:, :2] - layout.coordinates[:, :2].mean(0)
    positions: Floats = centred / centred.std(0)
    return positions


def expected_harmonic(s: Posterior, t: Posterior) -> Floats:
    """E[harmonic(clip(s), clip(t))] [C] of independent normal s and t, each clipped to 0..1: a quadrature.

    The parts inside 0..1 are integrated by Gauss-Legendre, what lies above counts as 1, what lies below as 0.
    """
    value_s, weight_s = clipped_nodes(s.mean, np.sqrt(np.maximum(np.diag(s.covariance), 0)))
    value_t, weight_t = clipped_nodes(t.mean, np.sqrt(np.maximum(np.diag(t.covariance), 0)))
    score = harmonic(value_s[:, :, None], value_t[:, None, :])
    expected: Floats = np.einsum("cij,ci,cj->c", score, weight_s, weight_t)
    return expected


def clipped_nodes(mean: Floats, sd: Floats) -> tuple[Floats, Floats]:
    """Nodes and weights [C, NODES + 1] for a normal clipped to 0..1; the last node is 1. Zero needs none."""
    sd = np.maximum(sd, 1e-9)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    low, high = (np.clip(mean + side * REACH * sd, 0, 1) for side in (-1, 1))
    half = (high - low) / 2
    x = low[:, None] + half[:, None] * (nodes + 1)
    z = (x - mean[:, None]) / sd[:, None]
    inside = half[:, None] * weights * np.exp(-0.5 * z**2) / (sd[:, None] * np.sqrt(2 * np.pi))
    above = ndtr((mean - 1) / sd)
    return np.column_stack([x, np.ones(len(mean))]), np.column_stack([inside, above])


def harmonic(s: Floats, t: Floats) -> Floats:
    mean: Floats = 2 * s * t / np.maximum(s + t, 1e-300)
    return mean


def chance_of_best(s: Posterior, t: Posterior, allowed: Ints) -> Floats:
    """The chance of each allowed candidate to have the highest true score among them: share of joint draws."""
    rng = np.random.default_rng(0)
    score = harmonic(drawn(s, allowed, rng), drawn(t, allowed, rng))
    shares: Floats = np.bincount(score.argmax(0), minlength=len(allowed)) / DRAWS
    return shares


def drawn(quantity: Posterior, rows: Ints, rng: np.random.Generator) -> Floats:
    """Joint draws [rows, DRAWS] of the truth, stretched about the mean and clipped to 0..1; in a share of them, as
    probable as that is, the candidates hardly differ and nothing measured tells them apart."""
    covariance = quantity.covariance[np.ix_(rows, rows)] + JITTER * np.eye(len(rows))
    root = WIDER * cholesky(covariance, lower=True, check_finite=False)
    draws = quantity.mean[rows, None] + root @ rng.standard_normal((len(rows), DRAWS))
    equal = rng.random(DRAWS) < quantity.equal
    draws[:, equal] = quantity.mean[rows].mean() + HARDLY * rng.standard_normal((len(rows), int(equal.sum())))
    clipped: Floats = np.clip(draws, 0, 1)
    return clipped
