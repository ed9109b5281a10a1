"""From maps to image scores: smoothing, peak and bulk against their definitions."""

import numpy as np
import pytest

from detectors.errors import InvalidInput
from detectors.maps import bulk_scores, image_scores, smoothed


def test_the_peak_of_a_single_hot_patch_is_the_middle_of_the_gaussian() -> None:
    maps_BHW = np.zeros((2, 15, 15), dtype=np.float32)
    maps_BHW[1, 7, 7] = 100.0
    weights = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    expected = 100 * (weights[4] / weights.sum()) ** 2
    np.testing.assert_allclose(image_scores(maps_BHW, sigma=1.0), [0.0, expected], rtol=1e-5)


def test_without_smoothing_the_peak_is_the_maximum() -> None:
    maps_BHW = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(image_scores(maps_BHW, sigma=0.0), maps_BHW.max(axis=(1, 2)))


def test_maps_are_smoothed_one_by_one() -> None:
    maps_BHW = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)
    alone = np.concatenate([smoothed(maps_BHW[i : i + 1], sigma=1.0) for i in range(3)])
    np.testing.assert_array_equal(smoothed(maps_BHW, sigma=1.0), alone)


def test_bulk_is_the_median_patch() -> None:
    maps_BHW = np.array([[[1, 2, 3], [4, 5, 600]]], dtype=np.float32)
    assert bulk_scores(maps_BHW).tolist() == [3.5]


@pytest.mark.parametrize("shape", [(4, 4), (1, 0, 4), (2, 3, 4, 5)])
def test_maps_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="images, rows, columns"):
        image_scores(np.ones(shape, dtype=np.float32), sigma=1.0)


def test_maps_that_are_not_finite_and_negative_sigmas_are_refused() -> None:
    with pytest.raises(InvalidInput, match="NaN"):
        bulk_scores(np.full((1, 2, 2), np.nan, dtype=np.float32))
    with pytest.raises(InvalidInput, match="sigma -1"):
        smoothed(np.ones((1, 2, 2), dtype=np.float32), sigma=-1.0)
