"""Which patches to keep: greedy k-center selection of a memory bank's rows.

PatchCore, Roth et al. 2022 (arXiv 2106.08265), algorithm 1; the greedy rule is Gonzalez 1985 (at most twice the best
radius). *Differences from the paper*: the first row is drawn with the seed. The picks are those of the textbook loop,
found with fewer distances: each point remembers an upper bound of its distance to the picks, which only the points
that may be farthest have to renew, many picks at a time in one matrix product.

Shape legend: N points, D dimensions, P projected dimensions, K picks, C candidates.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from detectors.errors import InvalidInput

_BLOCK_ROWS = 16_384
_PRODUCT_VALUES = 4 * 2**20
_CANDIDATES = 4096
_CONTENDERS = 64
_UNIT = float(np.finfo(np.float32).eps)
_ROUNDING = np.float32(1 - 1e-5)
_TAKEN = np.float32(-1)

_Progress = Callable[[int, int], None]


def greedy_k_center(
    points_ND: NDArray[np.float32],
    rows: int,
    *,
    seed: int,
    projected_dimensions: int | None = 384,
    progress: _Progress | None = None,
) -> NDArray[np.int64]:
    """Indices `(K,)` of `rows` points that cover the others well, in the order they were picked; all N for more
    rows than that.

    Each pick is the point farthest from the picks so far (ties: the first), by Euclidean distance after a seeded random
    projection to `projected_dimensions` (None: no projection). No point is picked twice, not even where points are
    equal. `progress(done, rows)` is called about a hundred times. Needs, beside the points, N x P x 4 bytes where it
    projects, and about 100 MB.

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
    for start in range(0, len(points_ND), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        np.matmul(points_ND[part], directions_DP, out=projected_NP[part])
    return projected_NP


def _pick(points_NP: NDArray[np.float32], rows: int, first: int, progress: _Progress) -> NDArray[np.int64]:
    every = max(1, rows // 100)

    def told(done: int) -> None:
        if done % every == 0 or done == rows:
            progress(done, rows)

    cover = _Cover(points_NP, rows, told)
    cover.take(first)
    if not cover.complete():
        _pick_by_differences(points_NP, cover.picked_K, cover.done, told)
    return cover.picked_K


class _Cover:
    """Picks so far, and for every point an upper bound of its squared distance to them.

    Distances come from matrix products of centred points, wrong by at most `error`. Where that leaves open which
    point is farthest, differences decide.
    """

    def __init__(self, points_NP: NDArray[np.float32], rows: int, told: Callable[[int], None]) -> None:
        self.picked_K = np.empty(rows, np.int64)
        self.done = 0
        self._told = told
        self._points_NP = points_NP
        self._mean_P = points_NP.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._picks_KP = np.empty((rows, points_NP.shape[1]), np.float32)  # centred
        self._squares_K = np.empty(rows, np.float32)
        self._squares_N = np.concatenate([_norms(self._centred(part)) for part in _blocks(np.arange(len(points_NP)))])
        self._bounds_N = np.full(len(points_NP), np.inf, np.float32)
        self._seen_N = np.zeros(len(points_NP), np.int32)  # picks that the bound knows of
        self._error = 2 * _UNIT * (points_NP.shape[1] + 4) * float(self._squares_N.max())

    def take(self, row: int) -> None:
        """Pick a point."""
        centre_P = self._points_NP[row] - self._mean_P
        self._picks_KP[self.done], self._squares_K[self.done] = centre_P, self._squares_N[row]
        self.picked_K[self.done] = row
        self._bounds_N[row] = -np.inf
        self.done += 1
        self._told(self.done)

    def complete(self) -> bool:
        """Pick until all rows are there; False where too many points are equally far for products to tell apart."""
        everyone = np.arange(len(self._points_NP))
        self._renew(everyone)
        while self.done < len(self.picked_K):
            before, candidates_C, floor = self.done, everyone, -np.inf
            if len(everyone) > _CANDIDATES:
                candidates_C = np.sort(np.argpartition(self._bounds_N, -_CANDIDATES)[-_CANDIDATES:])
                floor = float(self._bounds_N[candidates_C].min())
            current = bool((self._seen_N[candidates_C] == self.done).all())
            self._renew(candidates_C)
            decided = self._pick_among(candidates_C[self._bounds_N[candidates_C] > floor], floor)
            if not decided or (current and self.done == before):
                return False
        return True

    def _renew(self, rows_C: NDArray[np.int64]) -> None:
        """Bring the bounds of these points up to all picks so far."""
        seen_C = self._seen_N[rows_C]
        for seen in np.unique(seen_C[seen_C < self.done]).tolist():
            picks = slice(seen, self.done)
            step = max(1, min(_BLOCK_ROWS, _PRODUCT_VALUES // (self.done - seen)))
            for part_Q in _blocks(rows_C[seen_C == seen], step):
                squares_QK = self._centred(part_Q) @ (-2 * self._picks_KP[picks].T)
                squares_QK += self._squares_K[picks]
                nearest_Q = squares_QK.min(axis=1) + self._squares_N[part_Q]
                self._bounds_N[part_Q] = np.minimum(self._bounds_N[part_Q], nearest_Q)
        self._seen_N[rows_C] = self.done

    def _pick_among(self, rows_C: NDArray[np.int64], floor: float) -> bool:
        """Pick from these points as long as the farthest is beyond all others; False where it cannot be told apart."""
        bounds_C, squares_C, points_CP = self._bounds_N[rows_C], self._squares_N[rows_C], self._centred(rows_C)
        decided = True
        while self.done < len(self.picked_K) and len(rows_C):
            farthest = int(bounds_C.argmax())
            if bounds_C[farthest] <= floor + 2 * self._error:
                break
            equal = np.flatnonzero(bounds_C >= bounds_C[farthest] - 2 * self._error)
            decided = len(equal) <= _CONTENDERS
            if not decided:
                break
            if len(equal) > 1:
                farthest = int(equal[np.argmax([self._exact(row) for row in rows_C[equal].tolist()])])
            row = int(rows_C[farthest])
            squares_C_new = points_CP @ (-2 * points_CP[farthest])
            squares_C_new += squares_C + squares_C[farthest]
            self.take(row)
            np.minimum(bounds_C, squares_C_new, out=bounds_C)
            bounds_C[farthest] = -np.inf
        self._bounds_N[rows_C] = bounds_C
        self._seen_N[rows_C] = self.done
        return decided

    def _exact(self, row: int) -> float:
        """Squared distance of one point to its nearest pick, from differences."""
        point_P = self._points_NP[row]
        squares_K = self._picks_KP[: self.done] @ (-2 * (point_P - self._mean_P)) + self._squares_K[: self.done]
        near_K = self.picked_K[: self.done][squares_K <= squares_K.min() + 2 * self._error]
        return float(_squares(self._points_NP[near_K], point_P).min())

    def _centred(self, rows_Q: NDArray[np.int64]) -> NDArray[np.float32]:
        points_QP = self._points_NP[rows_Q]
        points_QP -= self._mean_P
        return points_QP


def _blocks(rows_Q: NDArray[np.int64], step: int = _BLOCK_ROWS) -> Iterator[NDArray[np.int64]]:
    return (rows_Q[start : start + step] for start in range(0, len(rows_Q), step))


def _norms(points_QP: NDArray[np.float32]) -> NDArray[np.float32]:
    norms: NDArray[np.float32] = np.einsum("qp,qp->q", points_QP, points_QP)
    return norms


def _pick_by_differences(
    points_NP: NDArray[np.float32], picked_K: NDArray[np.int64], given: int, told: Callable[[int], None]
) -> None:
    """The textbook loop from the first `given` picks on (in place): for points that are equal, or equally far."""
    squares_N = np.full(len(points_NP), np.inf, np.float32)  # to the nearest centre so far; _TAKEN for the centres
    centre_of_N = np.zeros(len(points_NP), np.int32)
    for done in range(len(picked_K)):
        if done >= given:
            picked_K[done] = int(np.argmax(squares_N))
            told(done + 1)
        squares_N[picked_K[done]] = _TAKEN
        _approach(points_NP, squares_N, centre_of_N, picked_K[: done + 1])


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
    return _norms(points_QP - centre)


def _check(points_ND: NDArray[np.float32], rows: int, projected_dimensions: int | None) -> None:
    if points_ND.ndim != 2 or points_ND.dtype != np.float32 or points_ND.size == 0:
        raise InvalidInput(
            f"points of shape {points_ND.shape} and type {points_ND.dtype}; "
            "float32 (points, dimensions), at least one, is needed"
        )
    if not all(
        np.isfinite(points_ND[start : start + _BLOCK_ROWS]).all() for start in range(0, len(points_ND), _BLOCK_ROWS)
    ):
        raise InvalidInput("points hold NaN or infinity; drop the images they come from")
    if rows < 1:
        raise InvalidInput(f"a coreset of {rows} rows; ask for at least 1")
    if projected_dimensions is not None and projected_dimensions < 1:
        raise InvalidInput(f"a projection to {projected_dimensions} dimensions; ask for at least 1, or None")
