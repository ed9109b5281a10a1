"""From the scores of a fit to thresholds that say what they will obtain, for images and for pixels.

Light: numpy and scipy only. Shape legend: B images, H x W patch grid, N patches, R resamples.
"""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm, pearson3, t

from detectors.contract import Maps, Parts
from detectors.errors import InvalidInput
from detectors.manifest import Threshold
from detectors.maps import Scores, check_maps
from detectors.tails import TAIL, greatest, tail_value

LEAST_IMAGES = 5
"""Scores from images of fewer different parts say nothing about a tail."""

RESAMPLES = 500
"""Bootstrap resamples behind the interval of a threshold."""

SKEWNESS = 0.4
"""Of the logarithm of a good image's score: a maximum over a thousand patches leans to the right. Measured: 0.2 to
0.9 on
magnetic tiles; a normal distribution (0) obtained 2 to 3 times the rate asked for there."""

TRIM = 2.5
"""Scores beyond so many robust standard deviations (of the logarithm) above the median may be defects."""


class RecallThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """Scores above `value` are flagged. `low`..`high`: 95 % interval of the share of unseen defects that are."""

    value: float
    recall: float
    low: float
    high: float
    images: int


def threshold_from_normals(
    scores: Scores, *, false_alarm_rate: float, seed: int, parts_B: Parts | None = None
) -> Threshold:
    """The threshold that `false_alarm_rate` of unseen normal images exceed, from left-out scores of normal images.

    The logarithm of a good image's score is taken as Pearson III of skewness `SKEWNESS`. The threshold lies as many
    standard deviations above the mean as a prediction limit for one more of n images needs (`t(1 - rate, n - 1) *
    sqrt(1 + 1/n)`, plus what the skewness adds), so that it obtains the rate on the average over samples of n images,
    however small n is: an empirical quantile of 50 scores cannot speak about one image in a hundred. `low`..`high` is
    the 95 % interval of the rate it obtains, by parametric bootstrap from `seed`.

    Where images show parts again (`parts_B`), n counts the parts, and each part weighs the same. Scores of one part
    must come from a model that has not seen it.

    Raises InvalidInput for scores of fewer than `LEAST_IMAGES` parts, for negative or non-finite ones, and for a rate outside
    0..0.5. Constant scores give that constant: nothing seen exceeds it.

    >>> scores = np.exp(np.random.default_rng(0).normal(0.0, 0.1, 100))
    >>> made = threshold_from_normals(scores, false_alarm_rate=0.01, seed=0)
    >>> round(made.value, 1), made.low < 0.01 < made.high
    (1.3, True)
    """
    weights = _weights(len(scores), parts_B)
    _check_scores(scores, weights, false_alarm_rate)
    mean, deviation = _moments(_logs(scores), weights)
    factor, low, high = _prediction(_parts(weights), false_alarm_rate, seed)
    return Threshold(
        value=_beyond(mean, factor * deviation, float(scores.max())),
        false_alarm_rate=false_alarm_rate,
        low=low,
        high=high,
        method="prediction limit",
        images=len(scores),
    )


def threshold_from_blind(
    scores: Scores, suspects: NDArray[np.bool_], *, false_alarm_rate: float, seed: int, parts_B: Parts | None = None
) -> Threshold:
    """As `threshold_from_normals`, from the left-out scores of a blind fit: some of the images are bad, nobody knows
    which.

    Suspects do not count. Of the others, those above `median + TRIM` robust standard deviations are cut away, and mean
    and standard deviation of the rest are corrected for the cut, so that neither undetected defects raise the threshold
    nor the cut lowers it.

    Raises what `threshold_from_normals` does; also where the two arrays differ in length.
    """
    if len(suspects) != len(scores):
        raise InvalidInput(f"{len(scores)} scores but {len(suspects)} suspicions; give one of each an image")
    kept = scores[~suspects]
    weights = _weights(len(kept), None if parts_B is None else parts_B[~suspects])
    _check_scores(kept, weights, false_alarm_rate)
    logs = _logs(kept)
    median, spread = robust_moments(logs, weights)
    trusted_B = logs <= median + TRIM * spread
    mean, deviation = _untruncated(*_moments(logs[trusted_B], weights[trusted_B]))
    factor, low, high = _prediction(_parts(weights), false_alarm_rate, seed)
    return Threshold(
        value=_beyond(mean, factor * deviation, float(np.exp(logs[trusted_B].max()))),
        false_alarm_rate=false_alarm_rate,
        low=low,
        high=high,
        method="prediction limit, blind",
        images=len(kept),
    )


