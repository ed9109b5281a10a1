"""A model: extractor, detector, threshold and drift reference together, what scores an image and what an artefact
stores. `detectors.fitting` makes one.

Light of torch: the extractor is a protocol here, `detectors.features` has the real one.

Shape legend: B images, H x W patch grid, D feature dimensions; images are height x width x 3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from detectors.contract import Detector, Neighbour, Patches
from detectors.dfkde import DFKDE
from detectors.errors import InvalidInput
from detectors.images import Image, ImageStatistics, require_image, statistics
from detectors.manifest import DriftReference, FeatureSpec, Threshold
from detectors.maps import SIGMA, bulk_scores, counted, image_scores, over_scores, region_scores, smoothed
from detectors.padim import PaDiM
from detectors.patchcluster import PatchCluster
from detectors.patchcore import PatchCore
from detectors.preprocessing import Preparation

DETECTORS: Mapping[str, type[PatchCore] | type[PaDiM] | type[DFKDE] | type[PatchCluster]] = MappingProxyType(
    {each.name: each for each in (PatchCore, PaDiM, DFKDE, PatchCluster)}
)
"""Every detector there is, by its name in commands and manifests."""

BLIND = frozenset({PatchCluster.name})
"""Detectors fitted on unsorted images, whose left-out scores hold some of bad parts."""


class Extractor(Protocol):
    """Images to patch features; the real one is `detectors.features.FeatureExtractor`."""

    @property
    def spec(self) -> FeatureSpec:
        """How an image becomes features."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""

    @property
    def quantised(self) -> bytes | None:
        """The 8-bit network that an artefact must bring along, where the runtime has one."""

    def extract(self, images: Sequence[Image]) -> Patches:
        """Patch features of each image, `patches_BHWD` float32, the same in any batch."""


@dataclass(frozen=True)
class ImageScore:
    """What a model says of one image.

    `peak`: image score, the maximum of `map_HW`; `bulk`: median patch distance before smoothing; `map_HW`: smoothed
    anomaly map on a patch grid over the whole image (0 outside crop and mask); `worst`: (row, column) of the peak;
    `nearest`: the normal patch nearest to it, where the detector keeps any; `regions`: bulk of the fields of the image
    (`maps.region_scores`); `over`: share of patches above the pixel threshold, where the model has one.
    """

    peak: float
    bulk: float
    map_HW: NDArray[np.float32]  # noqa: N815
    worst: tuple[int, int]
    nearest: Neighbour | None
    statistics: ImageStatistics
    regions: tuple[float, ...]
    over: float | None


