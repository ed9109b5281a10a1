"""Nearest rows of a memory bank, with distances that do not depend on the company a query comes in.

Faiss (flat, exact) finds candidates; beyond a certain batch it uses BLAS, which is three times as fast but whose
distances are 1e-4 off and change with the batch. So a few more candidates than asked for are taken, their distances
computed anew from differences in float64, and sorted. Where the error could have kept a nearer row out, the query is
searched again without BLAS.

Shape legend: N queries, M bank rows, D dimensions, K neighbours, C candidates.
"""

import faiss
import numpy as np
from numpy.typing import NDArray

from detectors.errors import InvalidInput

SPARE = 4
"""Candidates beyond those asked for: rows that float32 may have ranked wrongly."""

_SPARE_AGAIN = 16
_CHUNK_BYTES = 32 * 2**20
_BLAS_FROM = 128_000
_UNIT = float(np.finfo(np.float32).eps)

_Rows = NDArray[np.int64]


class NearestNeighbours:
    """The exact nearest rows of a bank, Euclidean. Equally near rows come in the order of the bank.

    Holds the bank twice (its rows and the index); do not change the array given.

    >>> distances_NK, rows_NK = NearestNeighbours(np.eye(3, dtype=np.float32)).search(np.zeros((1, 3), np.float32), 2)
    >>> distances_NK.tolist(), rows_NK.tolist()
    ([[1.0, 1.0]], [[0, 1]])
    """

    def __init__(self, bank_MD: NDArray[np.float32]) -> None:
        _check_matrix(bank_MD, "bank")
        if len(bank_MD) == 0:
            raise InvalidInput("a bank of 0 rows; fit it on at least one patch")
        self._bank_MD = np.ascontiguousarray(bank_MD)
        self._index = faiss.IndexFlatL2(bank_MD.shape[1])
        self._index.add(self._bank_MD)
        self._longest_square = float(_squares(self._bank_MD).max())

    @property
    def rows(self) -> int:
        """Rows M of the bank."""
        return len(self._bank_MD)

    def search(self, queries_ND: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], _Rows]:
        """Distances `(N, K)` in ascending order and rows `(N, K)` of the `k` nearest bank rows of every query.

        Raises InvalidInput for queries of another shape or type than the bank's or not finite, and for k outside 1..M.
        """
        _check_matrix(queries_ND, "queries")
        if queries_ND.shape[1] != self._bank_MD.shape[1]:
            raise InvalidInput(f"queries of {queries_ND.shape[1]} dimensions, the bank has {self._bank_MD.shape[1]}")
        if not 1 <= k <= self.rows:
            raise InvalidInput(f"{k} neighbours of a bank of {self.rows} rows; ask for 1 to {self.rows}")
        distances_NK = np.empty((len(queries_ND), k), np.float32)
        rows_NK = np.empty((len(queries_ND), k), np.int64)
        step = max(1, _CHUNK_BYTES // (8 * (k + SPARE) * queries_ND.shape[1]))
        for start in range(0, len(queries_ND), step):
            part = slice(start, start + step)
            squares_NK, rows_NK[part] = self._search(np.ascontiguousarray(queries_ND[part]), k)
            distances_NK[part] = np.sqrt(squares_NK)
        return distances_NK, rows_NK

    def _search(self, queries_ND: NDArray[np.float32], k: int) -> tuple[NDArray[np.float64], _Rows]:
        found_NC, candidates_NC = self._index.search(queries_ND, min(k + SPARE, self.rows))
        squares_NK, rows_NK = self._ranked(queries_ND, candidates_NC, k)
        if candidates_NC.shape[1] < self.rows:
            # The computed square of a row left out is at least the last candidate's; its error is below this.
            error_N = _UNIT * (queries_ND.shape[1] + 4) * (_squares(queries_ND) + self._longest_square)
            doubtful_N = squares_NK[:, -1] >= found_NC[:, -1] - error_N
            squares_NK[doubtful_N], rows_NK[doubtful_N] = self._search_slowly(queries_ND[doubtful_N], k)
        return squares_NK, rows_NK

    def _search_slowly(self, queries_ND: NDArray[np.float32], k: int) -> tuple[NDArray[np.float64], _Rows]:
        """The same in batches so small that faiss computes differences: its error is relative to the distance."""
        squares_NK, rows_NK = np.empty((len(queries_ND), k)), np.empty((len(queries_ND), k), np.int64)
        step = max(1, min(64, (_BLAS_FROM - 1) // queries_ND.shape[1]))
        for start in range(0, len(queries_ND), step):
            part = slice(start, start + step)
            _, candidates_NC = self._index.search(queries_ND[part], min(k + _SPARE_AGAIN, self.rows))
            squares_NK[part], rows_NK[part] = self._ranked(queries_ND[part], candidates_NC, k)
        return squares_NK, rows_NK

    def _ranked(
        self, queries_ND: NDArray[np.float32], candidates_NC: _Rows, k: int
    ) -> tuple[NDArray[np.float64], _Rows]:
        """Squared distances, exact, and rows of the `k` nearest candidates."""
        in_order_NC = np.sort(candidates_NC, axis=1)  # equal distances then stay in the order of rows
        differences_NCD = self._bank_MD[in_order_NC].astype(np.float64) - queries_ND[:, None, :]
        squares_NC = np.einsum("ncd,ncd->nc", differences_NCD, differences_NCD)
        order_NK = np.argsort(squares_NC, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(squares_NC, order_NK, 1), np.take_along_axis(in_order_NC, order_NK, 1)


def _squares(rows_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.einsum("nd,nd->n", rows_ND, rows_ND, dtype=np.float64)
    return squares


def _check_matrix(matrix: NDArray[np.float32], what: str) -> None:
    if matrix.ndim != 2 or matrix.dtype != np.float32 or matrix.shape[1] == 0:
        raise InvalidInput(
            f"{what} of shape {matrix.shape} and type {matrix.dtype}; float32 (rows, dimensions) is needed"
        )
    if not np.isfinite(matrix).all():
        raise InvalidInput(f"{what} hold NaN or infinity; drop the images they come from")
