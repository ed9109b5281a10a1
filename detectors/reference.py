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
from detectors.maps import SIGMA, bulk_scores, over_scores, region_scores, smoothed


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

    @property
    def warmth(self) -> float:
        """Mean red less mean blue."""

    @property
    def tint(self) -> float:
        """Mean green less the mean of red and blue."""

    @property
    def saturated(self) -> float:
        """Share of pixels at either end of the range."""

    @property
    def noise(self) -> float:
        """Standard deviation of the noise."""


def reference_from(
    maps_BHW: Maps,
    statistics: Sequence[PixelStatistics],
    suspects: NDArray[np.bool_],
    *,
    pixel_threshold: float,
    inside_HW: NDArray[np.bool_] | None = None,
    sigma: float = SIGMA,
) -> DriftReference:
    """What the line looks like to its own model: signals of the images of the fit, each left out; suspects do not
    enter. `pixel_threshold`: what a patch must exceed to count as `over`.

    Raises InvalidInput where the three differ in length or every image is a suspect.
    """
    if not len(maps_BHW) == len(statistics) == len(suspects):
        raise InvalidInput(
            f"{len(maps_BHW)} maps, {len(statistics)} statistics, {len(suspects)} suspicions; give one of each an image"
        )
    kept = np.flatnonzero(~suspects).tolist()
    if len(kept) == 0:
        raise InvalidInput(f"all {len(suspects)} images are suspects; there is no normal image to refer to")
    maps_BHW, seen = maps_BHW[kept], [statistics[i] for i in kept]
    smoothed_BHW = smoothed(maps_BHW, sigma=sigma)
    return DriftReference(
        peak=tuple(smoothed_BHW.max(axis=(1, 2)).astype(np.float64).tolist()),
        bulk=tuple(bulk_scores(maps_BHW, inside_HW).tolist()),
        mean=tuple(float(each.mean) for each in seen),
        contrast=tuple(float(each.contrast) for each in seen),
        sharpness=tuple(float(each.sharpness) for each in seen),
        warmth=tuple(float(each.warmth) for each in seen),
        tint=tuple(float(each.tint) for each in seen),
        saturated=tuple(float(each.saturated) for each in seen),
        noise=tuple(float(each.noise) for each in seen),
        over=tuple(over_scores(smoothed_BHW, pixel_threshold, inside_HW).tolist()),
        regions=tuple(map(tuple, region_scores(maps_BHW, inside_HW).tolist())),
    )