def threshold_for_recall(defects: Scores, *, recall: float) -> RecallThreshold:
    """The threshold that at least `recall` of unseen defects of the same kinds exceed, from the scores of known ones.

    An order statistic, whatever the distribution: above the k-th lowest of n scores lies `1 - k / (n + 1)` of the
    population on the average over samples, and the share is Beta distributed (David and Nagaraja 2003, Order
    Statistics, section 2.3), which gives the 95 % interval `low`..`high`. The defects must not be those that the model
    was chosen on.

    Raises InvalidInput for negative or non-finite scores, a recall outside 0..1, and for fewer defects than the recall
    needs.

    >>> made = threshold_for_recall(np.arange(1.0, 100.0), recall=0.9)
    >>> made.value, round(made.low, 2), round(made.high, 2)
    (10.0, 0.83, 0.95)
    """
    if not 0 < recall < 1:
        raise InvalidInput(f"recall {recall}; give a share of the defects above 0 and below 1")
    _check_finite(defects)
    rank = math.floor((len(defects) + 1) * (1 - recall) + 1e-9)
    if rank < 1:
        needed = math.ceil(1 / (1 - recall) - 1e-9) - 1
        raise InvalidInput(
            f"{len(defects)} defects, a threshold for a recall of {recall} needs {needed}; "
            "give more defects or ask for less"
        )
    low, high = beta.ppf([0.025, 0.975], len(defects) + 1 - rank, rank)
    value = float(np.sort(defects)[rank - 1])
    return RecallThreshold(value=value, recall=recall, low=float(low), high=float(high), images=len(defects))


def pixel_threshold(
    maps_BHW: Maps,
    suspects_B: NDArray[np.bool_],
    *,
    false_alarm_rate: float,
    seed: int,
    inside_HW: NDArray[np.bool_] | None = None,
    parts_B: Parts | None = None,
) -> Threshold:
    """The map value that `false_alarm_rate` of the patches of unseen normal images exceed, from left-out smoothed maps.

    Rates below `TAIL` are read from a generalised Pareto distribution of what exceeds that quantile (peaks over
    threshold; probability-weighted moments, Hosking and Wallis 1987, equation 8), others from the patches themselves.
    `low`..`high` is the interval of the rate it obtains, by drawing parts anew (`parts_B`; without them images): patches
    of one part depend on each other. It held the rate in 85 to 97 of 100 simulated cases (10 to 100 images). Suspects do
    not count, nor do patches that are not `inside_HW`; `images` counts images.

    Raises InvalidInput for maps that are not finite `(B, H, W)`, for fewer than `LEAST_IMAGES` parts that are no
    suspects, and for a rate outside 0..0.5.

    >>> maps_BHW = np.random.default_rng(0).exponential(size=(40, 16, 16)).astype(np.float32)
    >>> made = pixel_threshold(maps_BHW, np.zeros(40, np.bool_), false_alarm_rate=0.01, seed=0)
    >>> round(made.value, 1), made.low < 0.01 < made.high
    (4.6, True)
    """
    check_maps(maps_BHW)
    kept_BHW = maps_BHW[~suspects_B]
    parts_K = np.arange(len(kept_BHW)) if parts_B is None else np.unique(parts_B[~suspects_B], return_inverse=True)[1]
    parts = len(np.unique(parts_K))
    _check_count(parts, false_alarm_rate)
    patches_BP = kept_BHW.reshape(len(kept_BHW), -1) if inside_HW is None else kept_BHW[:, inside_HW]
    values_N, owners_N = greatest(patches_BP, max(4 * TAIL, min(1.0, 3 * false_alarm_rate)))
    value = tail_value(values_N, np.ones(len(values_N)), false_alarm_rate, patches_BP.size)
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(RESAMPLES):
        drawn_K = np.bincount(rng.integers(0, parts, parts), minlength=parts)[parts_K]
        weights_N, size = drawn_K[owners_N].astype(np.float64), int(drawn_K.sum()) * patches_BP.shape[1]
        limit = tail_value(values_N, weights_N, false_alarm_rate, size)
        rates.append(np.searchsorted(-values_N, -limit) / patches_BP.size)
    low, high = np.quantile(rates, [0.025, 0.975])
    return Threshold(
        value=value,
        false_alarm_rate=false_alarm_rate,
        low=float(low),
        high=float(high),
        method="patches, tail extrapolated" if false_alarm_rate < TAIL else "patches",
        images=len(kept_BHW),
    )


