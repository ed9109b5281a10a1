"""What is normal on a line and how far chance takes it: robust scores against a reference, and thresholds by bootstrap.

Shape legend: N images of the reference, S what is watched (the signals, then the flag), R bootstrap paths, T images of
a path.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGNALS = ("peak", "bulk", "mean", "contrast", "sharpness")
PEAK, BULK, MEAN, CONTRAST, FLAGS = 0, 1, 2, 3, 5
CLIP = 3.0
BAD_PARTS = 0.05
FLAG_SPREAD = float(np.sqrt(BAD_PARTS * (1 - BAD_PARTS)))
FLAG_DEAD_ZONE = 0.07 / FLAG_SPREAD
FLAG_WEIGHT = 500

_DEAD_ZONE = 0.5
_SPREAD_FLOOR = 0.01
_QUARTILE, _DECILE = 0.6745, 1.2816
_PATHS, _PATH_IMAGES, _BLOCK = 400, 1000, 4
_BAD_PART_SHIFT = {PEAK: CLIP, BULK: 1.0}
_TAIL = 0.1
_LOWEST_THRESHOLD = 4 * CLIP

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Where a signal lies on the reference and how far it spreads below and above: the trailing axes of the values it
    came from.

    A spread is the larger of that of the quartile (IQR, for a symmetric signal) and that of the outer decile, as
    standard deviations of a normal one; two sides, since scores are skewed. It is never less than 1 % of the signal's
    size, so nothing divides by zero.

    >>> Scale.of(np.array([100.0, 100.0, 100.0])).standard(np.array(102.5))
    array(2.5)
    """

    centre: Array
    below: Array
    above: Array

    @classmethod
    def of(cls, values: Array) -> "Scale":
        """The scale of values along the first axis."""
        lowest, low, centre, high, highest = np.percentile(values, [10, 25, 50, 75, 90], axis=0)
        floor = _SPREAD_FLOOR * np.maximum(np.abs(centre), 1e-3)
        below = np.maximum((centre - low) / _QUARTILE, (centre - lowest) / _DECILE)
        above = np.maximum((high - centre) / _QUARTILE, (highest - centre) / _DECILE)
        return cls(centre, np.maximum(below, floor), np.maximum(above, floor))

    def standard(self, values: Array) -> Array:
        """Robust z-scores, not clipped."""
        distance = values - self.centre
        return np.asarray(distance / np.where(distance < 0, self.below, self.above))

    def raw(self, z: Array) -> Array:
        """The values that have the z-scores `z`."""
        return np.asarray(self.centre + z * np.where(z < 0, self.below, self.above))


def page_hinkley(z_TR: Array, *, mean_R: Array, weight: int, delta: float) -> Array:
    """Page-Hinkley's statistic after each image, `(T, R)`: the larger of both sides; R streams side by side.

    river's recursion (alpha 1) in closed form, for streams whose running mean starts as `mean_R` with the weight of
    `weight` images: with dev_t = z_t - mean_t, up_t = sum(dev - delta) - min, down_t = max - sum(dev + delta).
    Source: Page, Continuous inspection schemes, Biometrika 41 (1954), with the running mean of Hinkley (1971).

    >>> page_hinkley(np.full((3, 1), 2.0), mean_R=np.zeros(1), weight=10**9, delta=0.5)[:, 0].round(3).tolist()
    [1.5, 3.0, 4.5]
    """
    count_T1 = weight + np.arange(1, len(z_TR) + 1)[:, None]
    dev = z_TR - (weight * mean_R + np.cumsum(z_TR, axis=0)) / count_T1
    up, down = np.cumsum(dev - delta, axis=0), np.cumsum(dev + delta, axis=0)
    up -= np.minimum(np.minimum.accumulate(up, axis=0), 0.0)
    down = np.maximum(np.maximum.accumulate(down, axis=0), 0.0) - down
    return np.maximum(up, down)


def dead_zone(images: int) -> float:
    """Shift in robust sd that is no drift: half a standard deviation plus the standard error of the reference's median.

    >>> dead_zone(100)
    0.625
    """
    return float(_DEAD_ZONE + 1.25 / np.sqrt(images))


def calibrate(reference_NS: Array, *, run_length: float, rng: np.random.Generator) -> Array:
    """Page-Hinkley thresholds, `(S,)`, for `run_length` images to a false alarm of each of them alone.

    Each bootstrap path draws a reference of its own in blocks, standardises by it and watches a long stream drawn
    from the original: what an estimate from N images gets wrong is in the threshold. Streams are smoothed (the next
    image is none of the reference), and 5 % of a stream are bad parts, since the reference is of normal ones and a
    line at its ordinary defect rate has not drifted. Beyond the simulated tail the largest statistics of the paths
    are continued exponentially.
    """
    images = len(reference_NS)
    primes_NR = _blocks(images, (images, _PATHS), rng)
    streams_TR = _blocks(images, (_PATH_IMAGES, _PATHS), rng)
    bad_TR = rng.random(streams_TR.shape) < BAD_PARTS
    noise_TR = rng.standard_normal(streams_TR.shape) * 0.9 * images**-0.2 + _beyond(streams_TR.shape, images, rng)
    chance = -np.expm1(-_PATH_IMAGES / run_length)
    flags_TR = np.asarray((bad_TR - BAD_PARTS) / FLAG_SPREAD, dtype=np.float64)
    flags = page_hinkley(flags_TR, mean_R=np.zeros(_PATHS), weight=FLAG_WEIGHT, delta=FLAG_DEAD_ZONE)
    thresholds = np.full(len(SIGNALS) + 1, _upper(flags.max(axis=0), chance))
    for signal in range(len(SIGNALS)):
        values_N = reference_NS[:, signal]
        scale_R = Scale.of(values_N[primes_NR])
        prime_R = np.clip(scale_R.standard(values_N[primes_NR]), -CLIP, CLIP).mean(axis=0)
        z_TR = scale_R.standard(values_N[streams_TR]) + noise_TR + bad_TR * _BAD_PART_SHIFT.get(signal, 0.0)
        statistic = page_hinkley(np.clip(z_TR, -CLIP, CLIP), mean_R=prime_R, weight=images, delta=dead_zone(images))
        thresholds[signal] = max(_LOWEST_THRESHOLD, _upper(statistic.max(axis=0), chance))
    return thresholds


def _beyond(shape: tuple[int, ...], images: int, rng: np.random.Generator) -> Array:
    """Jumps off either end for the images that lie beyond all `images` of a reference: each end with chance 1 /
    (images + 1).
    """
    draw = rng.random(shape) * (images + 1)
    return np.select([draw < 1, draw < 2], [2 * CLIP, -2 * CLIP], 0.0)


def _blocks(images: int, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices into `images`, drawn along the first axis in circular blocks of neighbours."""
    starts = rng.integers(images, size=(-(-shape[0] // _BLOCK), 1, shape[1]))
    return ((starts + np.arange(_BLOCK)[:, None]) % images).reshape(-1, shape[1])[: shape[0]]


def _upper(peaks_R: Array, chance: float) -> float:
    """The value that a path exceeds with `chance`; beyond the top tenth by the mean excess (exponential tail)."""
    if chance >= _TAIL:
        return float(np.quantile(peaks_R, 1 - chance))
    start = float(np.quantile(peaks_R, 1 - _TAIL))
    return start + float(np.mean(peaks_R[peaks_R > start] - start)) * float(np.log(_TAIL / chance))
