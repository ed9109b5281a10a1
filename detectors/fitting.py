"""From images to a model: features, detector, thresholds and drift reference, parts seen twice taken into account.

Images are looked at one by one and once, so a sequence may decode them as it is asked; features are held within a
budget of memory.

Shape legend: B images, H x W patch grid, D feature dimensions.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import (
    LEAST_IMAGES,
    pixel_threshold,
    threshold_from_blind,
    threshold_from_normals,
)
from detectors.contract import Detector, Parts, Patches
from detectors.dfkde import DFKDE
from detectors.duplicates import identical_images, same_parts
from detectors.errors import InvalidInput
from detectors.images import Image, ImageStatistics, statistics
from detectors.manifest import Threshold
from detectors.maps import SIGMA, Scores, counted, smoothed
from detectors.model import BLIND, Extractor, Model
from detectors.padim import PaDiM
from detectors.preprocessing import Preparation
from detectors.reference import reference_from
from detectors.screening import intruders

IDENTICAL = "identical"
SUSPECT = "suspect"
MEMORY = "memory"

CALIBRATION_SEED = 0

FEATURES_HELD = 3.0
"""Bytes a fit takes at most for each byte of features: the features, a centred copy in the coreset, and what searches
and sorts need beside them. Measured by `tests/detectors/test_fitting.py`."""

FIXED_BYTES = 300 * 2**20
"""What a fit takes beside that: kernels compiled, one image on its way through the backbone, the bank and its index."""

_TOGETHER = 16

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


def unwatched(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody looks at."""


def fit_model(
    images: Sequence[Image],
    keys: Sequence[str],
    *,
    extractor: Extractor,
    detector: Detector,
    false_alarm_rate: float,
    memory: int | None = None,
    told: Progress = unwatched,
    notes: tuple[str, ...] = (),
    vouched: frozenset[str] = frozenset(),
) -> Model:
    """Fit a model of images; `keys` name them, one each, all different. `notes` go to the manifest as they are; `vouched`: keys of
    images that people called normal (`Detector.fit`).

    `memory`: bytes the fit may take beside what the process has already. Where the features of all images would take
    more, a random share of the images is fitted on, drawn with a fixed seed; PaDiM learns from the others few by few,
    other detectors leave them out (`MEMORY`). Raises InvalidInput where keys and images disagree, where fewer than
    `calibration.LEAST_IMAGES` different images are left, and for a budget that does not hold them.
    """
    if len(images) != len(keys) or len(set(keys)) != len(keys):
        raise InvalidInput(
            f"{len(images)} images, {len(keys)} keys, {len(set(keys))} of them different; name each image once"
        )
    _check_count(len(images), len(images))
    chosen = _affordable(images, extractor, detector, memory)
    patches_BHWD, seen = _features(images, chosen, extractor, told)
    again_B = identical_images(patches_BHWD)
    kept = np.flatnonzero(~again_B).tolist()
    _check_count(len(kept), len(images))
    told("fit", 0, 1)
    patches_BHWD = _compacted(patches_BHWD, kept)
    parts_B = same_parts(patches_BHWD)
    training_keys = [keys[chosen[i]] for i in kept]
    detector = detector.fit(patches_BHWD, parts_B, np.array([key in vouched for key in training_keys]))
    suspects_B = detector.suspects()
    told("fit", 1, 1)
    left_out = {keys[chosen[i]]: IDENTICAL for i in np.flatnonzero(again_B).tolist()}
    left_out |= {training_keys[i]: SUSPECT for i in np.flatnonzero(suspects_B).tolist()}
    rest = sorted(set(range(len(images))) - set(chosen))
    if isinstance(detector, PaDiM):
        _learn_few_by_few(detector, images, rest, extractor, told)
        training_keys += [keys[i] for i in rest]
    else:
        left_out |= {keys[i]: MEMORY for i in rest}
    inside_HW = Preparation(extractor.spec.prepare, extractor.spec.image_size).inside
    maps_BHW = counted(detector.left_out_maps(), inside_HW)
    smoothed_BHW, blind, seed = smoothed(maps_BHW, sigma=SIGMA), detector.name in BLIND, CALIBRATION_SEED
    scores_B = smoothed_BHW.max(axis=(1, 2)).astype(np.float64)
    of_patches = pixel_threshold(
        smoothed_BHW,
        suspects_B,
        false_alarm_rate=false_alarm_rate,
        seed=seed,
        inside_HW=inside_HW,
        parts_B=parts_B,
    )
    return Model(
        extractor=extractor,
        detector=detector,
        threshold=_threshold(scores_B, suspects_B if blind else None, parts_B, false_alarm_rate),
        reference=reference_from(
            maps_BHW,
            [seen[i] for i in kept],
            suspects_B,
            pixel_threshold=of_patches.value,
            inside_HW=inside_HW,
            sigma=SIGMA,
        ),
        training_keys=tuple(training_keys),
        left_out=left_out,
        notes=notes,
        pixel_threshold=of_patches,
        intruders={} if blind else intruders(scores_B, training_keys, seed=seed, parts_B=parts_B),
    )


