"""A normal distribution at every position of the patch grid, learnt in one pass.

Welford 1962 and Chan, Golub, LeVeque 1983: count, mean and scatter can be added to and merged; double precision.

Shape legend: B images, P positions (Q of them at a time), D dimensions, T = D (D + 1) / 2 entries of a lower triangle,
row by row, G parts that M images show each.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri

from detectors.errors import InvalidInput

_POSITIONS = 64

_Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussians:
    """Statistics of the images seen: `mean_PD` and `scatter_PT`, the sum of the products of deviations from it.

    >>> rng = np.random.default_rng(0)
    >>> points_BPD = rng.normal(size=(9, 4, 3)).astype(np.float32)
    >>> halves = gaussians_of(points_BPD[:4]).merged(gaussians_of(points_BPD[4:]))
    >>> bool(np.allclose(halves.scatter_PT, gaussians_of(points_BPD).scatter_PT))
    True
    """

    count: int
    mean_PD: _Doubles  # noqa: N815
    scatter_PT: _Doubles  # noqa: N815

    def merged(self, other: "Gaussians") -> "Gaussians":
        """Statistics of both sets of images together (Chan et al., equation 2.1); raises InvalidInput for other shapes."""
        if self.mean_PD.shape != other.mean_PD.shape:
            raise InvalidInput(
                f"{other.mean_PD.shape} positions and dimensions, {self.mean_PD.shape} are known; merge equal grids"
            )
        total = self.count + other.count
        apart_PD = other.mean_PD - self.mean_PD
        weight = self.count * other.count / total
        scatter_PT = self.scatter_PT + other.scatter_PT
        for part in _parts(len(apart_PD)):
            outer_QDD = apart_PD[part, :, None] * apart_PD[part, None, :]
            scatter_PT[part] += weight * _lower(outer_QDD)
        return Gaussians(total, self.mean_PD + apart_PD * (other.count / total), scatter_PT)

    def whitening(self, regularisation: float, *, divisor: int) -> _Doubles:
        """Inverse Cholesky factors `W_PT` of `scatter / divisor + regularisation * I`: |W (x - mean)| is Mahalanobis'
        distance.

        Raises InvalidInput where a covariance is not positive definite: its regularisation is too small.
        """
        positions, dimensions = self.mean_PD.shape
        rows, columns = np.tril_indices(dimensions)
        whitening_PT = np.empty_like(self.scatter_PT)
        covariance_DD = np.zeros((dimensions, dimensions))
        for position in range(positions):
            covariance_DD[rows, columns] = self.scatter_PT[position] / divisor
            covariance_DD[np.diag_indices(dimensions)] += regularisation
            try:
                factor_DD = np.linalg.cholesky(covariance_DD)  # reads the lower triangle only
            except np.linalg.LinAlgError as error:
                raise InvalidInput(
                    f"the covariance at position {position} with a regularisation of {regularisation} cannot be "
                    "factored; give a larger one"
                ) from error
            whitening_PT[position] = dtrtri(factor_DD, lower=1)[0][rows, columns]
        return whitening_PT


def gaussians_of(points_BPD: NDArray[np.float32]) -> Gaussians:
    """Statistics of one batch of at least one image, `(B, P, D)`."""
    count, positions, dimensions = points_BPD.shape
    mean_PD = points_BPD.mean(axis=0, dtype=np.float64)
    scatter_PT = np.empty((positions, dimensions * (dimensions + 1) // 2))
    for part in _parts(positions):
        centred_QBD = (points_BPD[:, part] - mean_PD[part]).transpose(1, 0, 2)
        scatter_PT[part] = _lower(centred_QBD.transpose(0, 2, 1) @ centred_QBD)
    return Gaussians(count, mean_PD, scatter_PT)


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "arcp", "contract", "reassoc"})
def mahalanobis(
    centred_PD: NDArray[np.float32], whitening_PT: NDArray[np.float32], distances_P: NDArray[np.float32]
) -> None:
    """Length of `W (x - mean)` at every position (in place), from packed lower triangles `whitening_PT`."""
    positions, dimensions = centred_PD.shape
    for position in range(positions):
        total, start = np.float32(0), 0
        for row in range(dimensions):
            product = np.float32(0)
            for column in range(row + 1):
                product += whitening_PT[position, start + column] * centred_PD[position, column]
            total += product * product
            start += row + 1
        distances_P[position] = np.sqrt(total)


def left_out_distances(
    known: Gaussians, points_BPD: NDArray[np.float32], parts_B: NDArray[np.int64], *, regularisation: float
) -> NDArray[np.float32]:
    """Mahalanobis' distances `(B, P)` of images to the statistics of all others that do not show the same part, exactly.

    `known`: of these very images; `parts_B`: from 0. With d = x - mean of all n images, the m images of a part and their sum s of d, the
    others' scatter is S - U U' with U = (d_1, ..., d_m, s / sqrt(n - m)), their mean lies s / (n - m) below, and by
    Woodbury e' (A - c U U')^-1 e = e' A^-1 e + c v' (1 - c U' A^-1 U)^-1 v, where A = c S + regularisation,
    c = 1 / (n - m - 1) and v = U' A^-1 e. One other image has no covariance.
    """
    sizes_B = np.bincount(parts_B)[parts_B]
    distances_BP = np.empty(points_BPD.shape[:2], np.float32)
    rows, columns = np.tril_indices(known.mean_PD.shape[1])
    for part in _parts(len(known.mean_PD)):
        scatter_QDD = np.zeros((len(known.mean_PD[part]), known.mean_PD.shape[1], known.mean_PD.shape[1]))
        scatter_QDD[:, rows, columns] = known.scatter_PT[part]
        spreads_QD, axes_QDD = np.linalg.eigh(scatter_QDD)  # reads the lower triangle only
        apart_QBD = (points_BPD[:, part] - known.mean_PD[part]).transpose(1, 0, 2) @ axes_QDD
        for size in np.unique(sizes_B):
            shown = np.flatnonzero(sizes_B == size)
            shown_GM = shown[np.argsort(parts_B[shown], kind="stable")].reshape(-1, size)
            squares_QGM = _squares_without(
                apart_QBD[:, shown_GM], np.maximum(spreads_QD, 0), known.count, regularisation
            )
            distances_BP[shown_GM.ravel(), part] = np.sqrt(squares_QGM).reshape(len(squares_QGM), -1).T
    return distances_BP


def _squares_without(apart_QGMD: _Doubles, spreads_QD: _Doubles, count: int, regularisation: float) -> _Doubles:
    """Squared distances `(Q, G, M)` of the images of each part, in the axes of all images' scatter, whose eigenvalues
    are `spreads_QD`.
    """
    left = count - apart_QGMD.shape[2]
    sum_QG1D = apart_QGMD.sum(axis=2, keepdims=True)
    from_others_QGMD = apart_QGMD + sum_QG1D / left
    if left == 1:
        alone: _Doubles = (from_others_QGMD**2).sum(axis=3) / regularisation
        return alone
    share = 1 / (left - 1)
    scales_QD = 1 / np.sqrt(spreads_QD * share + regularisation)
    whitened_QGMD = from_others_QGMD * scales_QD[:, None, None]
    taken_QGUD = np.concatenate([apart_QGMD, sum_QG1D / np.sqrt(left)], axis=2) * scales_QD[:, None, None]
    across_QGUM = taken_QGUD @ whitened_QGMD.swapaxes(2, 3)
    rest_QGUU = np.eye(taken_QGUD.shape[2]) - share * taken_QGUD @ taken_QGUD.swapaxes(2, 3)
    more_QGM = share * (across_QGUM * np.linalg.solve(rest_QGUU, across_QGUM)).sum(axis=2)
    squares_QGM: _Doubles = np.maximum((whitened_QGMD**2).sum(axis=3) + more_QGM, 0.0)
    return squares_QGM


def _lower(matrices_QDD: _Doubles) -> _Doubles:
    rows, columns = np.tril_indices(matrices_QDD.shape[1])
    return matrices_QDD[:, rows, columns]


def _parts(positions: int) -> list[slice]:
    return [slice(start, start + _POSITIONS) for start in range(0, positions, _POSITIONS)]
