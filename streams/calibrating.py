"""What is normal on a line and how far chance takes it: robust scores against a reference, and thresholds by bootstrap.

Shape legend: N images of the reference, S signals, W what is watched (the signals, then the flag), R bootstrap paths, T images of a path;
tests are (2, W): the fast and the slow one of each.
"""

from dataclasses import dataclass

import numpy as np

from detectors.manifest import DriftReference
from detectors.maps import REGIONS
from streams import bootstrap
from streams.bootstrap import MOST_CORRELATED, Array, Charts, Floats, Process, Thresholds

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
_BAD_PART_SHIFT = {PEAK: CLIP, OVER: CLIP, BULK: 1.0}
_RATE_FLAGGED = 99
_RUN_LENGTHS = (1_000.0, 10_000.0)
_CAUTION = 2.0
_MARGIN = 3.0

QUIET_IMAGES = 200
"""After so many images without an alarm a change is over, or has become usual."""


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
    def of(cls, values: Array | Floats, floor: Array | float = 0.0) -> "Scale":
        """The scale of values along the first axis."""
        lowest, low, centre, high, highest = np.percentile(values, [10, 25, 50, 75, 90], axis=0)
        least = np.maximum(_SPREAD_FLOOR * np.maximum(np.abs(centre), 1e-3), floor)
        below = np.maximum((centre - low) / _QUARTILE, (centre - lowest) / _DECILE)
        above = np.maximum((high - centre) / _QUARTILE, (highest - centre) / _DECILE)
        return cls(centre, np.maximum(below, least), np.maximum(above, least))

    def standard(self, values: Array | Floats) -> Array:
        """Robust z-scores, not clipped."""
        distance = values - self.centre
        return np.asarray(distance / np.where(distance < 0, self.below, self.above))

    def raw(self, z: Array) -> Array:
        """The values that have the z-scores `z`."""
        return np.asarray(self.centre + z * np.where(z < 0, self.below, self.above))


@dataclass(frozen=True)
class Calibration:
    """What a monitor compares a line with: the scale of each signal, and what its tests may reach by chance.

    `prime`: mean of the clipped scores of the reference `(S,)`; `weight`: images that it counts for; `correlation`: of an image with the
    one before it `(S,)`; `dead_zones`: of the fast and the slow test of each signal `(2, S)`.
    """

    names: tuple[str, ...]
    scale: Scale
    prime: Array
    weight: int
    correlation: Array
    dead_zones: Array
    known: Thresholds

    def thresholds(self, run_length: float) -> Array:
        """Thresholds of all tests, `(2, W)`, for one false alarm in `run_length` images; never so low that a spike of `SPIKE` images
        could alarm. The flag has no slow test.
        """
        reach_2W = np.concatenate((CLIP - self.dead_zones, np.full((2, 1), 1 / FLAG_SPREAD - FLAG_DEAD_ZONE)), axis=1)
        limits_2W = np.maximum(self.known.at(_CAUTION * run_length), SPIKE * reach_2W + _MARGIN)
        limits_2W[1, -1] = np.inf
        return np.asarray(limits_2W)


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
    rho_S = np.clip(rho_S + (1 + 3 * rho_S) / images, -MOST_CORRELATED, MOST_CORRELATED)
    mean = float(rho_S[moves_S].mean())
    own = max(0.0, 1 - (1 - mean**2) / images / max(float(rho_S[moves_S].var()), 1e-9))
    return np.asarray(np.clip(mean + own * (rho_S - mean), 0.0, MOST_CORRELATED) * moves_S)


def dead_zones(images: int, correlation_S: Array) -> Array:
    """Shifts in robust sd that are no drift, for the fast and the slow test, `(2, S)`: what does not matter, plus the
    standard error of the reference's median.

    >>> dead_zones(100, np.zeros(1)).ravel().tolist()
    [0.625, 0.325]
    """
    error_S = 1.25 / np.sqrt(images * (1 - correlation_S) / (1 + correlation_S))
    return np.asarray(np.array(_DEAD_ZONES)[:, None] + np.minimum(error_S, 0.5))


