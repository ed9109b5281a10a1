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
    distances_BN = maps_BHW.reshape(len(maps_BHW), -1) if inside_HW is None else maps_BHW[:, inside_HW]
    return np.median(distances_BN, axis=1).astype(np.float64)


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
