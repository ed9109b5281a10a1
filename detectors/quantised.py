"""Whether a backbone may run in 8 bits: only where it ranks patches as the full one does, on images it was not made from.

Shape legend: B images, N patches, D dimensions.
"""

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from scipy.stats import spearmanr

from detectors.contract import Patches
from detectors.errors import InvalidInput
from detectors.images import Image
from detectors.model import Extractor
from detectors.neighbours import NearestNeighbours

AGREEMENT = 0.95
"""Rank correlation of patch scores from which 8 bits are used."""

LEAST_IMAGES = 4
HELD_OUT_IMAGES = 20
_BANK_ROWS = 2000


class Quantisable(Extractor, Protocol):
    """An extractor that can make itself one of 8 bits."""

    def quantised_on(self, images: Sequence[Image]) -> Self:
        """The same features in 8 bits, ranges taken from these images."""


def calibration_split(images: Sequence[Image]) -> tuple[list[Image], list[Image]]:
    """Images to take ranges from, and others to compare on: every second one, at most `HELD_OUT_IMAGES` of these.

    >>> calibration, held_out = calibration_split([np.zeros((9, 9, 3), np.uint8)] * 9)
    >>> len(calibration), len(held_out)
    (5, 4)
    """
    if len(images) < LEAST_IMAGES:
        raise InvalidInput(f"{len(images)} images to make 8 bits from; give at least {LEAST_IMAGES}, or use openvino")
    return list(images[::2]), list(images[1::2])[:HELD_OUT_IMAGES]


def agreement(full: Extractor, eighth: Extractor, images: Sequence[Image]) -> float:
    """Spearman's rank correlation of what the two extractors make patches score, -1..1.

    Each image's patches are scored by the distance to the nearest of a sample of the other images' patches, in each
    extractor's own features: what a memory bank would do.
    """
    return float(spearmanr(_patch_scores(full, images), _patch_scores(eighth, images)).statistic)


def _patch_scores(extractor: Extractor, images: Sequence[Image]) -> Patches:
    patches_BHWD = extractor.extract(images)
    points_BPD = patches_BHWD.reshape(len(images), -1, patches_BHWD.shape[-1])
    each = max(1, min(points_BPD.shape[1], _BANK_ROWS // len(images)))
    rng = np.random.default_rng(0)
    chosen_BR = np.stack([rng.choice(points_BPD.shape[1], each, replace=False) for _ in images])
    bank_BRD = np.take_along_axis(points_BPD, chosen_BR[..., None], axis=1)
    bank = NearestNeighbours(bank_BRD.reshape(-1, points_BPD.shape[2]))
    owner_M = np.repeat(np.arange(len(images)), each)
    return np.concatenate(
        [bank.search(points, 1, without_M=owner_M == image)[0][:, 0] for image, points in enumerate(points_BPD)]
    )


def faithful(full: Quantisable, images: Sequence[Image], made: Quantisable | None = None) -> tuple[Extractor, str]:
    """The extractor to fit with, and a note for the manifest: 8 bits where they agree with `full` by `AGREEMENT`.

    `made` is one made before, for the same backbone and preprocessing; without it one is made from half of the images.
    Raises InvalidInput for fewer than `LEAST_IMAGES` images.
    """
    calibration, held_out = calibration_split(images)
    eighth = made or full.quantised_on(calibration)
    found = agreement(full, eighth, held_out)
    words = f"rank correlation {found:.3f} of patch scores on {len(held_out)} held-out images, at least {AGREEMENT} is asked for"
    if found >= AGREEMENT:
        return eighth, f"8 bits are used: {words}"
    return full, f"8 bits are not used: {words}"
