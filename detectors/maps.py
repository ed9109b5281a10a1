"""From anomaly maps to image scores: smoothing, peak and bulk. Light: numpy and scipy only.

Shape legend: B images, H x W patch grid.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from detectors.contract import Maps
from detectors.errors import InvalidInput

SIGMA = 1.0
"""Standard deviation, in patches, of the Gaussian that smooths a map before its maximum is taken. PatchCore's 4 px are
half a patch. One patch, the reach of the locally aware neighbourhood, ranked cookies better (image AUROC 1.000 against
.982) and magnetic tiles as well (.847 and .856): `docs/detectors.md`."""

REGIONS = 4
"""Fields along each side of an image, in which its bulk is told apart: the place of a change to a quarter of the side."""

Scores = NDArray[np.float64]
"""One score an image, `(B,)`."""


def smoothed(maps_BHW: Maps, *, sigma: float = SIGMA) -> Maps:
    """Maps smoothed one by one by a Gaussian of `sigma` patches, `maps_BHW`; borders repeat their edge.

    Raises InvalidInput for maps that are not finite `(B, H, W)` or a negative sigma.

    >>> smoothed(np.ones((1, 4, 4), dtype=np.float32)).round(6).max()
    np.float32(1.0)
    """
    check_maps(maps_BHW)
    if not (np.isfinite(sigma) and sigma >= 0):
        raise InvalidInput(f"sigma {sigma} patches; give 0 or more")
    result: Maps = gaussian_filter(maps_BHW.astype(np.float32), sigma=(0.0, sigma, sigma), mode="nearest")
    return result


def image_scores(maps_BHW: Maps, *, sigma: float = SIGMA) -> Scores:
    """Peak of each image: the maximum of its smoothed map, `(B,)`. Raises what `smoothed` does.

    >>> image_scores(np.full((2, 4, 4), 3.0, dtype=np.float32), sigma=1.0).round(5).tolist()
    [3.0, 3.0]
    """
    scores: Scores = smoothed(maps_BHW, sigma=sigma).max(axis=(1, 2)).astype(np.float64)
    return scores


def bulk_scores(maps_BHW: Maps, inside_HW: NDArray[np.bool_] | None = None) -> Scores:
    """Bulk of each image: the median of its patch distances (`inside_HW`: of those patches), `(B,)`. It moves when the
    line changes, not when a part is bad.
    """
    check_maps(maps_BHW)
    return np.median(_patches(maps_BHW, inside_HW), axis=1).astype(np.float64)


def region_scores(maps_BHW: Maps, inside_HW: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Bulk of each of `REGIONS` x `REGIONS` fields of each image, `(B, REGIONS**2)`, row by row: where a change of the line is.

    A field without a patch that counts scores 0.

    >>> region_scores(np.arange(64, dtype=np.float32).reshape(1, 8, 8))[0, :4].tolist()
    [4.5, 6.5, 8.5, 10.5]
    """
    check_maps(maps_BHW)
    rows, columns = (_fields(side) for side in maps_BHW.shape[1:])
    scores = []
    for row in rows:
        for column in columns:
            inside = None if inside_HW is None else inside_HW[row, column]
            distances_BN = _patches(maps_BHW[:, row, column], inside)
            scores.append(np.median(distances_BN, axis=1) if distances_BN.size else np.zeros(len(maps_BHW)))
    return np.stack(scores, axis=1).astype(np.float64)


def _fields(side: int) -> list[slice]:
    starts = [field * side // REGIONS for field in range(REGIONS)]
    return [slice(start, max(start + 1, (field + 1) * side // REGIONS)) for field, start in enumerate(starts)]


def over_scores(smoothed_BHW: Maps, pixel_threshold: float, inside_HW: NDArray[np.bool_] | None = None) -> Scores:
    """Share of the patches of each image (`inside_HW`: of those) whose smoothed score is above `pixel_threshold`, `(B,)`.

    >>> over_scores(np.array([[[0.0, 1.0]]], np.float32), 0.5).tolist()
    [0.5]
    """
    shares_B: Scores = (_patches(smoothed_BHW, inside_HW) > pixel_threshold).mean(axis=1)
    return shares_B


def _patches(maps_BHW: Maps, inside_HW: NDArray[np.bool_] | None) -> Maps:
    """The patches of each map in one row, of those inside where some do not count, `(B, N)`."""
    return maps_BHW.reshape(len(maps_BHW), -1) if inside_HW is None else maps_BHW[:, inside_HW]


def counted(maps_BHW: Maps, inside_HW: NDArray[np.bool_]) -> Maps:
    """The maps with 0 where a patch does not count.

    >>> counted(np.ones((1, 1, 2), np.float32), np.array([[True, False]])).tolist()
    [[[1.0, 0.0]]]
    """
    return np.where(inside_HW, maps_BHW, np.float32(0))


def check_maps(maps_BHW: Maps) -> None:
    """Raises InvalidInput for maps that are not finite `(B, H, W)`."""
    if maps_BHW.ndim != 3 or 0 in maps_BHW.shape[1:]:
        raise InvalidInput(f"anomaly maps have shape {maps_BHW.shape}; give (images, rows, columns)")
    if not np.isfinite(maps_BHW).all():
        raise InvalidInput("anomaly maps hold NaN or infinity; leave out the images they come from")
