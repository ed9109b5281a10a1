"""Figures of merit against their definitions: counting pairs, thresholds one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.errors import InvalidInput
from detectors.evaluation import (
    aupr,
    aupro,
    bootstrap_interval,
    f1_max,
    image_auroc,
    pixel_auroc,
    recall_at_false_alarm_rate,
)

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]


@st.composite
def judged(draw: st.DrawFn) -> tuple[Labels, Scores]:
    """Labels of both kinds and scores with ties."""
    count = draw(st.integers(2, 30))
    labels = draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(lambda x: 0 < sum(x) < len(x)))
    scores = draw(st.lists(st.integers(-4, 4), min_size=count, max_size=count))
    return np.array(labels), np.array(scores, float)


quick = settings(max_examples=40, deadline=None)


@quick
@given(judged())
def test_auroc_is_the_share_of_pairs_in_order(case: tuple[Labels, Scores]) -> None:
    labels, scores = case
    pairs = [(bad > good) + 0.5 * (bad == good) for bad in scores[labels] for good in scores[~labels]]
    assert image_auroc(labels, scores) == pytest.approx(np.mean(pairs))


@quick
@given(judged())
def test_f1_max_is_the_best_over_all_thresholds(case: tuple[Labels, Scores]) -> None:
    labels, scores = case

    def f1(threshold: float) -> float:
        flagged = scores >= threshold
        return float(2 * (flagged & labels).sum() / (flagged.sum() + labels.sum()))

    found = f1_max(labels, scores)
    assert found is not None
    assert found[0] == pytest.approx(max(f1(threshold) for threshold in scores))
    assert f1(found[1]) == pytest.approx(found[0])


@quick
@given(judged())
def test_aupr_is_the_mean_precision_where_recall_grows(case: tuple[Labels, Scores]) -> None:
    labels, scores = case
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        flagged = scores >= threshold
        now = float((flagged & labels).sum() / labels.sum())
        area += (now - recall) * float((flagged & labels).sum() / flagged.sum())
        recall = now
    assert aupr(labels, scores) == pytest.approx(area)


@quick
@given(judged(), st.sampled_from([0.0, 0.1, 0.29, 0.5, 1.0]))
def test_recall_is_the_best_that_the_rate_allows(case: tuple[Labels, Scores], rate: float) -> None:
    labels, scores = case
    recalls = [
        float((scores[labels] > threshold).mean())
        for threshold in [*scores, -99.0]
        if (scores[~labels] > threshold).mean() <= rate
    ]
    assert recall_at_false_alarm_rate(labels, scores, rate=rate) == pytest.approx(max(recalls))


def test_a_rate_is_not_rounded_down_by_binary_fractions() -> None:
    labels = np.r_[np.zeros(100, bool), True]
    scores = np.r_[np.arange(100.0), 70.5]
    assert 0.29 * 100 < 29
    assert recall_at_false_alarm_rate(labels, scores, rate=0.29) == 1.0
    assert recall_at_false_alarm_rate(labels, scores, rate=0.28) == 0.0


def aupro_by_definition(masks: list[list[Labels]], maps: Scores, normal: Labels, limit: float) -> float:
    """Every distinct score a threshold; regions given one by one."""
    curve = [(0.0, 0.0), (1.0, 1.0)]
    for threshold in np.unique(maps):
        flagged = maps > threshold
        overlaps = [flagged[image][region].mean() for image, regions in enumerate(masks) for region in regions]
        curve.append((float(flagged[normal].mean()), float(np.mean(overlaps))))
    fpr, overlap = np.array(sorted(curve)).T
    at = np.linspace(0, limit, 20_001)
    return float(np.mean(overlap[np.searchsorted(fpr, at, side="right") - 1]))  # a step curve: no ties here


@pytest.mark.parametrize("limit", [0.3, 0.1, 1.0])
def test_aupro_counts_regions_not_pixels(limit: float) -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 12, 12))
    large, small = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    large[:6, :6] = True
    small[9, 9] = small[10, 10] = True
    second = np.zeros((12, 12), bool)
    second[3:5, 2:9] = True
    maps[0][large] += 2.0
    maps[0][small] += 0.3
    maps[1][second] += 1.0
    masks = np.stack([large | small, second])
    expected = aupro_by_definition([[large, small], [second]], maps, ~masks, limit)
    assert aupro(masks, maps, fpr_limit=limit) == pytest.approx(expected, abs=0.002)


def test_aupro_at_its_ends() -> None:
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 5:9, 5:9] = True
    assert aupro(mask, mask.astype(float)) == pytest.approx(1.0)
    assert aupro(mask, 1.0 - mask) == pytest.approx(0.0, abs=1e-6)
    assert aupro(mask, np.ones(mask.shape)) == pytest.approx(0.15)  # a constant map: chance, the diagonal


def test_pixel_auroc_takes_all_pixels_together() -> None:
    masks = np.zeros((2, 2, 2), bool)
    masks[0, 0] = True
    maps = np.arange(8.0).reshape(2, 2, 2)
    assert pixel_auroc(masks, maps) == image_auroc(masks.ravel(), maps.ravel()) == 0.0


@pytest.mark.parametrize("labels", [np.zeros(4, bool), np.ones(4, bool), np.zeros(0, bool)])
def test_one_class_gives_no_figure(labels: Labels) -> None:
    scores = np.arange(float(len(labels)))
    for metric in (image_auroc, aupr, f1_max):
        assert metric(labels, scores) is None
    assert recall_at_false_alarm_rate(labels, scores, rate=0.1) is None
    assert bootstrap_interval(image_auroc, labels, scores, seed=0) is None
    assert aupro(labels.reshape(1, 1, -1), scores.reshape(1, 1, -1)) is None


def test_bootstrap_interval_covers_and_narrows() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (40, 640):
        labels = np.arange(count) % 2 == 0
        scores = rng.normal(size=count) + 1.5 * labels
        interval = bootstrap_interval(image_auroc, labels, scores, seed=1, rounds=100)
        point = image_auroc(labels, scores)
        assert interval is not None
        assert point is not None
        assert interval[0] < point < interval[1]
        assert interval == bootstrap_interval(image_auroc, labels, scores, seed=1, rounds=100)
        widths.append(interval[1] - interval[0])
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.5)


def test_bootstrap_of_a_mean_is_its_standard_error() -> None:
    labels = np.r_[np.zeros(1, bool), np.ones(400, bool)]
    scores = np.r_[0.0, np.random.default_rng(0).normal(size=400)]
    interval = bootstrap_interval(lambda kind, x: float(x[kind].mean()), labels, scores, seed=0, rounds=1000)
    assert interval is not None
    expected = 2 * 1.96 * scores[1:].std() / np.sqrt(400)
    assert interval[1] - interval[0] == pytest.approx(expected, rel=0.15)


def test_one_defect_keeps_its_class_in_every_round() -> None:
    labels = np.r_[np.zeros(20, bool), True]
    assert bootstrap_interval(image_auroc, labels, np.r_[np.zeros(20), 1.0], seed=0) == (1.0, 1.0)


def test_wrong_input_is_refused() -> None:
    labels, scores = np.array([False, True]), np.array([0.0, 1.0])
    with pytest.raises(InvalidInput, match="one score a label"):
        image_auroc(labels, np.zeros(3))
    with pytest.raises(InvalidInput, match="1 scores are no finite"):
        aupr(labels, np.array([0.0, np.nan]))
    with pytest.raises(InvalidInput, match="int64"):
        f1_max(np.array([0, 1]), scores)
    with pytest.raises(InvalidInput, match="rate 2"):
        recall_at_false_alarm_rate(labels, scores, rate=2)
    with pytest.raises(InvalidInput, match="0 rounds"):
        bootstrap_interval(image_auroc, labels, scores, seed=0, rounds=0)
    with pytest.raises(InvalidInput, match="limit 0"):
        aupro(labels, scores, fpr_limit=0)
