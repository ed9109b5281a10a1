"""How well scores tell defects from normal images: the figures of the field, None where they cannot be computed.

Labels: True where an image (or pixel) is defective. Scores: higher = more anomalous.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from detectors.errors import InvalidInput

Labels = NDArray[np.bool_]
Scores = NDArray[np.floating]
Metric = Callable[[Labels, Scores], float | None]

FPR_LIMIT = 0.3
AUPRO_THRESHOLDS = 300


def image_auroc(labels: Labels, scores: Scores) -> float | None:
    """Area under the ROC curve: the chance that a defective image scores above a normal one, ties counted half.

    >>> image_auroc(np.array([False, False, True, True]), np.array([0.1, 0.6, 0.5, 0.9]))
    0.75
    """
    _check(labels, scores)
    return float(roc_auc_score(labels, scores)) if _both_kinds(labels) else None


def pixel_auroc(masks_BHW: Labels, maps_BHW: Scores) -> float | None:
    """The same over all pixels of all images: `masks_BHW` and `maps_BHW` of one shape."""
    return image_auroc(masks_BHW.ravel(), maps_BHW.ravel())


def aupr(labels: Labels, scores: Scores) -> float | None:
    """Area under the precision-recall curve (average precision)."""
    _check(labels, scores)
    return float(average_precision_score(labels, scores)) if _both_kinds(labels) else None


def f1_max(labels: Labels, scores: Scores) -> tuple[float, float] | None:
    """The best F1 over all thresholds, and a threshold (score >= it is flagged) that gives it.

    >>> f1_max(np.array([False, True, True]), np.array([0.1, 0.5, 0.9]))
    (1.0, 0.5)
    """
    _check(labels, scores)
    if not _both_kinds(labels):
        return None
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision[:-1] * recall[:-1] / np.maximum(precision[:-1] + recall[:-1], np.finfo(float).tiny)
    best = int(f1.argmax())
    return float(f1[best]), float(thresholds[best])


def recall_at_false_alarm_rate(labels: Labels, scores: Scores, *, rate: float) -> float | None:
    """Share of defects above the lowest threshold that flags at most `rate` of the normal images (score > threshold).

    >>> recall_at_false_alarm_rate(np.array([False, False, True, True]), np.array([0.1, 0.6, 0.5, 0.9]), rate=0.0)
    0.5
    """
    _check(labels, scores)
    if not 0 <= rate <= 1:
        raise InvalidInput(f"false-alarm rate {rate}; it lies between 0 and 1")
    if not _both_kinds(labels):
        return None
    normal = np.sort(scores[~labels])[::-1]
    allowed = math.floor(rate * len(normal) + 1e-9)
    threshold = normal[allowed] if allowed < len(normal) else -np.inf
    return float((scores[labels] > threshold).mean())


def aupro(masks_BHW: Labels, maps_BHW: Scores, *, fpr_limit: float = FPR_LIMIT) -> float | None:
    """Area under the per-region-overlap curve up to a false-positive rate, normalised to 0..1; regions are 8-connected.

    Source: Bergmann et al., "Uninformed Students", CVPR 2020, section 4.1. *Differences from the paper*: at most 300
    thresholds, at quantiles of the normal pixels' scores, rather than all of them.
    """
    _check(masks_BHW, maps_BHW)
    if not 0 < fpr_limit <= 1:
        raise InvalidInput(f"false-positive rate limit {fpr_limit}; it lies above 0 and at most at 1")
    normal = np.sort(maps_BHW[~masks_BHW])
    regions = _region_scores(masks_BHW, maps_BHW)
    if not len(normal) or not regions:
        return None
    thresholds = _thresholds(normal, fpr_limit)
    fpr = np.r_[_shares(normal, thresholds), 1.0]  # the last point flags everything
    overlap = np.r_[np.mean([_shares(region, thresholds) for region in regions], axis=0), 1.0]
    at_limit = np.interp(fpr_limit, fpr, overlap)
    below = fpr < fpr_limit
    return float(np.trapezoid(np.r_[overlap[below], at_limit], np.r_[fpr[below], fpr_limit]) / fpr_limit)


def _thresholds(normal: Scores, fpr_limit: float) -> Scores:
    """Distinct scores of normal pixels in descending order, from the largest to the first that reaches the limit."""
    places = np.linspace(0, min(fpr_limit * len(normal) + 1, len(normal) - 1), AUPRO_THRESHOLDS).astype(int)
    thresholds: Scores = np.unique(normal[len(normal) - 1 - places])[::-1]
    return thresholds


def _shares(scores: Scores, thresholds: Scores) -> NDArray[np.float64]:
    """Shares of (sorted) scores above, then at or above each threshold: ties of normal and defect make a slope, not a
    step.
    """
    sides = [np.searchsorted(scores, thresholds, side=side) for side in ("right", "left")]
    shares: NDArray[np.float64] = 1 - np.stack(sides, axis=1).ravel() / len(scores)
    return shares


def _region_scores(masks_BHW: Labels, maps_BHW: Scores) -> list[Scores]:
    """Sorted scores of each connected region of the masks."""
    regions = []
    for mask_HW, map_HW in zip(masks_BHW, maps_BHW, strict=True):
        numbered_HW, count = ndimage.label(mask_HW, structure=np.ones((3, 3)))
        regions += [np.sort(map_HW[numbered_HW == number]) for number in range(1, count + 1)]
    return regions


def bootstrap_interval(
    metric: Metric, labels: Labels, scores: Scores, *, seed: int, rounds: int = 500, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a metric, normal and defective images drawn apart; None where the metric is.

    `level` is its coverage, `rounds` how often images are drawn anew (at least 1).
    """
    if rounds < 1 or not 0 < level < 1:
        raise InvalidInput(f"{rounds} rounds at level {level}; at least 1 round and a level between 0 and 1 are needed")
    if metric(labels, scores) is None:
        return None
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(labels == kind) for kind in (False, True)]
    values = []
    for _ in range(rounds):
        drawn = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds if len(kind)])
        values.append(metric(labels[drawn], scores[drawn]))
    low, high = np.quantile([value for value in values if value is not None], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _both_kinds(labels: Labels) -> bool:
    return bool(labels.any()) and not bool(labels.all())


def _check(labels: Labels, scores: Scores) -> None:
    if labels.size and labels.dtype != np.bool_:
        raise InvalidInput(f"labels of type {labels.dtype}; give booleans, True where defective")
    if labels.shape != scores.shape:
        raise InvalidInput(f"labels of shape {labels.shape}, scores of shape {scores.shape}; give one score a label")
    if not np.isfinite(scores).all():
        raise InvalidInput(f"{int((~np.isfinite(scores)).sum())} scores are no finite numbers; look at the detector")
