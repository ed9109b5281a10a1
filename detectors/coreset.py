"""Which patches to keep: greedy k-center selection of a memory bank's rows.

PatchCore, Roth et al. 2022 (arXiv 2106.08265), algorithm 1; the greedy rule is Gonzalez 1985 (at most twice the best
radius). *Differences from the paper*: the first row is drawn with the seed; points whose nearest centre is at least
twice as far from the new centre as from themselves are skipped, which the triangle inequality allows without any change
of the result.

Shape legend: N points, D dimensions, P projected dimensions, K picks.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detectors.errors import InvalidInput

_PROJECTION_ROWS = 65_536
_ROUNDING = np.float32(1 - 1e-5)
_TAKEN = np.float32(-1)


def greedy_k_center(
    points_ND: NDArray[np.float32],
    rows: int,
    *,
    seed: int,
    projected_dimensions: int | None = 128,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Indices `(K,)` of `rows` points that cover the others well, in the order they were picked; all N for more
    rows than that.

    Each pick is the point farthest from the picks so far (ties: the first), by Euclidean distance after a seeded random
    projection to `projected_dimensions` (None: no projection). No point is picked twice, not even where points are
    equal. `progress(done, rows)` is called about a hundred times. Needs N x P x 4 bytes beside the points.

    Raises InvalidInput for no points, fewer than one row, or points that are not finite float32.

    >>> greedy_k_center(np.array([[0.0], [1.0], [9.0]], np.float32), 2, seed=0, projected_dimensions=None).tolist()
    [2, 0]
    """
    _check(points_ND, rows, projected_dimensions)
    if rows >= len(points_ND):
        return np.arange(len(points_ND), dtype=np.int64)
    rng = np.random.default_rng(seed)
    first = int(rng.integers(len(points_ND)))
    points_NP = project(points_ND, projected_dimensions, rng)
    return _pick(points_NP, rows, first, progress or (lambda _done, _rows: None))


def project(points_ND: NDArray[np.float32], dimensions: int | None, rng: np.random.Generator) -> NDArray[np.float32]:
    """Points `(N, P)` after a Gaussian random projection that keeps distances on average; unchanged for D <= P or None.

    >>> project(np.ones((5, 300), np.float32), 128, np.random.default_rng(0)).shape
    (5, 128)
    """
    if dimensions is None or points_ND.shape[1] <= dimensions:
        return np.ascontiguousarray(points_ND)
    directions_DP = (rng.standard_normal((points_ND.shape[1], dimensions)) / np.sqrt(dimensions)).astype(np.float32)
    projected_NP = np.empty((len(points_ND), dimensions), np.float32)
    for start in range(0, len(points_ND), _PROJECTION_ROWS):
        part = slice(start, start + _PROJECTION_ROWS)
        np.matmul(points_ND[part], directions_DP, out=projected_NP[part])
    return projected_NP


def _pick(
    points_NP: NDArray[np.float32], rows: int, first: int, progress: Callable[[int, int], None]
) -> NDArray[np.int64]:
    picked_K = np.empty(rows, np.int64)
    squares_N = np.full(len(points_NP), np.inf, np.float32)  # to the nearest centre so far; _TAKEN for the centres
    centre_of_N = np.zeros(len(points_NP), np.int32)
    every = max(1, rows // 100)
    row = first
    for done in range(rows):
        picked_K[done] = row
        squares_N[row] = _TAKEN
        _approach(points_NP, squares_N, centre_of_N, picked_K[: done + 1])
        row = int(np.argmax(squares_N))
        if (done + 1) % every == 0 or done + 1 == rows:
            progress(done + 1, rows)
    return picked_K


def _approach(
    points_NP: NDArray[np.float32],
    squares_N: NDArray[np.float32],
    centre_of_N: NDArray[np.int32],
    picked_K: NDArray[np.int64],
) -> None:
    """Let every point that is nearer to the newest pick than to its centre go over to it (in place)."""
    newest = points_NP[picked_K[-1]]
    if len(picked_K) == 1:
        near_Q = np.flatnonzero(squares_N >= 0)
    else:
        between_K = _squares(points_NP[picked_K], newest) * (_ROUNDING / 4)
        near_Q = np.flatnonzero(squares_N > between_K[centre_of_N])
    found_Q = _squares(points_NP[near_Q], newest)
    nearer_Q = found_Q < squares_N[near_Q]
    squares_N[near_Q[nearer_Q]] = found_Q[nearer_Q]
    centre_of_N[near_Q[nearer_Q]] = len(picked_K) - 1


def _squares(points_QP: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    differences_QP = points_QP - centre
    squares: NDArray[np.float32] = np.einsum("qp,qp->q", differences_QP, differences_QP)
    return squares


def _check(points_ND: NDArray[np.float32], rows: int, projected_dimensions: int | None) -> None:
    if points_ND.ndim != 2 or points_ND.dtype != np.float32 or points_ND.size == 0:
        raise InvalidInput(
            f"points of shape {points_ND.shape} and type {points_ND.dtype}; "
            "float32 (points, dimensions), at least one, is needed"
        )
    if not np.isfinite(points_ND).all():
        raise InvalidInput("points hold NaN or infinity; drop the images they come from")
    if rows < 1:
        raise InvalidInput(f"a coreset of {rows} rows; ask for at least 1")
    if projected_dimensions is not None and projected_dimensions < 1:
        raise InvalidInput(f"a projection to {projected_dimensions} dimensions; ask for at least 1, or None")