@dataclass(frozen=True)
class Model:
    """A fitted model. Immutable in use, so threads may share it.

    `training_keys` are the images the detector learnt from, in the order that `Neighbour.image` and the left-out
    scores count them (images that only updated it come last and have no such score). `left_out` says why an image gave
    the bank nothing: `identical` and `memory` images were not fitted on at all, `suspect` ones were and are among
    `training_keys`. `notes` is what the fit has to say to people; `pixel_threshold` is for values of `map_HW`, with the
    rate of patches; `intruders` as `screening.intruders` gives them, none after a blind fit; `sigma`: what its maps are
    smoothed by, in patches.
    """

    extractor: Extractor
    detector: Detector
    threshold: Threshold
    reference: DriftReference
    training_keys: tuple[str, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()
    pixel_threshold: Threshold | None = None
    intruders: Mapping[str, float] = field(default_factory=dict)
    sigma: float = SIGMA

    def score(self, images: Sequence[Image]) -> list[ImageScore]:
        """Score images, each as if it were alone: a batch gives the same scores as its images one by one."""
        return [self.score_patches(image, self.patches(image)) for image in images]

    def patches(self, image: Image) -> Patches:
        """The features of one image, `patches_1HWD`: good for every model of an equal `extractor.spec`."""
        return self.extractor.extract([image])

    def left_out_scores(self) -> NDArray[np.float64]:
        """Peak of each training image by a model without its part, `(B,)`; on a model just fitted only."""
        maps_BHW = counted(self.detector.left_out_maps(), self._preparation.inside)
        return image_scores(maps_BHW, sigma=self.sigma)

    def _over(self, map_HW: NDArray[np.float32]) -> float | None:
        if self.pixel_threshold is None:
            return None
        return float(over_scores(map_HW[None], self.pixel_threshold.value, self._preparation.inside)[0])

    @cached_property
    def _preparation(self) -> Preparation:
        return Preparation(self.extractor.spec.prepare, self.extractor.spec.image_size)

    def score_patches(self, image: Image, patches_1HWD: Patches) -> ImageScore:
        """The score of an image whose `patches` are known: the same as `score` gives."""
        maps_1HW = counted(self.detector.anomaly_maps(patches_1HWD), self._preparation.inside)
        map_HW = smoothed(maps_1HW, sigma=self.sigma)[0]
        row, column = (int(each) for each in np.unravel_index(int(map_HW.argmax()), map_HW.shape))
        nearest = self.detector.nearest(patches_1HWD[0], row, column)
        frame, inside_HW = self._preparation.frame, self._preparation.inside
        return ImageScore(
            peak=float(map_HW[row, column]),
            bulk=float(bulk_scores(maps_1HW, inside_HW)[0]),
            map_HW=frame.around(map_HW),
            worst=(row + frame.top, column + frame.left),
            nearest=nearest and replace(nearest, row=nearest.row + frame.top, column=nearest.column + frame.left),
            statistics=statistics(image),
            regions=tuple(region_scores(maps_1HW, inside_HW)[0].tolist()),
            over=self._over(map_HW),
        )


def detector_from(name: str, *, bank: int, seed: int, progress: Callable[[int, int], None] | None = None) -> Detector:
    """A detector not yet fitted. `bank`: rows of the memory bank, where the detector has one (PaDiM and DFKDE have
    none); `progress` is told picks done and to do while a coreset is made.

    Raises InvalidInput for a name nobody knows and for a bank below 1.

    >>> detector_from("patchcluster", bank=100, seed=0).name
    'patchcluster'
    """
    if name not in DETECTORS:
        raise InvalidInput(f"detector {name!r} is not known; use {' or '.join(DETECTORS)}")
    if bank < 1:
        raise InvalidInput(f"a bank of {bank} rows; give 1 or more")
    kind = DETECTORS[name]
    if issubclass(kind, PaDiM | DFKDE):
        return kind(seed=seed)
    if issubclass(kind, PatchCore):
        return kind(bank=bank, seed=seed, progress=progress)
    return kind(bank=bank, seed=seed)


def heatmap(image: Image, map_HW: NDArray[np.float32], threshold: float) -> Image:
    """The image with its anomaly map over it, for people to look at: `image_HWC`, the size of `image`.

    The image is dimmed to grey; the map, smoothly enlarged, glows through it: a faint warmth near the threshold, red
    to yellow above it. A bright line runs where the map crosses the threshold. Raises InvalidInput for an empty or
    non-finite map.

    >>> grey = np.full((32, 48, 3), 120, dtype=np.uint8)
    >>> heatmap(grey, np.ones((4, 6), dtype=np.float32), threshold=2.0).shape
    (32, 48, 3)
    """
    require_image(image)
    if map_HW.ndim != 2 or map_HW.size == 0 or not np.isfinite(map_HW).all():
        raise InvalidInput(f"anomaly map of shape {map_HW.shape}; give a finite map of rows and columns")
    if not (np.isfinite(threshold) and threshold > 0):
        raise InvalidInput(f"threshold {threshold}; give a score above 0")
    height, width, _ = image.shape
    large = Picture.fromarray(map_HW.astype(np.float32)).resize((width, height), Picture.Resampling.BICUBIC)
    excess_HW = np.asarray(large, dtype=np.float32) / np.float32(threshold)
    grey_HW = np.asarray(Picture.fromarray(image).convert("L"), dtype=np.float32)
    opacity_HW1 = np.clip((excess_HW - 0.85) / 0.3, 0.0, 1.0)[..., None] * 0.65
    mixed = (1 - opacity_HW1) * (0.75 * grey_HW)[..., None] + opacity_HW1 * _glow(excess_HW)
    mixed[_edge(excess_HW > 1.0)] = (255, 244, 214)
    result: Image = np.clip(np.round(mixed), 0, 255).astype(np.uint8)
    return result


def _glow(excess_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colour of a map value as a multiple of the threshold: dark violet below, red at it, orange to yellow above,
    `(H, W, 3)`.
    """
    stops = np.array([0.85, 1.0, 1.15, 1.4, 1.8])
    colours = np.array([(60, 10, 80), (200, 20, 60), (250, 80, 20), (255, 170, 0), (255, 245, 120)])
    channels = [np.interp(excess_HW, stops, colours[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _edge(inside_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels inside that touch one outside."""
    core_HW = inside_HW.copy()
    core_HW[1:] &= inside_HW[:-1]
    core_HW[:-1] &= inside_HW[1:]
    core_HW[:, 1:] &= inside_HW[:, :-1]
    core_HW[:, :-1] &= inside_HW[:, 1:]
    edge: NDArray[np.bool_] = inside_HW & ~core_HW
    return edge
