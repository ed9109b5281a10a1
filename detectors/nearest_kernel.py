"""The compiled half of the search for nearest rows: from lower bounds to the proven winners.

Numba compiles it once and keeps the machine code beside this file (or in the user's cache).

Shape legend: N queries, M bank rows, M' the same rounded up to whole blocks, D dimensions, F fine dimensions, K
neighbours.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 32
"""Rows whose smallest bound is kept; a block beyond the limit is passed over whole."""

FIRST = 2
"""Rows compared in full before any other, at least."""

_ANY_ORDER = {"nnan", "nsz", "arcp", "contract", "reassoc"}  # of sums; infinities keep their meaning
_FINITE = 9e29  # bounds of rows that are none, or already considered, lie beyond
_UNIT = float(np.finfo(np.float32).eps)


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def smallest_of_blocks(bounds_M: NDArray[np.float32], smallest_B: NDArray[np.float32]) -> None:
    """Smallest bound of every `BLOCK` rows (in place)."""
    for block in range(len(smallest_B)):
        bounds_R = bounds_M[block * BLOCK : block * BLOCK + BLOCK]
        smallest = np.float32(np.inf)
        for row in range(BLOCK):
            smallest = min(smallest, bounds_R[row])
        smallest_B[block] = smallest


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def rough_square(
    queries_NX: NDArray[np.float32], n: int, rows_MX: NDArray[np.float32], row: int, dimensions: int
) -> np.float32:
    """Squared distance by the first `dimensions`, in float32."""
    total = np.float32(0)
    for each in range(dimensions):
        difference = queries_NX[n, each] - rows_MX[row, each]
        total += difference * difference
    return total


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def exact_square(queries_ND: NDArray[np.float32], n: int, bank_MD: NDArray[np.float32], row: int) -> float:
    """Squared distance in float64."""
    total = 0.0
    for each in range(queries_ND.shape[1]):
        difference = np.float64(queries_ND[n, each]) - np.float64(bank_MD[row, each])
        total += difference * difference
    return total


@njit(cache=True, nogil=True)
def offer(squares_K: NDArray[np.float64], rows_K: NDArray[np.int64], square: float, row: int) -> None:
    """Put a row in its place among the nearest so far (in place); equal distances stay in the order of rows."""
    last = len(squares_K) - 1
    if square > squares_K[last] or (square == squares_K[last] and row > rows_K[last]):
        return
    place = last
    while place > 0 and (squares_K[place - 1] > square or (squares_K[place - 1] == square and rows_K[place - 1] > row)):
        squares_K[place], rows_K[place] = squares_K[place - 1], rows_K[place - 1]
        place -= 1
    squares_K[place], rows_K[place] = square, row


@njit(cache=True, nogil=True)
def consider(
    queries_ND: NDArray[np.float32],
    n: int,
    bank_MD: NDArray[np.float32],
    row: int,
    squares_K: NDArray[np.float64],
    rows_K: NDArray[np.int64],
) -> None:
    """Offer a row if it may be among the nearest: roughly first, exactly where that leaves it open."""
    dimensions = queries_ND.shape[1]
    if rough_square(queries_ND, n, bank_MD, row, dimensions) <= squares_K[-1] * (1 + _UNIT * (dimensions + 8)):
        offer(squares_K, rows_K, exact_square(queries_ND, n, bank_MD, row), row)


@njit(cache=True, nogil=True)
def limit_of(square: float, slack_3: NDArray[np.float64]) -> float:
    """The highest bound that a row of this squared distance can have."""
    return float((np.sqrt(square) + slack_3[0]) ** 2 + slack_3[1] - slack_3[2])


@njit(cache=True, nogil=True)
def take_best_of_blocks(
    queries_ND: NDArray[np.float32],
    n: int,
    bank_MD: NDArray[np.float32],
    bounds_M: NDArray[np.float32],
    smallest_B: NDArray[np.float32],
    squares_K: NDArray[np.float64],
    rows_K: NDArray[np.int64],
) -> None:
    """Consider the best rows of the blocks whose bounds are smallest, so that a limit is known (bounds in place)."""
    for _ in range(min(max(len(squares_K), FIRST), len(smallest_B))):
        block = int(np.argmin(smallest_B))
        start = block * BLOCK
        row = start + int(np.argmin(bounds_M[start : start + BLOCK]))
        if bounds_M[row] < _FINITE:
            consider(queries_ND, n, bank_MD, row, squares_K, rows_K)
        bounds_M[row] = np.inf
        smallest_B[block] = bounds_M[start : start + BLOCK].min()


@njit(cache=True, nogil=True)
def rows_within(
    bounds_M: NDArray[np.float32], smallest_B: NDArray[np.float32], limit: float, rows_C: NDArray[np.int64]
) -> int:
    """How many rows have a finite bound within the limit; they are put into `rows_C`. Without a branch a row."""
    count, limit32 = 0, np.float32(min(limit, _FINITE))
    for block in range(len(smallest_B)):
        if smallest_B[block] <= limit32:
            for row in range(block * BLOCK, (block + 1) * BLOCK):
                rows_C[count] = row
                count += bounds_M[row] <= limit32
    return count


@njit(cache=True, nogil=True)
def refine(
    fine_NF: NDArray[np.float32],
    n: int,
    fine_MF: NDArray[np.float32],
    bounds_M: NDArray[np.float32],
    rows_C: NDArray[np.int64],
    finer_C: NDArray[np.float32],
) -> None:
    """Finer bounds of these rows: the last fine dimension, the length of what was left out, gives way to the others."""
    last = fine_NF.shape[1] - 1
    for place in range(len(rows_C)):
        row = rows_C[place]
        rest = fine_NF[n, last] - fine_MF[row, last]
        finer_C[place] = bounds_M[row] - rest * rest + rough_square(fine_NF, n, fine_MF, row, last)


@njit(cache=True, nogil=True)
def nearest_rows(
    queries_ND: NDArray[np.float32],
    bank_MD: NDArray[np.float32],
    bounds_NM: NDArray[np.float32],
    fine_NF: NDArray[np.float32],
    fine_MF: NDArray[np.float32],
    slack_N3: NDArray[np.float64],
    squares_NK: NDArray[np.float64],
    rows_NK: NDArray[np.int64],
) -> None:
    """Exact squared distances and rows of the K nearest of every query (in place; `bounds_NM`, `(N, M')`, is used up).

    A row of squared distance s has a bound of at most `(sqrt(s) + slack[0])^2 + slack[1] - slack[2]`. Rows within that
    limit of the K-th nearest so far get a finer bound, and what is still within it is compared in full, the smallest
    bound first.
    """
    smallest_B = np.empty(bounds_NM.shape[1] // BLOCK, np.float32)
    rows_C, finer_C = np.empty(bounds_NM.shape[1] + 1, np.int64), np.empty(bounds_NM.shape[1], np.float32)
    for n in range(len(queries_ND)):
        bounds_M, squares_K, rows_K = bounds_NM[n], squares_NK[n], rows_NK[n]
        squares_K[:] = np.inf
        rows_K[:] = len(bank_MD)
        smallest_of_blocks(bounds_M, smallest_B)
        take_best_of_blocks(queries_ND, n, bank_MD, bounds_M, smallest_B, squares_K, rows_K)
        count = rows_within(bounds_M, smallest_B, limit_of(squares_K[-1], slack_N3[n]), rows_C)
        refine(fine_NF, n, fine_MF, bounds_M, rows_C[:count], finer_C)
        for _ in range(min(count, len(squares_K))):
            best = np.argmin(finer_C[:count])
            consider(queries_ND, n, bank_MD, rows_C[best], squares_K, rows_K)
            finer_C[best] = np.inf
        limit = limit_of(squares_K[-1], slack_N3[n])
        for place in range(count):
            if finer_C[place] <= limit and finer_C[place] < _FINITE:
                consider(queries_ND, n, bank_MD, rows_C[place], squares_K, rows_K)
                limit = limit_of(squares_K[-1], slack_N3[n])
