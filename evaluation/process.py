"""A Gaussian process for one quantity over the candidates of a sweep: fitting and posterior. Arrays in, arrays out.

    truth = constant + surface(log lr, log steps, log of their product, further axes) + offsets of further axes
            + effect of the training + effect of the checkpoint + effect of the cell

The surface is a Matern-5/2 with a length for each coordinate. How far a training goes depends on lr times steps, so
their product is a coordinate too. On each further axis its values share a part of the surface; how much is learned.
Hyperparameters are the maximum of likelihood times priors. Beside that model stands another in which candidates hardly
differ; how probable it is decides how much of the structure is to be believed.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize
from scipy.special import expit

from evaluation.measurement_error import Measured

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CENTRE, CENTRE_SD = 0.5, 1.0  # of the constant
AMPLITUDE = (0.25, 0.7)  # priors of standard deviations: median, sd of the log
OFFSET, EFFECT, NUGGET = (0.05, 1.0), (0.03, 1.0), (0.015, 0.7)
LENGTH, LENGTH_SPREAD, LENGTH_FREEDOM = 2.0, 0.7, 4.0  # Student prior of a log length: e-folds of lr or steps
SHARE, SHARE_SD = 1.0, 1.5  # logit of what the values of a further axis share of the surface
HARDLY = 0.002  # sd of the differences in the model in which candidates hardly differ
MOST = 300  # candidates that hyperparameters are fitted on
STEPS = 60  # of L-BFGS, at most
BOUND = 6.0  # how far a parameter may go from its prior's centre, in the prior's sd


@dataclass(frozen=True)
class Layout:
    """Where C candidates lie. Numbers of `axes`, `training`, `checkpoint` are names: only equality counts."""

    coordinates: Floats  # [C, D] logs of lr, steps and their product, as far as they vary
    axes: Ints  # [C, A]
    training: Ints  # [C]
    checkpoint: Ints  # [C]

    def take(self, rows: Ints) -> "Layout":
        return Layout(self.coordinates[rows], self.axes[rows], self.training[rows], self.checkpoint[rows])


@dataclass(frozen=True)
class Posterior:
    mean: Floats  # [C]
    covariance: Floats  # [C, C]
    equal: float = 0.0  # the probability that candidates hardly differ (by `HARDLY`); mean and covariance leave it out


@dataclass
class Kernel:
    """The prior covariance as a function of unbounded parameters, with its gradient.

    Parameters in order: log amplitude, log lengths, for each axis the logit of its share and the log of its offset,
    the log sd of the effects of training and checkpoint where they can be told apart, the log sd of the cell's.
    """

    layout: Layout
    groups: tuple[bool, bool]  # whether training and checkpoint have an effect of their own (see `grouped`)
    squared: list[Floats] = field(init=False)  # squared distances along each coordinate
    same: list[Floats] = field(init=False)  # 1 where two candidates share the value of an axis
    effects: list[Floats] = field(init=False)  # 1 where they share a training, a checkpoint

    def __post_init__(self) -> None:
        self.squared = [(x[:, None] - x) ** 2 for x in self.layout.coordinates.T]
        self.same = [equal(codes) for codes in self.layout.axes.T]
        codes = np.array([self.layout.training, self.layout.checkpoint])[list(self.groups)]
        self.effects = [equal(each) for each in codes]

    @property
    def centre(self) -> Floats:
        """The most probable parameters before anything is seen."""
        axes = [value for _ in self.same for value in (SHARE, np.log(OFFSET[0]))]
        effects = list(np.log([EFFECT[0], NUGGET[0]])[list(self.groups)])
        lengths = [np.log(LENGTH)] * len(self.squared)
        return np.array([np.log(AMPLITUDE[0]), *lengths, *axes, *effects, np.log(NUGGET[0])])

    @property
    def spread(self) -> Floats:
        axes = [value for _ in self.same for value in (SHARE_SD, OFFSET[1])]
        effects = list(np.array([EFFECT[1], NUGGET[1]])[list(self.groups)])
        lengths = [LENGTH_SPREAD] * len(self.squared)
        return np.array([AMPLITUDE[1], *lengths, *axes, *effects, NUGGET[1]])

    def prior(self, theta: Floats) -> tuple[float, Floats]:
        """Log density relative to its mode's, and its gradient: Student for lengths, normal for the rest."""
        z = (theta - self.centre) / self.spread
        value = -0.5 * z**2
        slope = -z / self.spread
        lengths = slice(1, 1 + len(self.squared))
        tail = LENGTH_FREEDOM + z[lengths] ** 2
        value[lengths] = -0.5 * (LENGTH_FREEDOM + 1) * np.log(tail / LENGTH_FREEDOM)
        slope[lengths] = -(LENGTH_FREEDOM + 1) * z[lengths] / tail / self.spread[lengths]
        return float(value.sum()), slope

    def covariance(self, theta: Floats) -> tuple[Floats, list[Floats]]:
        """[C, C] and its derivative by each parameter; the last parameter's is a diagonal [C]."""
        count = len(self.layout.training)
        dimensions = len(self.squared)
        scaled = [d / np.exp(2 * log) for d, log in zip(self.squared, theta[1 : 1 + dimensions], strict=True)]
        r = np.sqrt(5 * sum(scaled, np.zeros((count, count))))
        decay = np.exp(2 * theta[0] - r)
        surface = (1 + r + r**2 / 3) * decay
        slope = 5 / 3 * (1 + r) * decay
        shares = theta[1 + dimensions :: 2][: len(self.same)]
        offsets = theta[2 + dimensions :: 2][: len(self.same)]
        factors = [s + (1 - s) * same for s, same in zip(1 / (1 + np.exp(-shares)), self.same, strict=True)]
        product = np.ones((count, count))
        for factor in factors:
            product = product * factor
        total = surface * product
        slopes = [2 * total, *(slope * product * d for d in scaled)]
        surface = total
        total = total + CENTRE_SD**2
        for logit, offset, same, factor in zip(shares, offsets, self.same, factors, strict=True):
            share = 1 / (1 + np.exp(-logit))
            slopes.append(surface / factor * (share * (1 - share) * (1 - same)))
            slopes.append(2 * np.exp(2 * offset) * same)
            total = total + np.exp(2 * offset) * same
        for log, same in zip(theta[len(slopes) : -1], self.effects, strict=True):
            slopes.append(2 * np.exp(2 * log) * same)
            total = total + np.exp(2 * log) * same
        total[np.diag_indices(count)] += np.exp(2 * theta[-1])
        slopes.append(np.full(count, 2 * np.exp(2 * theta[-1])))
        return total, slopes


