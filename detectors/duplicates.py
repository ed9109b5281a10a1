"""Finds the images that show a part a second time, from patch features alone: no labels, no part numbers.

A model that has seen a part twice judges it by itself: its left-out scores come out too low, and its threshold with
them.

Shape legend: B images, H x W patch grid, D feature dimensions, F pooled and flattened features, P pairs of images.
"""

import numpy as np
from numpy.typing import NDArray

from detectors.contract import Patches
from detectors.errors import InvalidInput

COARSE = 8
"""Cells a side of the coarse grid in which two images are compared; forgives a shift of a patch or two."""

LEAST_SIMILARITY = 0.6
"""Correlation below which no two images are taken for the same part."""

TAIL = 1.0
"""How far beyond the 0.9 quantile of all pairs (in steps from the median to it) the same part must lie."""

LEAST_KEPT = 1 / 3
"""Share of the images that is always kept, unless they are identical."""

IDENTICAL = 1e-4
"""Squared feature distance, as a share of the mean one, below which two images are the same image."""


def near_duplicates(patches_BHWD: Patches) -> NDArray[np.bool_]:
    """Which images show the same part as an earlier image that is kept, perhaps in another light, `(B,)`.

    Two images are compared position by position: features are pooled to a coarse grid, freed of what the whole image
    shares (its light) and of what all images share at that position (the design of the part), scaled by dimension,
    and correlated. What is left is what makes a part this part. The same part must pass `LEAST_SIMILARITY` and stand
    far out of the pairs of this very set (`similarity_limit`), so that a line whose parts all vary along one
    direction loses none of them. At least `LEAST_KEPT` of the images stay; only identical images always go.

    Measured by `tile_id` with EfficientNet-Lite0 on random draws of magnetic tiles: of 150 images in exposures 1 and 2
    precision .97, recall .99; of 60 and 100 in 5 and 6 .92 and .97, recall 1.0 (`tile_id` itself parts a few tiles that are
    plainly one); across exposures 1 and 6 recall .85. Raises InvalidInput for features that are not finite `(B, H, W, D)`.

    >>> rng = np.random.default_rng(0)
    >>> parts = rng.normal(size=(12, 8, 8, 4)).astype(np.float32)
    >>> near_duplicates(np.concatenate([parts, 1.1 * parts[:2] + 0.3])).nonzero()[0].tolist()
    [12, 13]
    """
    _check(patches_BHWD)
    if len(patches_BHWD) < 2:
        return np.zeros(len(patches_BHWD), dtype=np.bool_)
    pooled_BF = _pooled(patches_BHWD)
    same_BB = _identical(pooled_BF)
    alike_BB = part_similarity(patches_BHWD)
    limit = similarity_limit(alike_BB[np.triu_indices(len(alike_BB), 1)])
    return _later_ones(same_BB, np.where(alike_BB > limit, alike_BB, 0.0))


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


def _later_ones(same_BB: NDArray[np.bool_], alike_BB: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The later image of each pair, earlier ones first; `alike_BB` is 0 for pairs that are not."""
    count = len(same_BB)
    again_B = np.zeros(count, dtype=np.bool_)
    likeness_B = np.zeros(count)
    for image in range(1, count):
        earlier = ~again_B[:image]
        if (same_BB[image, :image] & earlier).any():
            again_B[image], likeness_B[image] = True, np.inf
        elif (alike_BB[image, :image] * earlier).any():
            again_B[image], likeness_B[image] = True, (alike_BB[image, :image] * earlier).max()
    return _spare(again_B, likeness_B)


def _spare(again_B: NDArray[np.bool_], likeness_B: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Take the least certain images back where more would go than may."""
    least = int(np.ceil(LEAST_KEPT * len(again_B)))
    missing = least - int((~again_B).sum())
    certain = np.isinf(likeness_B)
    candidates = np.flatnonzero(again_B & ~certain)
    spared = candidates[np.argsort(likeness_B[candidates], kind="stable")][: max(0, missing)]
    again_B[spared] = False
    return again_B
