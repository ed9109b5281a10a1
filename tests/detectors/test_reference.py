"""The drift reference: one of each, without suspects, in order."""

import numpy as np
import pytest

from detectors.errors import InvalidInput
from detectors.images import ImageStatistics
from detectors.reference import reference_from


def test_the_drift_reference_leaves_suspects_out_and_keeps_the_order() -> None:
    maps_BHW = np.arange(1, 5, dtype=np.float32)[:, None, None] * np.ones((1, 3, 3), dtype=np.float32)
    statistics = [ImageStatistics(mean=10.0 * i, contrast=i, sharpness=2.0 * i) for i in range(4)]
    reference = reference_from(maps_BHW, statistics, np.array([False, True, False, False]), pixel_threshold=1.0)
    assert reference.over == (0.0, 1.0, 1.0)
    assert [len(each) for each in reference.regions] == [16] * 3
    assert reference.bulk == (1.0, 3.0, 4.0)
    assert reference.peak == pytest.approx((1.0, 3.0, 4.0))
    assert (reference.mean, reference.contrast, reference.sharpness) == ((0, 20, 30), (0, 2, 3), (0, 4, 6))


def test_a_reference_needs_one_of_each_and_a_normal_image() -> None:
    maps_BHW = np.ones((2, 3, 3), dtype=np.float32)
    statistics = [ImageStatistics(mean=1.0, contrast=1.0, sharpness=1.0)] * 2
    with pytest.raises(InvalidInput, match="2 maps, 1 statistics"):
        reference_from(maps_BHW, statistics[:1], np.zeros(2, dtype=np.bool_), pixel_threshold=1.0)
    with pytest.raises(InvalidInput, match="all 2 images are suspects"):
        reference_from(maps_BHW, statistics, np.ones(2, dtype=np.bool_), pixel_threshold=1.0)