def equal(codes: Ints) -> Floats:
    same: Floats = (codes[:, None] == codes).astype(float)
    return same


def grouped(layout: Layout) -> tuple[bool, bool]:
    """Whether the effects of training and of checkpoint can be told from the constant's and the cell's."""
    counts = [len(np.unique(codes)) for codes in (layout.training, layout.checkpoint)]
    return 1 < counts[0] < len(layout.training), 1 < counts[1] < len(layout.training)


def negative_log_posterior(theta: Floats, kernel: Kernel, y: Floats, noise: Floats) -> tuple[float, Floats]:
    """Of the parameters, with its gradient. Rasmussen and Williams 2006, 5.4.1."""
    covariance, slopes = kernel.covariance(theta)
    factor = cholesky(covariance + noise, lower=True, check_finite=False)
    inverse = cho_solve((factor, True), np.eye(len(y)), check_finite=False)
    alpha = inverse @ (y - CENTRE)
    value = 0.5 * float((y - CENTRE) @ alpha) + float(np.log(np.diag(factor)).sum())
    weight = inverse - np.outer(alpha, alpha)
    gradient = [0.5 * float(np.vdot(weight, slope)) for slope in slopes[:-1]]
    gradient.append(0.5 * float(np.diag(weight) @ slopes[-1]))
    prior, slope = kernel.prior(theta)
    return value - prior, np.array(gradient) - slope


@dataclass(frozen=True)
class Fit:
    parameters: Floats  # the most probable ones
    equal: float  # the probability of the model in which candidates hardly differ


def fit(layout: Layout, measured: Measured) -> Fit:
    """Of very many candidates, whole trainings evenly spread stand for the rest.

    The evidence of the model with structure is taken as if its parameters had been as sure before as they are after, so
    it is overrated: that candidates hardly differ has to be seen.
    """
    rows = some_trainings(layout)
    kernel = Kernel(layout.take(rows), grouped(layout))
    y = measured.mean[rows]
    noise = measured.covariance[np.ix_(rows, rows)]
    centre = kernel.centre
    spread = kernel.spread

    def objective(z: Floats) -> tuple[float, Floats]:
        value, slope = negative_log_posterior(centre + spread * z, kernel, y, noise)
        return value, slope * spread

    found = minimize(
        objective, np.zeros(len(centre)), method="L-BFGS-B", jac=True, bounds=[(-BOUND, BOUND)] * len(centre),
        options={"maxiter": STEPS, "ftol": 1e-7},
    )  # fmt: skip
    alone = HARDLY**2 * np.eye(len(y)) + CENTRE_SD**2
    return Fit(centre + spread * found.x, float(expit(found.fun + log_likelihood(y, alone + noise))))


def log_likelihood(y: Floats, covariance: Floats) -> float:
    """Up to the constant that `negative_log_posterior` leaves out too."""
    factor = cholesky(covariance, lower=True, check_finite=False)
    alpha = cho_solve((factor, True), y - CENTRE, check_finite=False)
    return -0.5 * float((y - CENTRE) @ alpha) - float(np.log(np.diag(factor)).sum())


def some_trainings(layout: Layout) -> Ints:
    """Rows of as many trainings as `MOST` candidates allow, evenly spread; of every so many rows in few trainings."""
    every = int(np.ceil(len(layout.training) / MOST))
    numbers = np.unique(layout.training)
    if len(numbers) < 2 * every:
        return np.arange(0, len(layout.training), every)
    rows: Ints = np.flatnonzero(np.isin(layout.training, numbers[::every]))
    return rows


def posterior(layout: Layout, measured: Measured, theta: Floats, equal: float = 0.0) -> Posterior:
    """Of the truth of every candidate, its own effects included and the noise of the images left out."""
    prior, _ = Kernel(layout, grouped(layout)).covariance(theta)
    factor = cholesky(prior + measured.covariance, lower=True, check_finite=False)
    gain = cho_solve((factor, True), prior, check_finite=False).T
    covariance = prior - gain @ prior
    return Posterior(CENTRE + gain @ (measured.mean - CENTRE), (covariance + covariance.T) / 2, equal)
