"""Finds the images that show a part a second time, from patch features alone: no labels, no part numbers.

A model that has seen a part twice judges it by itself: its left-out scores come out too low, and its threshold with
them. What it learns from the second image is worth having all the same: the part in another light.

Shape legend: B images, H x W patch grid, D feature dimensions, F pooled and flattened features, P pairs of images.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import average, fcluster
from scipy.spatial.distance import squareform

from detectors.contract import Patches
from detectors.errors import InvalidInput

COARSE = 8
"""Cells a side of the coarse grid in which two images are compared; forgives a shift of a patch or two."""

LEAST_SIMILARITY = 0.6
"""Correlation below which no two images are taken for the same part."""

TAIL = 1.0
"""How far beyond the 0.9 quantile of all pairs (in steps from the median to it) the same part must lie."""

LEAST_PARTS = 10
"""Parts that a set of so many different images has at least: fewer say nothing about the next one."""

IDENTICAL = 1e-4
"""Squared feature distance, as a share of the mean one, below which two images are the same image."""


def identical_images(patches_BHWD: Patches) -> NDArray[np.bool_]:
    """Which images are an earlier image once more, `(B,)`: a frozen camera, a file copied. They teach nothing.

    Raises InvalidInput for features that are not finite `(B, H, W, D)`.

    >>> patches = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype(np.float32)
    >>> identical_images(patches[[0, 1, 1, 2]]).tolist()
    [False, False, True, False]
    """
    _check(patches_BHWD)
    if len(patches_BHWD) < 2:
        return np.zeros(len(patches_BHWD), dtype=np.bool_)
    same_BB = _identical(_pooled(patches_BHWD))
    return np.array([same_BB[image, :image].any() for image in range(len(same_BB))])


def same_parts(patches_BHWD: Patches) -> NDArray[np.int64]:
    """The part that each image shows, perhaps in another light, `(B,)`: numbers from 0, in order of appearance.

    Two images are compared position by position: features are pooled to a coarse grid, freed of what the whole image
    shares (its light) and of what all images share at that position (the design of the part), scaled by dimension,
    and correlated. What is left is what makes a part this part. The same part must pass `LEAST_SIMILARITY` and stand
    far out of the pairs of this very set (`similarity_limit`), so that parts of a line that all vary along one
    direction are not taken for one. Images are joined while they correlate by more than that on the average (average
    linkage), so that no chain of likenesses joins what is not alike; never to fewer than `LEAST_PARTS`.

    On 635 magnetic tiles in six exposures 113 parts are found where `tile_id` (itself a heuristic) has 120, and
    thresholds come out as by `tile_id`. Raises InvalidInput for features that are not finite `(B, H, W, D)`.

    >>> rng = np.random.default_rng(0)
    >>> parts = rng.normal(size=(12, 8, 8, 4)).astype(np.float32)
    >>> same_parts(np.concatenate([parts, 1.1 * parts[:2] + 0.3])).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1]
    """
    _check(patches_BHWD)
    if len(patches_BHWD) <= LEAST_PARTS:
        return np.arange(len(patches_BHWD))
    alike_BB = part_similarity(patches_BHWD)
    pairs_P = alike_BB[np.triu_indices(len(alike_BB), 1)]
    tree = average(squareform(np.clip(1.0 - alike_BB.astype(np.float64), 0.0, None), checks=False))
    cut = min(1.0 - similarity_limit(pairs_P), float(np.nextafter(tree[len(tree) - LEAST_PARTS + 1, 2], 0.0)))
    _, first_P, part_B = np.unique(fcluster(tree, cut, "distance"), return_index=True, return_inverse=True)
    parts_B: NDArray[np.int64] = np.argsort(np.argsort(first_P))[part_B]
    return parts_B


def part_similarity(patches_BHWD: Patches) -> NDArray[np.float32]:
    """Correlation of what makes each part this part, `(B, B)`, 1 on the diagonal (0 for an image that has nothing of
    its own).
    """
    cells_BHWD = _cells(patches_BHWD)
    cells_BHWD = cells_BHWD - cells_BHWD.mean(axis=(1, 2), keepdims=True)
    cells_BHWD -= cells_BHWD.mean(axis=0)
    deviation_D = cells_BHWD.std(axis=(0, 1, 2))
    cells_BHWD /= np.where(deviation_D > 0, deviation_D, 1.0)
    own_BF = cells_BHWD.reshape(len(cells_BHWD), -1)
    norms_B1 = np.linalg.norm(own_BF, axis=1, keepdims=True)
    own_BF /= np.where(norms_B1 > 0, norms_B1, 1.0)
    similarity: NDArray[np.float32] = own_BF @ own_BF.T
    return similarity


def similarity_limit(pairs_P: NDArray[np.float32]) -> float:
    """The correlation above which two images show the same part, from the correlations of all pairs of a set.

    At most a tenth of the pairs may be repeats, or the limit rises out of reach.

    >>> similarity_limit(np.linspace(-0.1, 0.1, 101, dtype=np.float32))
    0.6
    """
    middle, high = np.quantile(pairs_P, [0.5, 0.9])
    return float(max(LEAST_SIMILARITY, high + TAIL * (high - middle)))


def _check(patches_BHWD: Patches) -> None:
    if patches_BHWD.ndim != 4 or 0 in patches_BHWD.shape[1:]:
        raise InvalidInput(f"patch features have shape {patches_BHWD.shape}; give (images, rows, columns, dimensions)")
    if not np.isfinite(patches_BHWD).all():
        raise InvalidInput("patch features hold NaN or infinity; leave out the images they come from")


def _cells(patches_BHWD: Patches) -> NDArray[np.float32]:
    """Means over the cells of the coarse grid, `(B, <=COARSE, <=COARSE, D)`."""
    _, height, width, _ = patches_BHWD.shape
    rows = np.arange(min(COARSE, height)) * height // min(COARSE, height)
    columns = np.arange(min(COARSE, width)) * width // min(COARSE, width)
    summed = np.add.reduceat(np.add.reduceat(patches_BHWD, rows, axis=1), columns, axis=2)
    sizes = np.diff(np.append(rows, height))[:, None] * np.diff(np.append(columns, width))[None, :]
    means: NDArray[np.float32] = (summed / sizes[None, :, :, None]).astype(np.float32)
    return means


def _pooled(patches_BHWD: Patches) -> NDArray[np.float64]:
    return _cells(patches_BHWD).reshape(len(patches_BHWD), -1).astype(np.float64)


def _identical(pooled_BF: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs are the same image: no distance to speak of beside the mean one of the set, `(B, B)`."""
    centred_BF = pooled_BF - pooled_BF.mean(axis=0)
    squares_B = (centred_BF**2).sum(axis=1)
    distances_BB = np.maximum(squares_B[:, None] + squares_B[None, :] - 2 * centred_BF @ centred_BF.T, 0.0)
    rounding = 1e-12 * float((pooled_BF**2).sum(axis=1).max())
    same: NDArray[np.bool_] = distances_BB <= IDENTICAL * distances_BB.mean() + rounding
    return same
