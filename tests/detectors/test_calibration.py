"""Image scores from maps, and thresholds that obtain on unseen images what they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, pearson3

from detectors.calibration import (
    SKEWNESS,
    pixel_threshold,
    robust_moments,
    threshold_for_recall,
    threshold_from_blind,
    threshold_from_normals,
)
from detectors.contract import Maps
from detectors.errors import InvalidInput
from detectors.maps import Scores

MEAN, DEVIATION = 3.3, 0.1
"""Of the logarithm of a good image's score; as measured on magnetic tiles."""


def good_scores(images: int, rng: np.random.Generator) -> Scores:
    shape = 4 / SKEWNESS**2
    scores: Scores = np.exp(MEAN + DEVIATION * (rng.standard_gamma(shape, images) - shape) / math.sqrt(shape))
    return scores


def obtained_rate(threshold: float) -> float:
    """The false-alarm rate on the population that `good_scores` draws from, in closed form."""
    return float(pearson3.sf((math.log(threshold) - MEAN) / DEVIATION, SKEWNESS))


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


def test_images_of_one_part_count_as_one() -> None:
    """Fifty parts in six lights each: the spread is that of the parts, the interval that of fifty, not of three hundred."""
    rng = np.random.default_rng(3)
    parts_B = np.repeat(np.arange(50), 6)
    made = []
    for _ in range(150):
        scores = good_scores(50, rng)[parts_B]
        made.append(threshold_from_normals(scores, false_alarm_rate=0.02, seed=0, parts_B=parts_B))
    assert np.mean([each.low <= obtained_rate(each.value) <= each.high for each in made]) >= 0.9
    assert np.mean([obtained_rate(each.value) for each in made]) == pytest.approx(0.02, rel=0.3)
    once = threshold_from_normals(scores[::6], false_alarm_rate=0.02, seed=0)
    assert made[-1].value == pytest.approx(once.value)
    assert (made[-1].low, made[-1].high) == (once.low, once.high)


def test_a_part_seen_often_weighs_no_more_than_another() -> None:
    scores = good_scores(30, np.random.default_rng(5))
    parts_B = np.append(np.arange(30), np.full(40, 7))
    often = np.append(scores, np.full(40, scores[7]))
    nobody = np.zeros(70, dtype=np.bool_)
    for made, once in (
        (
            threshold_from_normals(often, false_alarm_rate=0.01, seed=0, parts_B=parts_B),
            threshold_from_normals(scores, false_alarm_rate=0.01, seed=0),
        ),
        (
            threshold_from_blind(often, nobody, false_alarm_rate=0.01, seed=0, parts_B=parts_B),
            threshold_from_blind(often[:30], nobody[:30], false_alarm_rate=0.01, seed=0),
        ),
    ):
        assert made.value == pytest.approx(once.value, rel=0.05)
        assert (made.low, made.high) == (once.low, once.high)
    with pytest.raises(InvalidInput, match="1 normal scores"):
        threshold_from_normals(often, false_alarm_rate=0.01, seed=0, parts_B=np.zeros(70, np.int64))
    with pytest.raises(InvalidInput, match="70 scores but 30 parts"):
        threshold_from_normals(often, false_alarm_rate=0.01, seed=0, parts_B=np.arange(30))


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


@pytest.mark.parametrize(("defects", "recall"), [(30, 0.9), (100, 0.95), (100, 0.5)])
def test_a_threshold_for_recall_obtains_it_on_unseen_defects(defects: int, recall: float) -> None:
    rng = np.random.default_rng(defects)
    obtained, held = [], []
    for _ in range(300):
        made = threshold_for_recall(rng.random(defects), recall=recall)  # of the uniform, 1 - value is the recall
        obtained.append(1 - made.value)
        held.append(made.low <= 1 - made.value <= made.high)
    assert recall - 0.01 <= np.mean(obtained) <= recall + 1 / defects
    assert 0.92 <= np.mean(held) <= 0.98


def test_a_recall_that_the_known_defects_cannot_show_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"18 defects, a threshold for a recall of 0.95 needs 19"):
        threshold_for_recall(np.arange(18.0), recall=0.95)
    assert threshold_for_recall(np.arange(19.0), recall=0.95).value == 0.0
    with pytest.raises(InvalidInput, match="recall 1"):
        threshold_for_recall(np.arange(19.0), recall=1.0)


def good_maps(images: int, rng: np.random.Generator) -> Maps:
    """Log-normal patches of images that differ as wholes."""
    logs_BHW = 0.1 * rng.normal(size=(images, 1, 1)) + 0.3 * rng.normal(size=(images, 16, 16))
    return np.exp(logs_BHW).astype(np.float32)


@pytest.mark.parametrize("images", [10, 40])
@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_a_pixel_threshold_obtains_its_rate_on_unseen_patches(images: int, rate: float) -> None:
    rng = np.random.default_rng(images)
    population = norm(scale=math.hypot(0.1, 0.3))
    nobody = np.zeros(images, dtype=np.bool_)
    obtained, held = [], []
    for _ in range(40):
        made = pixel_threshold(good_maps(images, rng), nobody, false_alarm_rate=rate, seed=0)
        obtained.append(population.sf(math.log(made.value)))
        held.append(made.low <= obtained[-1] <= made.high)
    assert np.mean(obtained) == pytest.approx(rate, rel=0.5 if rate * images < 0.05 else 0.2)
    assert np.mean(held) >= 0.75


def test_a_pixel_threshold_counts_neither_suspects_nor_what_is_outside() -> None:
    rng = np.random.default_rng(0)
    maps_BHW = good_maps(20, rng)
    inside_HW = np.ones((16, 16), dtype=np.bool_)
    inside_HW[:2] = False
    suspects_B = np.arange(20) < 3
    plain = pixel_threshold(maps_BHW[3:, 2:], suspects_B[3:], false_alarm_rate=0.01, seed=0)
    maps_BHW[:3], maps_BHW[:, :2] = 900.0, 900.0
    assert pixel_threshold(maps_BHW, suspects_B, false_alarm_rate=0.01, seed=0, inside_HW=inside_HW) == plain
    assert plain.images == 17


def test_patches_that_are_all_alike_give_that_value() -> None:
    nobody = np.zeros(6, dtype=np.bool_)
    for rate in (0.01, 0.1):
        made = pixel_threshold(np.ones((6, 4, 4), np.float32), nobody, false_alarm_rate=rate, seed=0)
        assert made.value == 1.0
