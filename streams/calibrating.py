"""What is normal on a line and how far chance takes it: robust scores against a reference, and thresholds by bootstrap.

Shape legend: N images of the reference, S signals, K tests (each signal with each dead zone, then the flag), R
bootstrap paths.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.manifest import DriftReference
from detectors.maps import REGIONS

PEAK, BULK, MEAN, CONTRAST, SHARPNESS = "peak", "bulk", "mean", "contrast", "sharpness"
SATURATED, OVER, FLAGGED = "saturated", "over", "flagged"
NUMBERS = (PEAK, BULK, MEAN, CONTRAST, SHARPNESS, "warmth", "tint", SATURATED, "noise", OVER)
FIELDS = tuple(f"bulk@r{1 + field // REGIONS}c{1 + field % REGIONS}" for field in range(REGIONS**2))
OF_PARTS = frozenset({PEAK, OVER, FLAGGED})
"""Signals that move when parts are bad; all others move when the line changes (design, decision 5)."""

CLIP = 3.0
BAD_PARTS = 0.05
FLAG_SPREAD = float(np.sqrt(BAD_PARTS * (1 - BAD_PARTS)))
FLAG_DEAD_ZONE = 0.07 / FLAG_SPREAD
FLAG_WEIGHT = 200
SPIKE = 5
"""So many images in a row may be anything without an alarm, but for a camera that shows nothing."""

_DEAD_ZONES = (0.5, 0.2)
_SPREAD_FLOOR = 0.01
_FLOORS = {
    MEAN: 0.5,
    CONTRAST: 0.25,
    SHARPNESS: 0.1,
    "warmth": 0.5,
    "tint": 0.5,
    SATURATED: 0.005,
    "noise": 0.1,
    OVER: 0.002,
}
_QUARTILE, _DECILE = 0.6745, 1.2816
_PATHS, _PATH_IMAGES, _BLOCK, _BURN_IN = 400, 1000, 4, 50
_LARGEST_SIMULATED = 400
_MOST_CORRELATED = 0.95
_BAD_PART_SHIFT = {PEAK: CLIP, OVER: CLIP, BULK: 1.0}
_RATE_FLAGGED = 99
_COUNTED = 10_000.0
_LEVEL_STEP = 0.02
_CAUTION = 2.0
_MARGIN = 3.0

QUIET_IMAGES = 200
"""After so many images without an alarm a change is over, or has become usual."""

Array = NDArray[np.float64]
Stream = NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """Where a signal lies on the reference and how far it spreads below and above: the trailing axes of the values it
    came from.

    A spread is the larger of that of the quartile (IQR, for a symmetric signal) and that of the outer decile, as
    standard deviations of a normal one; two sides, since scores are skewed. It is never less than 1 % of the signal's
    size nor than `floor`, so nothing divides by zero.

    >>> Scale.of(np.array([100.0, 100.0, 100.0])).standard(np.array(102.5))
    array(2.5)
    """

    centre: Array
    below: Array
    above: Array

    @classmethod
    def of(cls, values: Array, floor: Array | float = 0.0) -> "Scale":
        """The scale of values along the first axis."""
        lowest, low, centre, high, highest = np.percentile(values, [10, 25, 50, 75, 90], axis=0)
        least = np.maximum(_SPREAD_FLOOR * np.maximum(np.abs(centre), 1e-3), floor)
        below = np.maximum((centre - low) / _QUARTILE, (centre - lowest) / _DECILE)
        above = np.maximum((high - centre) / _QUARTILE, (highest - centre) / _DECILE)
        return cls(centre, np.maximum(below, least), np.maximum(above, least))

    def standard(self, values: Array) -> Array:
        """Robust z-scores, not clipped."""
        distance = values - self.centre
        return np.asarray(distance / np.where(distance < 0, self.below, self.above))

    def raw(self, z: Array) -> Array:
        """The values that have the z-scores `z`."""
        return np.asarray(self.centre + z * np.where(z < 0, self.below, self.above))


@dataclass(frozen=True)
class Calibration:
    """What a monitor compares a line with: the scale of each signal, and what its tests may reach by chance.

    `prime_S`: mean of the clipped scores of the reference; `weight`: images that it counts for; `correlation_S`: of
    an image with the one before it; `dead_zones_2S` and `thresholds_2S`: of the fast and the slow Page-Hinkley test of
    each signal; `flag_threshold`: of the one test of the flags.
    """

    names: tuple[str, ...]
    scale: Scale
    prime_S: Array
    weight: int
    correlation_S: Array
    dead_zones_2S: Array
    thresholds_2S: Array
    flag_threshold: float


def signal_table(reference: DriftReference) -> tuple[tuple[str, ...], list[tuple[float, ...]]]:
    """Names and columns of what a reference knows: older ones lack some signals."""
    names = tuple(name for name in NUMBERS if getattr(reference, name) or name in (PEAK, BULK))
    columns = [getattr(reference, name) for name in names]
    if not reference.regions:
        return names, columns
    return names + FIELDS, columns + list(zip(*reference.regions, strict=True))


def floors(names: tuple[str, ...]) -> Array:
    """The least spread of each signal, in its own units: steps smaller than these are not worth a word."""
    return np.array([_FLOORS.get(name, 0.0) for name in names])


def autocorrelation(z_NS: Array) -> Array:
    """Correlation of each image with the one before, `(S,)`, corrected for the bias of short series; at least 0.

    One signal's estimate from N images is off by much; each is drawn towards the mean of all as far as they differ no
    more than chance would have it (empirical Bayes), or the one that was most underestimated would alarm all the time.
    Source of the correction: Kendall, Note on bias in the estimation of autocorrelation, Biometrika 41 (1954).
    """
    images = len(z_NS)
    dev_NS = z_NS - z_NS.mean(axis=0)
    power_S = (dev_NS**2).sum(axis=0)
    moves_S = power_S > 0
    if not moves_S.any():
        return np.zeros(len(power_S))
    rho_S = (dev_NS[1:] * dev_NS[:-1]).sum(axis=0) / np.where(moves_S, power_S, 1.0)
    rho_S = np.clip(rho_S + (1 + 3 * rho_S) / images, -_MOST_CORRELATED, _MOST_CORRELATED)
    mean = float(rho_S[moves_S].mean())
    own = max(0.0, 1 - (1 - mean**2) / images / max(float(rho_S[moves_S].var()), 1e-9))
    return np.asarray(np.clip(mean + own * (rho_S - mean), 0.0, _MOST_CORRELATED) * moves_S)


def dead_zones(images: int, correlation_S: Array) -> Array:
    """Shifts in robust sd that are no drift, for the fast and the slow test, `(2, S)`: what does not matter, plus the
    standard error of the reference's median.

    >>> dead_zones(100, np.zeros(1)).ravel().tolist()
    [0.625, 0.325]
    """
    error_S = 1.25 / np.sqrt(images * (1 - correlation_S) / (1 + correlation_S))
    return np.asarray(np.array(_DEAD_ZONES)[:, None] + np.minimum(error_S, 0.5))


def calibrate(
    names: tuple[str, ...],
    reference_NS: Array,
    *,
    run_length: float,
    rng: np.random.Generator,
    least_correlation: float = 0.0,
) -> Calibration:
    """Scale, dead zones and thresholds for one false alarm in `run_length` images of all tests together.

    Each of the bootstrap's paths draws a reference of its own and a stream from the same process, standardises the
    stream by that reference and notes the largest statistic of each test: what an estimate from N images gets wrong
    is in the thresholds. The process is the reference itself, whitened by one coefficient of autocorrelation a signal
    (drawn anew for each path, since N images do not tell it exactly), drawn in blocks of whole images, and coloured
    again (Davison and Hinkley, Bootstrap methods and their application, 1997, section 8.2.3). Streams are smoothed
    (the next image is none of the reference), jump beyond either end as often as the next of N+1 values does, and 5 %
    of them are bad parts, since a line at its ordinary defect rate has not drifted. `least_correlation`: what is known
    from elsewhere, such as from the live line.
    """
    scale = Scale.of(reference_NS, floors(names))
    images = len(reference_NS)
    z_NS = scale.standard(reference_NS)
    clipped_NS = np.clip(z_NS, -CLIP, CLIP)
    correlation_S = np.maximum(autocorrelation(clipped_NS), least_correlation)
    dead_zones_2S = dead_zones(images, correlation_S)
    paths = _Paths.of(np.clip(z_NS, -2 * CLIP, 2 * CLIP), correlation_S, rng)
    drawn = min(images, _LARGEST_SIMULATED)
    references_RNS = np.stack([paths.images(path, drawn) for path in range(_PATHS)])
    each = Scale.of(references_RNS.swapaxes(0, 1), floors(names) / scale.above)
    primes_RS = np.clip((references_RNS - each.centre[:, None]) / _side(references_RNS, each), -CLIP, CLIP).mean(axis=1)
    shift_S = np.array([_BAD_PART_SHIFT.get(name, 0.0) for name in names])
    flag_above = float(np.percentile(references_RNS[..., 0], _RATE_FLAGGED))
    streams_RTW = np.stack(
        [
            paths.stream(path, Scale(each.centre[path], each.below[path], each.above[path]), shift_S, flag_above)
            for path in range(_PATHS)
        ]
    )
    thresholds_K = _joint_thresholds(streams_RTW, primes_RS, images, dead_zones_2S, _CAUTION * run_length)
    least_K = SPIKE * (CLIP - dead_zones_2S).ravel() + _MARGIN
    least_flag = SPIKE * (1 / FLAG_SPREAD - FLAG_DEAD_ZONE) + _MARGIN
    return Calibration(
        names=names,
        scale=scale,
        prime_S=clipped_NS.mean(axis=0),
        weight=images,
        correlation_S=correlation_S,
        dead_zones_2S=dead_zones_2S,
        thresholds_2S=np.maximum(thresholds_K[:-1], least_K).reshape(2, -1),
        flag_threshold=max(float(thresholds_K[-1]), least_flag),
    )


def _side(values_RNS: Array, scale: Scale) -> Array:
    below = values_RNS < scale.centre[:, None]
    return np.where(below, scale.below[:, None], scale.above[:, None])


def _joint_thresholds(
    streams_RTW: Stream, primes_RS: Array, weight: int, dead_zones_2S: Array, run_length: float
) -> Array:
    """Thresholds, `(K,)`, at which the paths alarm once in `run_length` images: each test as many of its own tail's
    lengths above its median. Beyond what the paths can count, the logarithm of the rate is continued as a line.
    """
    largest_RK = _largest(streams_RTW, primes_RS, weight, dead_zones_2S)
    middle_K = np.median(largest_RK, axis=0)
    length_K = np.maximum(np.quantile(largest_RK, 0.9, axis=0) - middle_K, 1e-6)

    def level_of(images_an_alarm: float) -> float:
        low, high = -2.0, 50.0
        while high - low > _LEVEL_STEP:
            level = (low + high) / 2
            alarms = _alarms(streams_RTW, primes_RS, weight, dead_zones_2S, middle_K + level * length_K)
            low, high = (level, high) if alarms * images_an_alarm > _PATHS * _PATH_IMAGES else (low, level)
        return high

    level = level_of(min(run_length, _COUNTED))
    if run_length > _COUNTED:
        level += (level - level_of(_COUNTED / 10)) * float(np.log10(run_length / _COUNTED))
    return np.asarray(middle_K + level * length_K)


@dataclass(frozen=True)
class _Paths:
    """The process that bootstrap paths are drawn from, in robust scores."""

    residuals_MS: Array
    correlation_RS: Array
    images_known: int
    seed: int

    @classmethod
    def of(cls, z_NS: Array, correlation_S: Array, rng: np.random.Generator) -> "_Paths":
        """The process of scores; each path's correlation is drawn from what N images leave open."""
        images = len(z_NS)
        dev_NS = z_NS - z_NS.mean(axis=0)
        residuals_MS = dev_NS[1:] - correlation_S * dev_NS[:-1]
        error_S = np.sqrt((1 - correlation_S**2) / images)
        drawn_RS = correlation_S + error_S * rng.standard_normal((_PATHS, 1))
        correlation_RS = np.clip(drawn_RS, 0.0, _MOST_CORRELATED) * (dev_NS.std(axis=0) > 0)
        spread_S = residuals_MS.std(axis=0)
        wanted_S = dev_NS.std(axis=0) / np.where(spread_S > 0, spread_S, 1.0)
        residuals_MS = (residuals_MS - residuals_MS.mean(axis=0)) * wanted_S
        return cls(residuals_MS, correlation_RS, images, int(rng.integers(2**31)))

    def images(self, path: int, images: int) -> Array:
        """A reference of `images`, `(N, S)`."""
        return np.asarray(_drawn(self.residuals_MS, self.correlation_RS[path], images, 0.0, self.seed + 2 * path))

    def stream(self, path: int, scale: Scale, shift_S: Array, flag_above: float) -> Stream:
        """A stream that the monitor would see: clipped scores by a scale that was estimated, then that of the flag."""
        seed = self.seed + 2 * path + 1
        smoothing = 0.9 * self.images_known**-0.2
        drawn_TS = _drawn(self.residuals_MS, self.correlation_RS[path], _PATH_IMAGES, smoothing, seed)
        rng = np.random.default_rng(seed)
        bad_T = rng.random(len(drawn_TS)) < BAD_PARTS
        flag_T = bad_T | (drawn_TS[:, 0] > flag_above)
        z_TS = scale.standard(drawn_TS + bad_T[:, None] * shift_S)
        chance_TS = rng.random(z_TS.shape) * (self.images_known + 1)
        z_TS = np.select([chance_TS < 1, chance_TS < 2], [CLIP, -CLIP], np.clip(z_TS, -CLIP, CLIP))
        return np.column_stack((z_TS, (flag_T - BAD_PARTS) / FLAG_SPREAD)).astype(np.float32)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _drawn(residuals_MS: Array, rho_S: Array, images: int, smoothing: float, seed: int) -> Array:
    """`images` of an autocorrelated process with the spread of its residuals, these in blocks of neighbours."""
    np.random.seed(seed)
    rows, signals = residuals_MS.shape
    shrink = 1 / np.sqrt(1 + smoothing**2)
    drawn_TS = np.empty((images, signals))
    now_S = np.zeros(signals)
    innovation_S = np.sqrt(1 - rho_S**2)
    row = 0
    for image in range(-_BURN_IN, images):
        row = np.random.randint(rows) if (image + _BURN_IN) % _BLOCK == 0 else (row + 1) % rows
        for signal in range(signals):
            step = residuals_MS[row, signal]
            if smoothing > 0:
                step = shrink * (step + smoothing * np.random.standard_normal())
            now_S[signal] = rho_S[signal] * now_S[signal] + innovation_S[signal] * step
        if image >= 0:
            drawn_TS[image] = now_S
    return drawn_TS


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _largest(streams_RTW: Stream, primes_RS: Array, weight: int, delta_2S: Array) -> Array:
    """The largest statistic of each test over each stream, `(R, K)`."""
    signals = primes_RS.shape[1]
    largest_RK = np.zeros((len(streams_RTW), 2 * signals + 1))
    for path in range(len(streams_RTW)):
        up_K, down_K = np.zeros(2 * signals + 1), np.zeros(2 * signals + 1)
        mean_W = np.append(primes_RS[path], 0.0)
        for image in range(streams_RTW.shape[1]):
            _step(streams_RTW[path, image], mean_W, weight, image + 1, delta_2S, up_K, down_K)
            largest_RK[path] = np.maximum(largest_RK[path], np.maximum(up_K, down_K))
    return largest_RK


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _alarms(streams_RTW: Stream, primes_RS: Array, weight: int, delta_2S: Array, thresholds_K: Array) -> int:
    """How often streams alarm: after an alarm the monitor starts again from the mean that it knew before, as
    `streams.drift.LineMonitor` does.
    """
    signals, alarms = primes_RS.shape[1], 0
    for path in range(len(streams_RTW)):
        up_K, down_K = np.zeros(2 * signals + 1), np.zeros(2 * signals + 1)
        known_W, mean_W = np.append(primes_RS[path], 0.0), np.append(primes_RS[path], 0.0)
        known, seen, quiet = 0, 0, QUIET_IMAGES
        for image in range(streams_RTW.shape[1]):
            seen, quiet = seen + 1, quiet + 1
            _step(streams_RTW[path, image], mean_W, weight, seen, delta_2S, up_K, down_K)
            if np.any(up_K > thresholds_K) or np.any(down_K > thresholds_K):
                alarms += 1
                if quiet > QUIET_IMAGES:
                    known, known_W[:] = seen, mean_W
                quiet, seen = 0, known
                mean_W[:] = known_W
                up_K[:] = 0.0
                down_K[:] = 0.0
    return alarms


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _step(z_W: Stream, mean_W: Array, weight: int, seen: int, delta_2S: Array, up_K: Array, down_K: Array) -> None:
    """Page-Hinkley's sums and means after an image: each signal with each dead zone on both sides, the flag upwards.

    Source: Page, Continuous inspection schemes, Biometrika 41 (1954), with the running mean of Hinkley (1971).
    """
    signals = len(z_W) - 1
    for signal in range(signals):
        mean_W[signal] += (z_W[signal] - mean_W[signal]) / (weight + seen)
        dev = z_W[signal] - mean_W[signal]
        for test in range(2):
            at, delta = test * signals + signal, delta_2S[test, signal]
            up_K[at] = max(0.0, up_K[at] + dev - delta)
            down_K[at] = max(0.0, down_K[at] - dev - delta)
    mean_W[signals] += (z_W[signals] - mean_W[signals]) / (FLAG_WEIGHT + seen)
    up_K[-1] = max(0.0, up_K[-1] + z_W[signals] - mean_W[signals] - FLAG_DEAD_ZONE)
