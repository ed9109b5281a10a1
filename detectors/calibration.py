"""From anomaly maps to image scores, and from the scores of the fit to a threshold that says what it will obtain.

Light: numpy and scipy only. Shape legend: B images, H x W patch grid, R resamples.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import norm, pearson3, t

from detectors.contract import Maps
from detectors.errors import InvalidInput
from detectors.manifest import DriftReference, Threshold

SIGMA = 1.0
"""Standard deviation, in patches, of the Gaussian that smooths a map before its maximum is taken. PatchCore's 4 px are
half a patch. One patch, the reach of the locally aware neighbourhood, ranked cookies better (image AUROC 1.000 against
.982) and magnetic tiles as well (.847 and .856): `docs/detectors.md`."""

LEAST_IMAGES = 5
"""Scores from fewer images say nothing about a tail."""

RESAMPLES = 500
"""Bootstrap resamples behind the interval of a threshold."""

SKEWNESS = 0.4
"""Of the logarithm of a good image's score: a maximum over a thousand patches leans to the right. Measured: 0.2 to
0.9 on
magnetic tiles; a normal distribution (0) obtained 2 to 3 times the rate asked for there."""

TRIM = 2.5
"""Scores beyond so many robust standard deviations (of the logarithm) above the median may be defects."""

Scores = NDArray[np.float64]
"""One score an image, `(B,)`."""


class PixelStatistics(Protocol):
    """What `images.statistics` says of an image's pixels, in 0..255."""

    @property
    def mean(self) -> float:
        """Mean grey."""

    @property
    def contrast(self) -> float:
        """Standard deviation of grey."""

    @property
    def sharpness(self) -> float:
        """Standard deviation of the Laplacian of grey."""


def smoothed(maps_BHW: Maps, *, sigma: float = SIGMA) -> Maps:
    """Maps smoothed one by one by a Gaussian of `sigma` patches, `maps_BHW`; borders repeat their edge.

    Raises InvalidInput for maps that are not finite `(B, H, W)` or a negative sigma.

    >>> smoothed(np.ones((1, 4, 4), dtype=np.float32)).round(6).max()
    np.float32(1.0)
    """
    _check_maps(maps_BHW)
    if not (np.isfinite(sigma) and sigma >= 0):
        raise InvalidInput(f"sigma {sigma} patches; give 0 or more")
    result: Maps = gaussian_filter(maps_BHW.astype(np.float32), sigma=(0.0, sigma, sigma), mode="nearest")
    return result


def image_scores(maps_BHW: Maps, *, sigma: float = SIGMA) -> Scores:
    """Peak of each image: the maximum of its smoothed map, `(B,)`. Raises what `smoothed` does.

    >>> image_scores(np.full((2, 4, 4), 3.0, dtype=np.float32), sigma=1.0).round(5).tolist()
    [3.0, 3.0]
    """
    scores: Scores = smoothed(maps_BHW, sigma=sigma).max(axis=(1, 2)).astype(np.float64)
    return scores


def bulk_scores(maps_BHW: Maps, inside_HW: NDArray[np.bool_] | None = None) -> Scores:
    """Bulk of each image: the median of its patch distances (`inside_HW`: of those patches), `(B,)`. It moves when the
    line changes, not when a part is bad.
    """
    _check_maps(maps_BHW)
    distances_BN = maps_BHW.reshape(len(maps_BHW), -1) if inside_HW is None else maps_BHW[:, inside_HW]
    return np.median(distances_BN, axis=1).astype(np.float64)


def counted(maps_BHW: Maps, inside_HW: NDArray[np.bool_]) -> Maps:
    """The maps with 0 where a patch does not count.

    >>> counted(np.ones((1, 1, 2), np.float32), np.array([[True, False]])).tolist()
    [[[1.0, 0.0]]]
    """
    return np.where(inside_HW, maps_BHW, np.float32(0))


def threshold_from_normals(scores: Scores, *, false_alarm_rate: float, seed: int) -> Threshold:
    """The threshold that `false_alarm_rate` of unseen normal images exceed, from left-out scores of normal images.

    The logarithm of a good image's score is taken as Pearson III of skewness `SKEWNESS`. The threshold lies as many
    standard deviations above the mean as a prediction limit for one more of n images needs (`t(1 - rate, n - 1) *
    sqrt(1 + 1/n)`, plus what the skewness adds), so that it obtains the rate on the average over samples of n images,
    however small n is: an empirical quantile of 50 scores cannot speak about one image in a hundred. `low`..`high` is
    the 95 % interval of the rate it obtains, by parametric bootstrap from `seed`.

    Raises InvalidInput for fewer than `LEAST_IMAGES` scores, for negative or non-finite ones, and for a rate outside
    0..0.5. Constant scores give that constant: nothing seen exceeds it.

    >>> scores = np.exp(np.random.default_rng(0).normal(0.0, 0.1, 100))
    >>> made = threshold_from_normals(scores, false_alarm_rate=0.01, seed=0)
    >>> round(made.value, 1), made.low < 0.01 < made.high
    (1.3, True)
    """
    _check_scores(scores, false_alarm_rate)
    logs = _logs(scores)
    factor, low, high = _prediction(len(scores), false_alarm_rate, seed)
    return Threshold(
        value=_beyond(float(logs.mean()), factor * float(logs.std(ddof=1)), float(scores.max())),
        false_alarm_rate=false_alarm_rate,
        low=low,
        high=high,
        method="prediction limit",
        images=len(scores),
    )


