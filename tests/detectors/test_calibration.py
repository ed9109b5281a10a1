"""Image scores from maps, and thresholds that obtain on unseen images what they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearson3

from detectors.calibration import (
    SKEWNESS,
    Scores,
    bulk_scores,
    image_scores,
    reference_from,
    robust_moments,
    smoothed,
    threshold_from_blind,
    threshold_from_normals,
)
from detectors.errors import InvalidInput
from detectors.images import ImageStatistics

MEAN, DEVIATION = 3.3, 0.1
"""Of the logarithm of a good image's score; as measured on magnetic tiles."""


def good_scores(images: int, rng: np.random.Generator) -> Scores:
    shape = 4 / SKEWNESS**2
    scores: Scores = np.exp(MEAN + DEVIATION * (rng.standard_gamma(shape, images) - shape) / math.sqrt(shape))
    return scores


def obtained_rate(threshold: float) -> float:
    """The false-alarm rate on the population that `good_scores` draws from, in closed form."""
    return float(pearson3.sf((math.log(threshold) - MEAN) / DEVIATION, SKEWNESS))


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


@pytest.mark.parametrize("images", [20, 50, 150])
@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_on_average_over_samples_the_threshold_obtains_its_rate(images: int, rate: float) -> None:
    rng = np.random.default_rng(images)
    made = [threshold_from_normals(good_scores(images, rng), false_alarm_rate=rate, seed=0) for _ in range(200)]
    assert np.mean([obtained_rate(each.value) for each in made]) == pytest.approx(rate, rel=0.3)


@pytest.mark.parametrize("images", [20, 50, 150])
def test_the_interval_holds_the_rate_obtained_in_95_of_100_cases(images: int) -> None:
    rng = np.random.default_rng(images)
    made = [threshold_from_normals(good_scores(images, rng), false_alarm_rate=0.02, seed=0) for _ in range(150)]
    held = np.mean([each.low <= obtained_rate(each.value) <= each.high for each in made])
    assert 0.9 <= held <= 0.993


@pytest.mark.parametrize("images", [40, 150])
@pytest.mark.parametrize("shift", [0.15, 0.5, 2.0])
def test_a_blind_threshold_stands_five_percent_of_undetected_defects(images: int, shift: float) -> None:
    """Defects from hardly to wildly visible, none of them suspected: the rate obtained stays near the one asked for."""
    rng = np.random.default_rng(images)
    bad = images // 20
    rates = []
    for _ in range(100):
        scores = good_scores(images, rng)
        scores[:bad] *= np.exp(shift)
        made = threshold_from_blind(scores, np.zeros(images, dtype=np.bool_), false_alarm_rate=0.01, seed=0)
        rates.append(obtained_rate(made.value))
    assert 0.003 <= np.mean(rates) <= 0.025


def test_a_blind_threshold_of_clean_images_obtains_its_rate_too() -> None:
    rng = np.random.default_rng(1)
    nobody = np.zeros(60, dtype=np.bool_)
    made = [threshold_from_blind(good_scores(60, rng), nobody, false_alarm_rate=0.01, seed=0) for _ in range(150)]
    assert np.mean([obtained_rate(each.value) for each in made]) == pytest.approx(0.01, abs=0.006)


def test_suspects_do_not_count() -> None:
    rng = np.random.default_rng(0)
    scores = good_scores(40, rng)
    suspects = np.arange(45) >= 40
    with_bad = threshold_from_blind(np.append(scores, [900.0] * 5), suspects, false_alarm_rate=0.01, seed=0)
    without = threshold_from_blind(scores, np.zeros(40, dtype=np.bool_), false_alarm_rate=0.01, seed=0)
    assert with_bad == without
    assert with_bad.images == 40


def test_constant_scores_give_the_constant_so_that_none_is_flagged() -> None:
    scores = np.full(30, 0.1)
    nobody = np.zeros(30, dtype=np.bool_)
    assert threshold_from_normals(scores, false_alarm_rate=0.01, seed=0).value == 0.1
    assert threshold_from_blind(scores, nobody, false_alarm_rate=0.01, seed=0).value == pytest.approx(0.1, rel=1e-12)
    assert threshold_from_normals(np.zeros(30), false_alarm_rate=0.01, seed=0).value == 0.0


def test_a_perfect_copy_does_not_widen_the_spread_without_end() -> None:
    scores = np.append(good_scores(40, np.random.default_rng(0)), 0.0)
    made = threshold_from_blind(scores, np.zeros(41, dtype=np.bool_), false_alarm_rate=0.01, seed=0)
    assert np.isfinite(made.value)


@pytest.mark.parametrize("scores", [[1.0] * 4, [1.0] * 9 + [math.nan], [1.0] * 9 + [math.inf], [1.0] * 9 + [-0.1]])
def test_scores_that_cannot_make_a_threshold_are_refused(scores: list[float]) -> None:
    with pytest.raises(InvalidInput, match="scores"):
        threshold_from_normals(np.array(scores), false_alarm_rate=0.01, seed=0)


@pytest.mark.parametrize("rate", [0.0, -0.1, 0.6, math.nan])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match="false-alarm rate"):
        threshold_from_normals(np.ones(20), false_alarm_rate=rate, seed=0)


def test_a_blind_threshold_needs_enough_images_that_are_no_suspects() -> None:
    with pytest.raises(InvalidInput, match="4 normal scores"):
        threshold_from_blind(np.ones(20), np.arange(20) >= 4, false_alarm_rate=0.01, seed=0)
    with pytest.raises(InvalidInput, match="20 scores but 3"):
        threshold_from_blind(np.ones(20), np.zeros(3, dtype=np.bool_), false_alarm_rate=0.01, seed=0)


@given(st.floats(0.01, 100.0), st.integers(0, 2**16))
def test_a_threshold_scales_with_the_scores(factor: float, seed: int) -> None:
    scores = good_scores(30, np.random.default_rng(seed))
    nobody = np.zeros(30, dtype=np.bool_)
    one, other = (
        threshold_from_blind(each, nobody, false_alarm_rate=0.01, seed=0).value for each in (scores, factor * scores)
    )
    assert other == pytest.approx(factor * one, rel=1e-6)


def test_robust_moments_are_those_of_normal_data() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 20_000)
    assert robust_moments(values) == pytest.approx((5.0, 2.0), rel=0.02)


def test_the_drift_reference_leaves_suspects_out_and_keeps_the_order() -> None:
    maps_BHW = np.arange(1, 5, dtype=np.float32)[:, None, None] * np.ones((1, 3, 3), dtype=np.float32)
    statistics = [ImageStatistics(mean=10.0 * i, contrast=i, sharpness=2.0 * i) for i in range(4)]
    reference = reference_from(maps_BHW, statistics, np.array([False, True, False, False]))
    assert reference.bulk == (1.0, 3.0, 4.0)
    assert reference.peak == pytest.approx((1.0, 3.0, 4.0))
    assert (reference.mean, reference.contrast, reference.sharpness) == ((0, 20, 30), (0, 2, 3), (0, 4, 6))


def test_a_reference_needs_one_of_each_and_a_normal_image() -> None:
    maps_BHW = np.ones((2, 3, 3), dtype=np.float32)
    statistics = [ImageStatistics(mean=1.0, contrast=1.0, sharpness=1.0)] * 2
    with pytest.raises(InvalidInput, match="2 maps, 1 statistics"):
        reference_from(maps_BHW, statistics[:1], np.zeros(2, dtype=np.bool_))
    with pytest.raises(InvalidInput, match="all 2 images are suspects"):
        reference_from(maps_BHW, statistics, np.ones(2, dtype=np.bool_))