def robust_moments(values: Scores, weights: Scores | None = None) -> tuple[float, float]:
    """Median and 1.4826 x median absolute deviation, weighted: mean and standard deviation of normal data that half of
    may be spoilt.

    >>> robust_moments(np.array([1.0, 2.0, 3.0, 4.0, 1000.0]))
    (3.0, 1.4826)
    """
    weights = np.ones(len(values)) if weights is None else weights
    median = _median(values, weights)
    return median, 1.4826 * _median(np.abs(values - median), weights)


def _median(values: Scores, weights: Scores) -> float:
    """Half of the weight lies below it, between the two values in the middle where it falls between them."""
    order = np.argsort(values, kind="stable")
    middles = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(weights.sum() / 2, middles, values[order]))


def _weights(images: int, parts_B: Parts | None) -> Scores:
    """What each image weighs, so that every part weighs 1, `(B,)`."""
    if parts_B is None:
        return np.ones(images)
    if len(parts_B) != images:
        raise InvalidInput(f"{images} scores but {len(parts_B)} parts; give one of each an image")
    _, numbers_B, sizes = np.unique(parts_B, return_inverse=True, return_counts=True)
    weights: Scores = 1.0 / sizes[numbers_B]
    return weights


def _parts(weights: Scores) -> int:
    return round(float(weights.sum()))


def _moments(logs: Scores, weights: Scores) -> tuple[float, float]:
    """Weighted mean and standard deviation, as of one value a part."""
    total = float(weights.sum())
    mean = float((weights * logs).sum() / total)
    return mean, float(np.sqrt((weights * (logs - mean) ** 2).sum() / (total - 1)))


def _check_scores(scores: Scores, weights: Scores, false_alarm_rate: float) -> None:
    _check_finite(scores)
    _check_count(_parts(weights), false_alarm_rate)


def _check_finite(scores: Scores) -> None:
    if scores.ndim != 1 or not np.isfinite(scores).all() or (scores < 0).any():
        raise InvalidInput("scores must be one finite number from 0 up per image; leave out images that have none")


def _check_count(images: int, false_alarm_rate: float) -> None:
    if not 0 < false_alarm_rate <= 0.5:
        raise InvalidInput(f"false-alarm rate {false_alarm_rate}; give a share of normal images above 0, at most 0.5")
    if images < LEAST_IMAGES:
        raise InvalidInput(f"{images} normal scores, a threshold needs {LEAST_IMAGES}; give more images")


def _logs(scores: Scores) -> Scores:
    """Logarithms; a score near 0 counts as a thousandth of the greatest, so that a perfect copy does not widen the
    spread without end.
    """
    floor = max(1e-3 * float(scores.max()), float(np.finfo(np.float32).tiny))
    logs: Scores = np.log(np.maximum(scores, floor))
    return logs


def _untruncated(kept_mean: float, kept_deviation: float) -> tuple[float, float]:
    """Mean and standard deviation of the population of which only values below the cut were kept, from those of them."""
    population = pearson3.ppf((np.arange(500) + 0.5) / 500, SKEWNESS)
    median, spread = robust_moments(population)
    kept = population[population <= median + TRIM * spread]
    deviation = float(kept_deviation / kept.std())
    return float(kept_mean - kept.mean() * deviation), deviation


def _prediction(count: int, rate: float, seed: int) -> tuple[float, float, float]:
    """Standard deviations from the mean of `count` values to their prediction limit, and the interval of the rate
    obtained.
    """
    skewed = pearson3.ppf(1 - rate, SKEWNESS) - norm.ppf(1 - rate)
    factor = float(t.ppf(1 - rate, count - 1) * np.sqrt(1 + 1 / count) + skewed)
    shape = 4 / SKEWNESS**2  # Pearson III is a gamma distribution, moved and scaled
    samples_RB = (np.random.default_rng(seed).standard_gamma(shape, (RESAMPLES, count)) - shape) / np.sqrt(shape)
    limits_R = samples_RB.mean(axis=1) + factor * samples_RB.std(axis=1, ddof=1)
    low, high = np.quantile(pearson3.sf(limits_R, SKEWNESS), [0.025, 0.975])
    return factor, float(low), float(high)


def _beyond(mean: float, margin: float, greatest: float) -> float:
    """The score at `mean + margin` of the logarithm; that of constant scores is the constant itself, not a rounding
    beside it.
    """
    return float(np.exp(mean + margin)) if margin > 1e-9 else greatest