def threshold_from_blind(
    scores: Scores, suspects: NDArray[np.bool_], *, false_alarm_rate: float, seed: int
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
    _check_scores(scores, false_alarm_rate)
    kept = scores[~suspects]
    _check_scores(kept, false_alarm_rate)
    logs = _logs(kept)
    median, spread = robust_moments(logs)
    trusted = logs[logs <= median + TRIM * spread]
    mean, deviation = _untruncated(trusted)
    factor, low, high = _prediction(len(kept), false_alarm_rate, seed)
    return Threshold(
        value=_beyond(mean, factor * deviation, float(np.exp(trusted.max()))),
        false_alarm_rate=false_alarm_rate,
        low=low,
        high=high,
        method="prediction limit, blind",
        images=len(kept),
    )


def robust_moments(values: Scores) -> tuple[float, float]:
    """Median and 1.4826 x median absolute deviation: mean and standard deviation of normal data that half of may be
    spoilt.

    >>> robust_moments(np.array([1.0, 2.0, 3.0, 4.0, 1000.0]))
    (3.0, 1.4826)
    """
    median = float(np.median(values))
    return median, float(1.4826 * np.median(np.abs(values - median)))


def reference_from(
    maps_BHW: Maps,
    statistics: Sequence[PixelStatistics],
    suspects: NDArray[np.bool_],
    *,
    inside_HW: NDArray[np.bool_] | None = None,
    sigma: float = SIGMA,
) -> DriftReference:
    """What the line looks like to its own model: signals of the images of the fit, each left out; suspects do not
    enter.

    Raises InvalidInput where the three differ in length or every image is a suspect.
    """
    if not len(maps_BHW) == len(statistics) == len(suspects):
        raise InvalidInput(
            f"{len(maps_BHW)} maps, {len(statistics)} statistics, {len(suspects)} suspicions; give one of each an image"
        )
    kept = np.flatnonzero(~suspects).tolist()
    if len(kept) == 0:
        raise InvalidInput(f"all {len(suspects)} images are suspects; there is no normal image to refer to")
    return DriftReference(
        peak=tuple(image_scores(maps_BHW, sigma=sigma)[kept].tolist()),
        bulk=tuple(bulk_scores(maps_BHW, inside_HW)[kept].tolist()),
        mean=tuple(float(statistics[i].mean) for i in kept),
        contrast=tuple(float(statistics[i].contrast) for i in kept),
        sharpness=tuple(float(statistics[i].sharpness) for i in kept),
    )


def _check_maps(maps_BHW: Maps) -> None:
    if maps_BHW.ndim != 3 or 0 in maps_BHW.shape[1:]:
        raise InvalidInput(f"anomaly maps have shape {maps_BHW.shape}; give (images, rows, columns)")
    if not np.isfinite(maps_BHW).all():
        raise InvalidInput("anomaly maps hold NaN or infinity; leave out the images they come from")


def _check_scores(scores: Scores, false_alarm_rate: float) -> None:
    if not 0 < false_alarm_rate <= 0.5:
        raise InvalidInput(f"false-alarm rate {false_alarm_rate}; give a share of normal images above 0, at most 0.5")
    if scores.ndim != 1 or not np.isfinite(scores).all() or (scores < 0).any():
        raise InvalidInput("scores must be one finite number from 0 up per image; leave out images that have none")
    if len(scores) < LEAST_IMAGES:
        raise InvalidInput(f"{len(scores)} normal scores, a threshold needs {LEAST_IMAGES}; give more images")


def _logs(scores: Scores) -> Scores:
    """Logarithms; a score near 0 counts as a thousandth of the greatest, so that a perfect copy does not widen the
    spread without end.
    """
    floor = max(1e-3 * float(scores.max()), float(np.finfo(np.float32).tiny))
    logs: Scores = np.log(np.maximum(scores, floor))
    return logs


def _untruncated(trusted: Scores) -> tuple[float, float]:
    """Mean and standard deviation of the population of which only values below the cut were kept."""
    population = pearson3.ppf((np.arange(500) + 0.5) / 500, SKEWNESS)
    median, spread = robust_moments(population)
    kept = population[population <= median + TRIM * spread]
    deviation = float(trusted.std(ddof=1) / kept.std())
    return float(trusted.mean() - kept.mean() * deviation), deviation


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
