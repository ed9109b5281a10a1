"""What a blind fit looks at: distances to many numbers of neighbours at once, and who stands out from most.

All of it ranks one batch of images against itself, each image without the patches of its own part.

Shape legend: B images, P patches an image, D feature dimensions, C components, M bank rows, K numbers of neighbours.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.components import principal_components, projected
from detectors.contract import Parts, Patches

COMPONENTS = 96
"""Principal components that a batch is ranked in; the model itself works on whole features."""

_SAMPLED = 20_000

Doubles = NDArray[np.float64]


def reduced(patches_BHWD: Patches, rng: np.random.Generator) -> Patches:
    """The first principal components of every patch, `(B, P, C)`, centred; components from a random sample."""
    points_ND = patches_BHWD.reshape(-1, patches_BHWD.shape[3])
    sample_SD = points_ND[rng.choice(len(points_ND), min(len(points_ND), _SAMPLED), replace=False)]
    return projected(patches_BHWD, *principal_components(sample_SD[None, None], COMPONENTS))


def mean_distances(
    points_BPC: Patches, bank_MC: Patches, parts_B: Parts, givers_M: Parts, counts: Sequence[int]
) -> Patches:
    """Mean distance of every patch to its `counts` nearest bank rows of other parts, `(K, B, P)`, float32.

    `givers_M` is the part each row is from; `counts` ascend. Where fewer rows are left, all of them count.
    """
    images, patches, _ = points_BPC.shape
    bank_CM = _completed(bank_MC, bank=True).T
    means_KBP = np.empty((len(counts), images, patches), np.float32)
    for image, points_PC in enumerate(points_BPC):
        squares_PM = _completed(points_PC, bank=False) @ bank_CM
        squares_PM[:, givers_M == parts_B[image]] = np.inf
        _nearest_means(squares_PM, np.asarray(counts), means_KBP[:, image])
    return means_KBP


def shortest_half(values_B: Doubles) -> tuple[float, float]:
    """Middle and spread of most of the values: of the shortest interval that holds half of them.

    The spread is that of a normal distribution whose middle half is so wide, corrected for small samples. Up to nearly
    half of the values may be anything (Rousseeuw and Leroy 1987, Robust Regression and Outlier Detection, section 4.3).

    >>> shortest_half(np.array([1.0, 2.0, 3.0, 100.0, 200.0]))[0]
    2.0
    """
    ordered_B = np.sort(values_B)
    held = len(ordered_B) // 2 + 1
    widths = ordered_B[held - 1 :] - ordered_B[: len(ordered_B) - held + 1]
    start = int(widths.argmin())
    middle = float(ordered_B[start] + ordered_B[start + held - 1]) / 2
    return middle, float(widths[start]) / 2 / 0.6745 * (1 + 5 / max(len(ordered_B) - 1, 1))


def _completed(points_NC: Patches, *, bank: bool) -> Patches:
    """Points with two columns more, so that the product of a point and a bank row is their squared distance: `x'x - 2 x'y + y'y`.

    >>> float((_completed(np.float32([[1, 2]]), bank=False) @ _completed(np.float32([[4, 6]]), bank=True).T)[0, 0])
    25.0
    """
    squares_N1 = np.einsum("nc,nc->n", points_NC, points_NC)[:, None]
    ones_N1 = np.ones_like(squares_N1)
    columns = (points_NC, ones_N1, squares_N1) if bank else (-2 * points_NC, squares_N1, ones_N1)
    return np.concatenate(columns, axis=1)


@njit(cache=True, nogil=True)
def _nearest_means(squares_PM: NDArray[np.float32], counts_K: NDArray[np.int64], means_KP: NDArray[np.float32]) -> None:
    """Means of the roots of the smallest squares of each row, by insertion into a short sorted list (in place)."""
    most = counts_K[-1]
    smallest = np.empty(most, np.float32)
    for patch in range(squares_PM.shape[0]):
        smallest[:] = np.inf
        limit = np.float32(np.inf)
        for row in range(squares_PM.shape[1]):
            square = squares_PM[patch, row]
            if square < limit:
                place = most - 1
                while place > 0 and smallest[place - 1] > square:
                    smallest[place] = smallest[place - 1]
                    place -= 1
                smallest[place] = square
                limit = smallest[most - 1]
        total = 0.0
        found = 0
        for each in range(len(counts_K)):
            while found < counts_K[each] and smallest[found] < np.inf:
                total += np.sqrt(max(smallest[found], np.float32(0)))
                found += 1
            means_KP[each, patch] = total / max(found, 1)
