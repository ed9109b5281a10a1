"""How far chance takes the tests of a line: thresholds of many Page-Hinkley tests together, by bootstrap of the reference.

Shape legend: N images of the reference, S signals, W what is watched (the signals, then suspicion), R bootstrap paths, T images of a
path; tests are (2, W): the fast and the slow one of each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

PATHS, PATH_IMAGES = 400, 1000
MOST_CORRELATED = 0.95

_BLOCK, _BURN_IN = 4, 20
_LARGEST_SIMULATED = 400
_LEVEL_STEP = 0.02
_TAIL = 0.9


@dataclass(frozen=True)
class Process:
    """Where bootstrap paths are drawn from: residuals of robust scores `(M, S)`, and for each path the correlation of an image with the
    one before `(R, S)`.

    The residuals are what one coefficient of autocorrelation a signal leaves of the reference; they are drawn in blocks of whole images
    and coloured again. Source: Davison and Hinkley, Bootstrap methods and their application (1997), section 8.2.3 (post-blackening).
    """

    residuals: Array
    correlation: Array
    images_known: int

    @classmethod
    def of(cls, z_NS: Array, correlation_S: Array, rng: np.random.Generator) -> "Process":
        """The process of scores. N images do not tell a correlation exactly: each path's is drawn from what they leave open."""
        images = len(z_NS)
        dev_NS = z_NS - z_NS.mean(axis=0)
        spread_S = dev_NS.std(axis=0)
        residuals_MS = dev_NS[1:] - correlation_S * dev_NS[:-1]
        residuals_MS -= residuals_MS.mean(axis=0)
        left_S = residuals_MS.std(axis=0)
        error_S = np.sqrt((1 - correlation_S**2) / images)
        drawn_RS = correlation_S + error_S * rng.standard_normal((PATHS, 1))
        return cls(
            residuals=residuals_MS * (spread_S / np.where(left_S > 0, left_S, 1.0)),
            correlation=np.clip(drawn_RS, 0.0, MOST_CORRELATED) * (spread_S > 0),
            images_known=images,
        )

    def reference(self, rng: np.random.Generator) -> Floats:
        """A reference for each path, `(N, R, S)`."""
        return self._drawn(min(self.images_known, _LARGEST_SIMULATED), 0.0, rng)

    def stream(self, rng: np.random.Generator) -> Floats:
        """A stream for each path, `(T, R, S)`, smoothed by Silverman's bandwidth: the next image is none of the reference."""
        return self._drawn(PATH_IMAGES, 0.9 * self.images_known**-0.2, rng)

    def _drawn(self, images: int, smoothing: float, rng: np.random.Generator) -> Floats:
        rows, signals = self.residuals.shape
        long = images + _BURN_IN
        starts = rng.integers(rows, size=(-(-long // _BLOCK), 1, PATHS))
        rows_TR = ((starts + np.arange(_BLOCK)[:, None]) % rows).reshape(-1, PATHS)[:long]
        drawn_TRS = self.residuals.astype(np.float32)[rows_TR]
        if smoothing > 0:
            drawn_TRS += np.float32(smoothing) * rng.standard_normal((long, PATHS, signals), dtype=np.float32)
            drawn_TRS /= np.float32(np.sqrt(1 + smoothing**2))
        rho_RS = self.correlation.astype(np.float32)
        innovation_RS = np.sqrt(1 - rho_RS**2)
        for image in range(1, long):
            drawn_TRS[image] *= innovation_RS
            drawn_TRS[image] += rho_RS * drawn_TRS[image - 1]
        return np.asarray(drawn_TRS[_BURN_IN:])


@dataclass(frozen=True)
class Charts:
    """Page-Hinkley charts side by side: dead zones upwards and downwards `(2, W)` (infinite: not tested that way), the images that a known
    mean counts for `(W,)`, how large a share of the false alarms each may have, relative to the others `(W,)`, and the images without an
    alarm after which a change is over.
    """

    up: Array
    down: Array
    weight: Array
    share: Array
    quiet_images: int


class _Sums:
    """Page-Hinkley's sums and means of R paths. Source: Page, Continuous inspection schemes, Biometrika 41 (1954), with the running mean
    of Hinkley (1971).
    """

    def __init__(self, charts: Charts, means_RW: Floats) -> None:
        self._dead_up, self._dead_down = charts.up.astype(np.float32), charts.down.astype(np.float32)
        self._weight = charts.weight
        self.mean = means_RW.astype(np.float32).copy()
        self.seen = np.zeros(len(means_RW))
        self.up = np.zeros((len(means_RW), *charts.up.shape), dtype=np.float32)
        self.down = np.zeros_like(self.up)

    def take(self, z_RW: Floats) -> None:
        """One image of each path."""
        self.seen += 1
        np.add(self.mean, (z_RW - self.mean) / (self._weight + self.seen[:, None]).astype(np.float32), out=self.mean)
        dev_R1W = (z_RW - self.mean)[:, None]
        np.add(self.up, dev_R1W - self._dead_up, out=self.up)
        np.subtract(self.down, dev_R1W + self._dead_down, out=self.down)
        np.maximum(self.up, 0, out=self.up)
        np.maximum(self.down, 0, out=self.down)


def largest(z_TRW: Floats, means_RW: Floats, charts: Charts) -> Floats:
    """The largest statistic of each test over each path, `(R, 2, W)`, without an alarm."""
    sums = _Sums(charts, means_RW)
    largest_R2W = np.zeros_like(sums.up)
    for z_RW in z_TRW:
        sums.take(z_RW)
        np.maximum(largest_R2W, sums.up, out=largest_R2W)
        np.maximum(largest_R2W, sums.down, out=largest_R2W)
    return largest_R2W


def alarms(z_TRW: Floats, means_RW: Floats, charts: Charts, limits_2W: Array) -> int:
    """How often the paths alarm: after an alarm the monitor starts again from the mean that it knew before the first of a row, as
    `streams.drift.LineMonitor` does.
    """
    sums = _Sums(charts, means_RW)
    limits = limits_2W.astype(np.float32)
    known_mean, known_seen = sums.mean.copy(), sums.seen.copy()
    quiet = np.full(len(means_RW), charts.quiet_images)
    count = 0
    for z_RW in z_TRW:
        sums.take(z_RW)
        quiet += 1
        over_R2W = (sums.up > limits) | (sums.down > limits)
        if not over_R2W.any():
            continue
        paths = np.flatnonzero(over_R2W.any(axis=(1, 2)))
        count += len(paths)
        first = paths[quiet[paths] > charts.quiet_images]
        known_mean[first], known_seen[first] = sums.mean[first], sums.seen[first]
        sums.mean[paths], sums.seen[paths] = known_mean[paths], known_seen[paths]
        sums.up[paths] = sums.down[paths] = 0.0
        quiet[paths] = 0
    return count


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of all tests for any run length: each as many of its own tail's lengths beyond where the tail begins.

    `start` and `length`: `(2, W)`, of the tail of the largest statistic of a path (exponential beyond its start); `levels`: pairs of a
    run length in images and the level at which all tests together alarm once in it. Between and beyond them the level goes with the
    logarithm of the run length, since the largest of many goes so.

    >>> known = Thresholds(np.full((2, 1), 5.0), np.full((2, 1), 2.0), ((1_000.0, 1.0), (10_000.0, 2.0)))
    >>> known.at(10_000).ravel().tolist(), known.at(100_000).ravel().tolist()
    ([9.0, 9.0], [11.0, 11.0])
    """

    start: Array
    length: Array
    levels: tuple[tuple[float, float], tuple[float, float]]

    def at(self, run_length: float) -> Array:
        """The thresholds for one alarm in so many images, `(2, W)`."""
        (short, low), (long, high) = self.levels
        slope = (high - low) / np.log10(long / short)
        return np.asarray(self.start + (low + slope * np.log10(run_length / short)) * self.length)


def joint_thresholds(z_TRW: Floats, means_RW: Floats, charts: Charts, run_lengths: tuple[float, float]) -> Thresholds:
    """Thresholds at which the paths alarm once in each of two run lengths, restarts counted."""
    largest_R2W = largest(z_TRW, means_RW, charts)
    start_2W = np.quantile(largest_R2W, _TAIL, axis=0).astype(np.float64)
    beyond_R2W = np.maximum(largest_R2W - start_2W, 0.0)
    length_2W = np.maximum(beyond_R2W.mean(axis=0) / (1 - _TAIL), 1e-3)
    start_2W -= np.log(charts.share) * length_2W
    reached_R = ((largest_R2W - start_2W) / length_2W).max(axis=(1, 2))
    images = z_TRW.shape[0] * z_TRW.shape[1]

    def level(run_length: float) -> float:
        allowed = images / run_length
        low = float(np.quantile(reached_R, max(0.0, 1 - allowed / len(reached_R))))
        high = float(reached_R.max())
        while high - low > _LEVEL_STEP:
            middle = (low + high) / 2
            alarming = reached_R > middle
            count = alarms(z_TRW[:, alarming], means_RW[alarming], charts, start_2W + middle * length_2W)
            low, high = (middle, high) if count > allowed else (low, middle)
        return high

    short, long = run_lengths
    return Thresholds(start_2W, length_2W, ((short, level(short)), (long, level(long))))
