"""Gaussian kernel densities at every position of the patch grid, in logarithms throughout.

Silverman 1986 (Density Estimation for Statistics and Data Analysis), Scott 1992 (Multivariate Density Estimation),
Abramson 1982 (On bandwidth variation in kernel estimates). A density of a hundred dimensions far from all samples is
e^-10000, which no float holds; its logarithm, by log-sum-exp, ranks it all the same.

Shape legend: P positions, Q queries, N samples, C or D dimensions, G bandwidths tried.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.contract import Parts, Patches

Doubles = NDArray[np.float64]

FACTORS = tuple(float(factor) for factor in np.geomspace(0.25, 4.0, 13))
"""Multiples of Scott's bandwidth that a likelihood chooses from."""

LEAST_SPREAD = 1e-3
"""Spread of a dimension, as a share of the mean one, below which it is taken for that: a dead channel stays finite."""

SENSITIVITY = 0.5
"""Abramson's exponent: local bandwidths go with the pilot density to the power of minus this."""

_WIDEST = 10.0


def scott_factor(count: int, dimensions: int) -> float:
    """Bandwidth in standard deviations, n^(-1 / (d + 4)) (Scott 1992, section 6.3).

    >>> round(scott_factor(100, 6), 3)
    0.631
    """
    return float(count ** (-1 / (dimensions + 4)))


def silverman_factor(count: int, dimensions: int) -> float:
    """Bandwidth in standard deviations, (4 / (n (d + 2)))^(1 / (d + 4)) (Silverman 1986, equation 4.14).

    >>> round(silverman_factor(100, 2), 3)
    0.464
    """
    return float((4 / (count * (dimensions + 2))) ** (1 / (dimensions + 4)))


def spreads(samples_PND: NDArray[np.float32], *, product: bool) -> Doubles:
    """Standard deviation of every dimension, `(P, D)`, floored; without `product` their root mean square in all of them.

    >>> spreads(np.array([[[0.0, 0.0], [2.0, 4.0]]], np.float32), product=False).round(2).tolist()
    [[2.24, 2.24]]
    """
    variances_PD = samples_PND.var(axis=1, ddof=1, dtype=np.float64)
    mean_P1 = variances_PD.mean(axis=1, keepdims=True)
    floor_P1 = np.where(mean_P1 > 0, LEAST_SPREAD**2 * mean_P1, 1.0)
    chosen_PD = variances_PD if product else np.broadcast_to(mean_P1, variances_PD.shape)
    spread_PD: Doubles = np.sqrt(np.maximum(chosen_PD, floor_P1))
    return spread_PD


def squares(queries_PQD: NDArray[np.float32], samples_PND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances of scaled, centred points, `(P, Q, N)`, by matrix products; never below 0."""
    products_PQN = queries_PQD @ samples_PND.transpose(0, 2, 1)
    products_PQN *= -2
    products_PQN += np.einsum("pqd,pqd->pq", queries_PQD, queries_PQD)[..., None]
    products_PQN += np.einsum("pnd,pnd->pn", samples_PND, samples_PND)[:, None, :]
    result: NDArray[np.float32] = np.maximum(products_PQN, 0, out=products_PQN)
    return result


def log_densities(squares_PQN: NDArray[np.floating], widths_PN: Doubles, dimensions: int) -> Doubles:
    """Log density `(P, Q)` of kernels of `widths_PN` at these squared distances, up to the scale of the space.

    log f = logsumexp(-s / 2 h^2 - d log h) - log n - d / 2 log 2 pi. Kernels at an infinite distance do not count.

    >>> round(float(log_densities(np.zeros((1, 1, 1)), np.ones((1, 1)), 2)[0, 0]), 3)
    -1.838
    """
    exponents_PQN = squares_PQN * (-0.5 / widths_PN**2)[:, None, :] - dimensions * np.log(widths_PN)[:, None, :]
    greatest_PQ1 = exponents_PQN.max(axis=2, keepdims=True)
    sums_PQ = np.exp(exponents_PQN - greatest_PQ1).sum(axis=2)
    counted_PQ = np.isfinite(squares_PQN).sum(axis=2)
    densities: Doubles = greatest_PQ1[..., 0] + np.log(sums_PQ / counted_PQ) - dimensions / 2 * np.log(2 * np.pi)
    return densities


def without_own(squares_PNN: NDArray[np.floating], parts_N: Parts) -> Doubles:
    """The squared distances of samples to each other with each infinitely far from those of its own part."""
    others_PNN = squares_PNN.astype(np.float64)
    others_PNN[:, parts_N[:, None] == parts_N[None, :]] = np.inf
    return others_PNN


def likelihoods(
    squares_PQN: Doubles, start: float, dimensions: int, factors: Sequence[float] = FACTORS
) -> NDArray[np.float64]:
    """Log likelihood of the points, all positions together, for each multiple of the bandwidth `start`, `(G,)`.

    With `without_own` distances this is the leave-one-out likelihood (Silverman 1986, section 3.4.4); with distances
    of held-out images a validation grid.
    """
    positions, _, count = squares_PQN.shape
    return np.array(
        [log_densities(squares_PQN, np.full((positions, count), start * each), dimensions).sum() for each in factors]
    )


def adaptive_widths(squares_PNN: Doubles, widths_PN: Doubles, dimensions: int) -> Doubles:
    """Widths `(P, N)` that are wide where samples are rare: h (f(x_i) / g)^-1/2, f a pilot density, g its geometric mean
    (Abramson 1982; Silverman 1986, section 5.3).

    *Differences from the sources*: the exponent is divided by the dimensions (Breiman, Meisel, Purcell 1977), or one
    sample in a hundred dimensions would be e^20 as wide as another; each sample is left out of its own pilot.
    """
    pilot_PN = log_densities(squares_PNN, widths_PN, dimensions)
    powers_PN = -SENSITIVITY * 2 / dimensions * (pilot_PN - pilot_PN.mean(axis=1, keepdims=True))
    widths: Doubles = widths_PN * np.clip(np.exp(powers_PN), 1 / _WIDEST, _WIDEST)
    return widths


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def below_peak(
    points_PC: Patches,
    samples_PNC: Patches,
    widths_PN: Patches,
    own_N: NDArray[np.bool_],
    below_P: NDArray[np.float32],
) -> None:
    """log of (greatest possible / obtained) kernel density of each point, without the samples `own_N`.

    log sum exp(-d log h) - log sum exp(-s / 2 h^2 - d log h), each taken relative to its greatest term.
    """
    positions, count, dimensions = samples_PNC.shape
    exponents_N = np.empty(count)
    norms_N = np.empty(count)
    for position in range(positions):
        greatest = norm = -np.inf
        for each in range(count):
            square = np.float32(0)
            for axis in range(dimensions):
                apart = points_PC[position, axis] - samples_PNC[position, each, axis]
                square += apart * apart
            width = widths_PN[position, each]
            norms_N[each] = -dimensions * np.log(width) if not own_N[each] else -np.inf
            exponents_N[each] = norms_N[each] - 0.5 * square / (width * width)
            greatest = max(greatest, exponents_N[each])
            norm = max(norm, norms_N[each])
        obtained = possible = 0.0
        for each in range(count):
            obtained += np.exp(exponents_N[each] - greatest)
            possible += np.exp(norms_N[each] - norm)
        below_P[position] = max(norm + np.log(possible) - greatest - np.log(obtained), 0.0)