def _affordable(images: Sequence[Image], extractor: Extractor, detector: Detector, memory: int | None) -> list[int]:
    """Which images' features the budget holds: all, or a random part, in order."""
    if memory is None:
        return list(range(len(images)))
    height, width = extractor.grid
    dimensions = extractor.extract([images[0]]).shape[-1]
    each = height * width * dimensions * 4 * FEATURES_HELD
    fixed = FIXED_BYTES
    if isinstance(detector, PaDiM):
        fixed += PaDiM.memory_bytes((height, width), images=0)
    if isinstance(detector, DFKDE):
        fixed += DFKDE.memory_bytes((height, width), images=200)
    most = int((memory - fixed) / each)
    if most < LEAST_IMAGES:
        needed = int(fixed + each * LEAST_IMAGES) + 1
        raise InvalidInput(f"memory of {memory} bytes, this fit needs at least {needed}; allow that much")
    if most >= len(images):
        return list(range(len(images)))
    rng = np.random.default_rng(CALIBRATION_SEED)
    return sorted(rng.choice(len(images), most, replace=False).tolist())


def _features(
    images: Sequence[Image], chosen: Sequence[int], extractor: Extractor, told: Progress
) -> tuple[Patches, list[ImageStatistics]]:
    """Features of the chosen images, `patches_BHWD`, and what their pixels are like."""
    patches_BHWD: Patches | None = None
    seen = []
    for number, index in enumerate(chosen):
        told("features", number, len(chosen))
        image = images[index]
        patches_1HWD = extractor.extract([image])
        if patches_BHWD is None:
            patches_BHWD = np.empty((len(chosen), *patches_1HWD.shape[1:]), np.float32)
        patches_BHWD[number] = patches_1HWD[0]
        seen.append(statistics(image))
    told("features", len(chosen), len(chosen))
    if patches_BHWD is None:
        raise InvalidInput("no images to fit on; give some")
    return patches_BHWD, seen


def _compacted(patches_BHWD: Patches, kept: Sequence[int]) -> Patches:
    """The kept images moved to the front, in place: a copy would double the memory."""
    for new, old in enumerate(kept):
        if new != old:
            patches_BHWD[new] = patches_BHWD[old]
    return patches_BHWD[: len(kept)]


def _learn_few_by_few(
    detector: PaDiM, images: Sequence[Image], rest: Sequence[int], extractor: Extractor, told: Progress
) -> None:
    for start in range(0, len(rest), _TOGETHER):
        told("update", start, len(rest))
        detector.update(extractor.extract([images[index] for index in rest[start : start + _TOGETHER]]))


def _check_count(different: int, given: int) -> None:
    if different < LEAST_IMAGES:
        raise InvalidInput(
            f"{different} different images among {given}, a model needs {LEAST_IMAGES}; give more images"
        )


def _threshold(
    scores_B: Scores, suspects_B: NDArray[np.bool_] | None, parts_B: Parts, false_alarm_rate: float
) -> Threshold:
    if suspects_B is None:
        return threshold_from_normals(
            scores_B, false_alarm_rate=false_alarm_rate, seed=CALIBRATION_SEED, parts_B=parts_B
        )
    return threshold_from_blind(
        scores_B, suspects_B, false_alarm_rate=false_alarm_rate, seed=CALIBRATION_SEED, parts_B=parts_B
    )
