"""A model: extractor, detector, threshold and drift reference together, what scores an image and what an artefact
stores.

Light of torch: the extractor is a protocol here, `detectors.features` has the real one.

Shape legend: B images, H x W patch grid, D feature dimensions; images are height x width x 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from detectors.calibration import (
    LEAST_IMAGES,
    SIGMA,
    bulk_scores,
    image_scores,
    reference_from,
    smoothed,
    threshold_from_blind,
    threshold_from_normals,
)
from detectors.contract import Detector, Neighbour, Patches
from detectors.dfkde import DFKDE
from detectors.duplicates import near_duplicates
from detectors.errors import InvalidInput
from detectors.images import Image, ImageStatistics, require_image, statistics
from detectors.manifest import DriftReference, FeatureSpec, Threshold
from detectors.padim import PaDiM
from detectors.patchcluster import PatchCluster
from detectors.patchcore import PatchCore

NEAR_DUPLICATE = "near_duplicate"
SUSPECT = "suspect"

DETECTORS: Mapping[str, type[PatchCore] | type[PaDiM] | type[DFKDE] | type[PatchCluster]] = MappingProxyType(
    {each.name: each for each in (PatchCore, PaDiM, DFKDE, PatchCluster)}
)
"""Every detector there is, by its name in commands and manifests."""

BLIND = frozenset({PatchCluster.name})
"""Detectors fitted on unsorted images, whose left-out scores hold some of bad parts."""

CALIBRATION_SEED = 0


class Extractor(Protocol):
    """Images to patch features; the real one is `detectors.features.FeatureExtractor`."""

    @property
    def spec(self) -> FeatureSpec:
        """How an image becomes features."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""

    def extract(self, images: Sequence[Image]) -> Patches:
        """Patch features of each image, `patches_BHWD` float32, the same in any batch."""


@dataclass(frozen=True)
class ImageScore:
    """What a model says of one image.

    `peak`: image score, the maximum of `map_HW`; `bulk`: median patch distance before smoothing; `map_HW`: smoothed
    anomaly map on the patch grid; `worst`: (row, column) of the peak; `nearest`: the normal patch nearest to it,
    where the detector keeps any.
    """

    peak: float
    bulk: float
    map_HW: NDArray[np.float32]  # noqa: N815
    worst: tuple[int, int]
    nearest: Neighbour | None
    statistics: ImageStatistics


@dataclass(frozen=True)
class Model:
    """A fitted model. Immutable in use, so threads may share it.

    `training_keys` are the images the detector was fitted on, in the order that `Neighbour.image` and the left-out
    scores count them. `left_out` says why an image gave the bank nothing: `near_duplicate` images were not fitted on
    at all, `suspect` ones were and are among `training_keys`.
    """

    extractor: Extractor
    detector: Detector
    threshold: Threshold
    reference: DriftReference
    training_keys: tuple[str, ...]
    left_out: Mapping[str, str]

    def score(self, images: Sequence[Image]) -> list[ImageScore]:
        """Score images, each as if it were alone: a batch gives the same scores as its images one by one."""
        return [self._score_one(image) for image in images]

    def left_out_scores(self) -> NDArray[np.float64]:
        """Peak of each training image with its own patches left out of the bank, `(B,)`; on a model just fitted
        only.
        """
        return image_scores(self.detector.left_out_maps(), sigma=SIGMA)

    def _score_one(self, image: Image) -> ImageScore:
        patches_1HWD = self.extractor.extract([image])
        maps_1HW = self.detector.anomaly_maps(patches_1HWD)
        map_HW = smoothed(maps_1HW, sigma=SIGMA)[0]
        row, column = (int(each) for each in np.unravel_index(int(map_HW.argmax()), map_HW.shape))
        return ImageScore(
            peak=float(map_HW[row, column]),
            bulk=float(bulk_scores(maps_1HW)[0]),
            map_HW=map_HW,
            worst=(row, column),
            nearest=self.detector.nearest(patches_1HWD[0], row, column),
            statistics=statistics(image),
        )


def detector_from(name: str, *, bank: int, seed: int) -> Detector:
    """A detector not yet fitted. `bank`: rows of the memory bank, where the detector has one (PaDiM and DFKDE have none).

    Raises InvalidInput for a name nobody knows and for a bank below 1.

    >>> detector_from("patchcluster", bank=100, seed=0).name
    'patchcluster'
    """
    if name not in DETECTORS:
        raise InvalidInput(f"detector {name!r} is not known; use {' or '.join(DETECTORS)}")
    if bank < 1:
        raise InvalidInput(f"a bank of {bank} rows; give 1 or more")
    kind = DETECTORS[name]
    return kind(seed=seed) if issubclass(kind, PaDiM | DFKDE) else kind(bank=bank, seed=seed)


def fit_model(
    images: Sequence[Image],
    keys: Sequence[str],
    *,
    extractor: Extractor,
    detector: Detector,
    false_alarm_rate: float,
) -> Model:
    """Fit a model: features, near-duplicates left out, detector, threshold and drift reference from left-out maps.

    `keys` name the images, one each, all different. Raises InvalidInput where they do not, and where fewer than
    `calibration.LEAST_IMAGES` different images are left.
    """
    if len(images) != len(keys) or len(set(keys)) != len(keys):
        raise InvalidInput(
            f"{len(images)} images, {len(keys)} keys, {len(set(keys))} of them different; name each image once"
        )
    _check_count(len(images), len(images))
    patches_BHWD = extractor.extract(images)
    again_B = near_duplicates(patches_BHWD)
    kept = np.flatnonzero(~again_B).tolist()
    _check_count(len(kept), len(images))
    detector = detector.fit(patches_BHWD[kept])
    suspects_B = detector.suspects()
    training_keys = tuple(keys[i] for i in kept)
    left_out = {keys[i]: NEAR_DUPLICATE for i in np.flatnonzero(again_B).tolist()}
    left_out |= {training_keys[i]: SUSPECT for i in np.flatnonzero(suspects_B).tolist()}
    return Model(
        extractor=extractor,
        detector=detector,
        threshold=_threshold(detector, false_alarm_rate),
        reference=reference_from(
            detector.left_out_maps(), [statistics(images[i]) for i in kept], suspects_B, sigma=SIGMA
        ),
        training_keys=training_keys,
        left_out=left_out,
    )


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


def _check_count(different: int, given: int) -> None:
    if different < LEAST_IMAGES:
        raise InvalidInput(
            f"{different} different images among {given}, a model needs {LEAST_IMAGES}; give more images"
        )


def _threshold(detector: Detector, false_alarm_rate: float) -> Threshold:
    scores_B = image_scores(detector.left_out_maps(), sigma=SIGMA)
    if detector.name in BLIND:
        return threshold_from_blind(
            scores_B, detector.suspects(), false_alarm_rate=false_alarm_rate, seed=CALIBRATION_SEED
        )
    return threshold_from_normals(scores_B, false_alarm_rate=false_alarm_rate, seed=CALIBRATION_SEED)


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
