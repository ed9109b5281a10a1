"""Nearest rows of a memory bank, exact, with distances that do not depend on the company a query comes in.

Principal components bring no two points farther apart, nor does the length of what they leave out. So distances by
the first few components and that length, one matrix product, are lower bounds of the true ones. Rows whose bound
lies within the nearest distance so far are bounded again by more components, and what is left is compared in full, by
differences (`detectors.nearest_kernel`). Bounds are loosened by what rounding may have added: the winner is proven.

Shape legend: N queries, M bank rows, D dimensions, P coarse dimensions, F fine dimensions, K neighbours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.errors import InvalidInput
from detectors.nearest_kernel import BLOCK, nearest_rows

COARSE_VARIANCE, FINE_VARIANCE = 0.82, 0.9
"""Shares of the bank's variance that the components of the two bounds hold: fewer are cheaper and leave more rows to
compare."""

_STEP = 16
_QUERIES, _PREPARED = 128, 4096  # whose bounds, whose components are held at a time
_NOWHERE = 1e30
_SAMPLE_ROWS = 20_000
_UNIT = float(np.finfo(np.float32).eps)

_Matrix = NDArray[np.float32]
_Rows = NDArray[np.int64]


class NearestNeighbours:
    """The exact nearest rows of a bank, Euclidean. Equally near rows come in the order of the bank.

    Holds the bank and its coarse image; do not change the array given. Threads may share it.

    >>> distances_NK, rows_NK = NearestNeighbours(np.eye(3, dtype=np.float32)).search(np.zeros((1, 3), np.float32), 2)
    >>> distances_NK.tolist(), rows_NK.tolist()
    ([[1.0, 1.0]], [[0, 1]])
    """

    def __init__(self, bank_MD: _Matrix) -> None:
        _check_matrix(bank_MD, "bank")
        if len(bank_MD) == 0:
            raise InvalidInput("a bank of 0 rows; fit it on at least one patch")
        self._bank_MD = np.ascontiguousarray(bank_MD)
        self._mean_D = bank_MD.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._components_DF, self._coarse = _components(bank_MD, self._mean_D)
        bank = self._bounded(self._bank_MD)
        blocks = -(-len(bank_MD) // BLOCK)
        self._product_PM = np.zeros((self._coarse + 2, blocks * BLOCK), np.float32)
        self._product_PM[:-1, : len(bank_MD)] = -2 * bank.coarse_NP.T
        self._product_PM[-1] = _NOWHERE
        self._product_PM[-1, : len(bank_MD)] = bank.squares_N
        self._fine_MF = bank.fine_NF
        self._longest = float(bank.squares_N.max())
        self._wander = float(bank.wander_N.max())

    @property
    def rows(self) -> int:
        """Rows M of the bank."""
        return len(self._bank_MD)

    def search(
        self, queries_ND: _Matrix, k: int, *, without_M: NDArray[np.bool_] | None = None
    ) -> tuple[_Matrix, _Rows]:
        """Distances `(N, K)` in ascending order and rows `(N, K)` of the `k` nearest bank rows of every query.

        Rows marked in `without_M` are passed over: the rows of an image that is to be judged by the others. Raises
        InvalidInput for queries of another shape or type than the bank's or not finite, and for k outside 1..M (of the
        rows not marked).

        >>> search = NearestNeighbours(np.eye(3, dtype=np.float32)).search
        >>> search(np.eye(3, dtype=np.float32), 1, without_M=np.array([False, False, True]))[1].tolist()
        [[0], [1], [0]]
        """
        _check_matrix(queries_ND, "queries")
        if queries_ND.shape[1] != self._bank_MD.shape[1]:
            raise InvalidInput(f"queries of {queries_ND.shape[1]} dimensions, the bank has {self._bank_MD.shape[1]}")
        rows = self.rows if without_M is None else self.rows - int(np.count_nonzero(without_M))
        if not 1 <= k <= rows:
            raise InvalidInput(f"{k} neighbours of a bank of {rows} rows; ask for 1 to {rows}")
        queries_ND = np.ascontiguousarray(queries_ND)
        squares_NK = np.empty((len(queries_ND), k))
        rows_NK = np.empty((len(queries_ND), k), np.int64)
        for start in range(0, len(queries_ND), _PREPARED):
            part = slice(start, start + _PREPARED)
            self._search(queries_ND[part], without_M, squares_NK[part], rows_NK[part])
        return np.sqrt(squares_NK).astype(np.float32), rows_NK

    def _search(
        self,
        queries_ND: _Matrix,
        without_M: NDArray[np.bool_] | None,
        squares_NK: NDArray[np.float64],
        rows_NK: _Rows,
    ) -> None:
        queries, fine_MF = self._bounded(queries_ND), self._fine_MF
        coarse_NP = np.column_stack([queries.coarse_NP, np.ones(len(queries_ND), np.float32)])
        slack_N3 = self._slack(queries)
        room_NM = np.empty((min(_QUERIES, len(queries_ND)), self._product_PM.shape[1]), np.float32)
        for start in range(0, len(queries_ND), _QUERIES):
            part = slice(start, start + _QUERIES)
            bounds_NM = np.matmul(coarse_NP[part], self._product_PM, out=room_NM[: len(coarse_NP[part])])
            if without_M is not None:
                bounds_NM[:, : self.rows][:, without_M] = _NOWHERE
            given = queries_ND[part], self._bank_MD, bounds_NM, queries.fine_NF[part], fine_MF, slack_N3[part]
            nearest_rows(*given, squares_NK[part], rows_NK[part])

    def _slack(self, queries: "_Bounded") -> NDArray[np.float64]:
        """What `nearest_rows` makes a limit of, `(N, 3)`."""
        rounding_N = 2 * _UNIT * (self._fine_MF.shape[1] + 8) * (queries.squares_N + self._longest)
        return np.stack([queries.wander_N + self._wander, rounding_N, queries.squares_N], axis=1).astype(np.float64)

    def _bounded(self, points_ND: _Matrix) -> "_Bounded":
        centred_ND = points_ND - self._mean_D
        main_NF = centred_ND @ self._components_DF
        squares_N = _squares(centred_ND)
        error_N = _UNIT * points_ND.shape[1] * squares_N
        coarse_rest_N = np.sqrt(np.maximum(squares_N - _squares(main_NF[:, : self._coarse]), 0))
        fine_rest_N = np.sqrt(np.maximum(squares_N - _squares(main_NF), 0))
        surest_N = np.maximum(np.maximum(fine_rest_N, np.sqrt(error_N)), np.finfo(np.float32).tiny)
        return _Bounded(
            coarse_NP=np.column_stack([main_NF[:, : self._coarse], coarse_rest_N]),
            fine_NF=np.column_stack([main_NF[:, self._coarse :], fine_rest_N, coarse_rest_N]),
            squares_N=squares_N,
            wander_N=error_N / surest_N + 2 * _UNIT * np.sqrt(points_ND.shape[1] * squares_N),
        )


@dataclass(frozen=True)
class _Bounded:
    """Points as the bounds see them: `coarse_NP` the first components and the length of the rest, `fine_NF` the next
    components, the length of what these leave out and the length of the rest again; squared lengths, and how far
    rounding may have moved a point.
    """

    coarse_NP: _Matrix  # noqa: N815
    fine_NF: _Matrix  # noqa: N815
    squares_N: _Matrix  # noqa: N815
    wander_N: _Matrix  # noqa: N815


def _components(bank_MD: _Matrix, mean_D: _Matrix) -> tuple[_Matrix, int]:
    """Principal components `(D, F)` of the bank (of some of its rows), and how many of them are coarse."""
    some_MD = bank_MD[:: -(-len(bank_MD) // _SAMPLE_ROWS)].astype(np.float64) - mean_D
    variances_D, vectors_DD = np.linalg.eigh(some_MD.T @ some_MD)
    held_D = np.cumsum(np.maximum(variances_D[::-1], 0))
    enough = np.searchsorted(held_D, np.array([COARSE_VARIANCE, FINE_VARIANCE]) * held_D[-1]) + 1
    coarse, fine = (min(len(held_D), -(-int(each) // _STEP) * _STEP) for each in enough)
    return np.ascontiguousarray(vectors_DD[:, ::-1][:, :fine], dtype=np.float32), coarse


def _squares(points_ND: _Matrix) -> _Matrix:
    squares_N: _Matrix = np.einsum("nd,nd->n", points_ND, points_ND)
    return squares_N


def _check_matrix(matrix: _Matrix, what: str) -> None:
    if matrix.ndim != 2 or matrix.dtype != np.float32 or matrix.shape[1] == 0:
        raise InvalidInput(
            f"{what} of shape {matrix.shape} and type {matrix.dtype}; float32 (rows, dimensions) is needed"
        )
    if not np.isfinite(matrix).all():
        raise InvalidInput(f"{what} hold NaN or infinity; drop the images they come from")