def calibrate(names: tuple[str, ...], reference_NS: Array, *, seed: int, least_correlation: float = 0.0) -> Calibration:
    """Scale, dead zones and thresholds of all tests together, for any run length.

    Each of the bootstrap's paths draws a reference of its own and a stream from the same process and standardises the stream by that
    reference: what an estimate from N images gets wrong is in the thresholds. Streams jump beyond either end as often as the next of N+1
    values does, and 5 % of them are bad parts, since a line at its ordinary defect rate has not drifted. `least_correlation`: what is
    known from elsewhere, such as from the live line.
    """
    rng = np.random.default_rng(seed)
    scale = Scale.of(reference_NS, floors(names))
    z_NS = scale.standard(reference_NS)
    clipped_NS = np.clip(z_NS, -CLIP, CLIP)
    correlation_S = np.maximum(autocorrelation(clipped_NS), least_correlation)
    dead_zones_2S = dead_zones(len(reference_NS), correlation_S)
    process = Process.of(np.clip(z_NS, -2 * CLIP, 2 * CLIP), correlation_S, rng)
    streams_TRW, means_RW = _paths(names, process, floors(names) / scale.above, rng)
    charts = charts_of(dead_zones_2S, len(reference_NS))
    known = bootstrap.joint_thresholds(streams_TRW, means_RW, charts, _RUN_LENGTHS)
    return Calibration(names, scale, clipped_NS.mean(axis=0), len(reference_NS), correlation_S, dead_zones_2S, known)


def charts_of(dead_zones_2S: Array, images: int) -> Charts:
    """The charts of a line: both ways for signals; for the flag the fast one, upwards."""
    flag_21 = np.array([[FLAG_DEAD_ZONE], [np.inf]])
    return Charts(
        up=np.concatenate((dead_zones_2S, flag_21), axis=1),
        down=np.concatenate((dead_zones_2S, np.full((2, 1), np.inf)), axis=1),
        weight=np.append(np.full(dead_zones_2S.shape[1], float(images)), float(FLAG_WEIGHT)),
        quiet_images=QUIET_IMAGES,
    )


def _paths(
    names: tuple[str, ...], process: Process, floors_S: Array, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """What a monitor would see of each path `(T, R, W)`, and the mean it would know `(R, W)`."""
    references_NRS = process.reference(rng)
    scale_RS = Scale.of(references_NRS, floors_S)
    means_RS = np.clip(scale_RS.standard(references_NRS), -CLIP, CLIP).mean(axis=0)
    z_TRS = process.stream(rng)
    bad_TR = rng.random(z_TRS.shape[:2]) < BAD_PARTS
    flag_TR = bad_TR | (z_TRS[..., 0] > np.percentile(references_NRS[..., 0], _RATE_FLAGGED))
    for signal, name in enumerate(names):
        if name in _BAD_PART_SHIFT:
            z_TRS[..., signal] += bad_TR * np.float32(_BAD_PART_SHIFT[name])
    z_TRS = _standard(z_TRS, scale_RS)
    _jump(z_TRS, process.images_known, rng)
    flags_TR1 = ((flag_TR - BAD_PARTS) / FLAG_SPREAD).astype(np.float32)[..., None]
    return np.concatenate((z_TRS, flags_TR1), axis=2), np.pad(means_RS, ((0, 0), (0, 1))).astype(np.float32)


def _standard(z_TRS: Floats, scale_RS: Scale) -> Floats:
    """Clipped scores of scores, by scales of their own; in single precision and in place, since it is the bulk of a calibration."""
    z_TRS -= scale_RS.centre.astype(np.float32)
    below = z_TRS < 0
    z_TRS /= np.where(below, scale_RS.below.astype(np.float32), scale_RS.above.astype(np.float32))
    return np.clip(z_TRS, -CLIP, CLIP, out=z_TRS)


def _jump(z_TRS: Floats, images: int, rng: np.random.Generator) -> None:
    """Off either end, each with chance 1 / (images + 1): the next value lies beyond all `images` so often."""
    count = rng.binomial(z_TRS.size, 2 / (images + 1))
    places = rng.integers(z_TRS.size, size=count)
    z_TRS.reshape(-1)[places] = np.where(rng.random(count) < 0.5, -CLIP, CLIP)
