"""The drift reference: what a line looks like to its own model while nothing has drifted.

Shape legend: B images, H x W patch grid.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detectors.contract import Maps
from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from detectors.maps import SIGMA, bulk_scores, image_scores


class PixelStatistics(Protocol):
    """What `images.statistics` says of an image's pixels, in 0..255."""

    @property
    def mean(self) -> float:
        """Mean grey."""

    @property
    def contrast(self) -> float:
        """Standard deviation of grey."""

    @property
    def sharpness(self) -> float:
        """Standard deviation of the Laplacian of grey."""


def reference_from(
    maps_BHW: Maps,
    statistics: Sequence[PixelStatistics],
    suspects: NDArray[np.bool_],
    *,
    inside_HW: NDArray[np.bool_] | None = None,
    sigma: float = SIGMA,
) -> DriftReference:
    """What the line looks like to its own model: signals of the images of the fit, each left out; suspects do not
    enter.

    Raises InvalidInput where the three differ in length or every image is a suspect.
    """
    if not len(maps_BHW) == len(statistics) == len(suspects):
        raise InvalidInput(
            f"{len(maps_BHW)} maps, {len(statistics)} statistics, {len(suspects)} suspicions; give one of each an image"
        )
    kept = np.flatnonzero(~suspects).tolist()
    if len(kept) == 0:
        raise InvalidInput(f"all {len(suspects)} images are suspects; there is no normal image to refer to")
    return DriftReference(
        peak=tuple(image_scores(maps_BHW, sigma=sigma)[kept].tolist()),
        bulk=tuple(bulk_scores(maps_BHW, inside_HW)[kept].tolist()),
        mean=tuple(float(statistics[i].mean) for i in kept),
        contrast=tuple(float(statistics[i].contrast) for i in kept),
        sharpness=tuple(float(statistics[i].sharpness) for i in kept),
    )
