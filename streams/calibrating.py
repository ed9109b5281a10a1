"""What is normal on a line and how far chance takes it: robust scores against a reference, and thresholds by bootstrap.

Shape legend: N images of the reference, S signals, W what is watched (the signals, then suspicion), R bootstrap paths, T images of a path;
tests are (2, W): the fast and the slow one of each.
"""

from dataclasses import dataclass, replace

import numpy as np

from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from detectors.maps import REGIONS
from streams import bootstrap
from streams.bootstrap import MOST_CORRELATED, Array, Charts, Floats, Process, Thresholds
from streams.incidents import QUIET_IMAGES

PEAK, BULK, MEAN, CONTRAST, SHARPNESS = "peak", "bulk", "mean", "contrast", "sharpness"
SATURATED, OVER, SUSPICION = "saturated", "over", "suspicion"
NUMBERS = (PEAK, BULK, MEAN, CONTRAST, SHARPNESS, "warmth", "tint", SATURATED, "noise", OVER)
FIELDS = tuple(f"bulk@r{1 + field // REGIONS}c{1 + field % REGIONS}" for field in range(REGIONS**2))
OF_PARTS = frozenset({PEAK, OVER, SUSPICION})
"""Signals that move when parts are bad; all others move when the line changes (design, decision 5)."""

CLIP = 3.0
BAD_PARTS = 0.03
"""A line at so large a share of bad parts has not drifted: it is at its ordinary rate."""
SUSPICION_SPREAD = 0.25
SUSPICION_DEAD_ZONE = 0.03 / SUSPICION_SPREAD
SUSPICION_WEIGHT = 400
SHORT = 200
"""A reference of fewer images makes the watch wider, and the watch says so."""
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
_OF_BAD_PARTS = 0.87
_SUSPICION_SHARE = 25.0
_RUN_LENGTHS = (1_000.0, 10_000.0)
_CAUTION = 2.0
_MARGINS = np.array([7.3, 12.0])

SMALLEST_REFERENCE = 10


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
        least = _least(centre, floor)
        below = np.maximum((centre - low) / _QUARTILE, (centre - lowest) / _DECILE)
        above = np.maximum((high - centre) / _QUARTILE, (highest - centre) / _DECILE)
        return cls(centre, np.maximum(below, least), np.maximum(above, least))

    def least(self, floor: Array | float = 0.0) -> Array:
        """The least spread that there may be."""
        return _least(self.centre, floor)

    def standard(self, values: Array | Floats) -> Array:
        """Robust z-scores, not clipped."""
        distance = values - self.centre
        return np.asarray(distance / np.where(distance < 0, self.below, self.above))

    def raw(self, z: Array) -> Array:
        """The values that have the z-scores `z`."""
        return np.asarray(self.centre + z * np.where(z < 0, self.below, self.above))


def _least(centre: Array, floor: Array | float) -> Array:
    return np.maximum(_SPREAD_FLOOR * np.maximum(np.abs(centre), 1e-3), floor)


@dataclass(frozen=True)
class Contrast:
    """How far something in an image stands out against the rest of it, as robust scores by a reference; what suspicion is usual of it.

    `columns`: of what stands out, `against`: of the rest (the same for the fields of an image: the largest against the median);
    `level`: their logarithms on the reference.
    """

    columns: tuple[int, ...]
    against: tuple[int, ...]
    level: Array
    scale: Scale
    usual: float

    @classmethod
    def on(cls, reference_NS: Array, columns: tuple[int, ...], against: tuple[int, ...]) -> "Contrast":
        """From a reference `(N, S)`."""
        level = np.median(_log(reference_NS), axis=0)
        bare = cls(columns, against, level, Scale.of(np.zeros(1)), 0.0)
        excess_N = bare.excess(reference_NS)
        scale = Scale.of(excess_N)
        return replace(bare, scale=scale, usual=float(usual_suspicion(scale.standard(excess_N))))

    def excess(self, values_TS: Array) -> Array:
        """Logarithm of the largest of `columns` over the median of `against`, each by its level, `(T,)`."""
        moved_TS = _log(values_TS) - self.level
        return np.asarray(moved_TS[:, self.columns].max(axis=1) - np.median(moved_TS[:, self.against], axis=1))

    def of(self, values_TS: Array) -> Array:
        """Robust scores of images, `(T,)`."""
        return self.scale.standard(self.excess(values_TS))

    def by_own(self, values_TS: Array) -> Array:
        """The same by the level of these images themselves: what all of them have does not stand out."""
        return replace(self, level=np.median(_log(values_TS), axis=0)).of(values_TS)


def _log(values_TS: Array) -> Array:
    return np.asarray(np.log(np.maximum(values_TS, 1e-9)))


@dataclass(frozen=True)
class Calibration:
    """What a monitor compares a line with: the scale of each signal, and what its tests may reach by chance.

    `prime`: mean of the clipped scores of the reference `(S,)`; `weight`: images that it counts for; `correlation`: of an image with the
    one before it `(S,)`; `dead_zones`: of the fast and the slow test of each signal `(2, S)`;
    `suspicion`: what is usual of it; `above_bulk`: peak against bulk; `local`: the
    field that stands out most against the others (peak against bulk again where fields are not known).
    """

    names: tuple[str, ...]
    scale: Scale
    prime: Array
    weight: int
    correlation: Array
    dead_zones: Array
    suspicion: float
    above_bulk: Contrast
    local: Contrast
    known: Thresholds

    @property
    def charts(self) -> Charts:
        """The charts that a monitor keeps."""
        return charts_of(self.names, self.dead_zones, self.weight)

    def thresholds(self, run_length: float) -> Array:
        """Thresholds of all tests, `(2, W)`, for one false alarm in `run_length` images; never so low that a spike of `SPIKE` images
        could alarm. Suspicion has no slow test.

        The bootstrap takes the reference's images for all that the line has; the more they hang together and the fewer they are, the less
        they are worth, so it is asked for run lengths longer than the promised one.
        """
        reach_2W = np.concatenate(
            (CLIP - self.dead_zones, np.full((2, 1), 1 / SUSPICION_SPREAD - SUSPICION_DEAD_ZONE)), axis=1
        )
        correlation = float(np.median(self.correlation))
        caution = _CAUTION * (1 + SHORT * correlation / self.weight) / (1 - correlation)
        limits_2W = np.maximum(self.known.at(caution * run_length), SPIKE * reach_2W + _MARGINS[:, None])
        limits_2W[1, -1] = np.inf
        return np.asarray(limits_2W)


def signal_table(reference: DriftReference) -> tuple[tuple[str, ...], list[tuple[float, ...]]]:
    """Names and columns of what a reference knows: older ones lack some signals. Raises InvalidInput for fields that are not a grid."""
    names = tuple(name for name in NUMBERS if getattr(reference, name) or name in (PEAK, BULK))
    columns = [getattr(reference, name) for name in names]
    if not reference.regions:
        return names, columns
    if {len(row) for row in reference.regions} != {len(FIELDS)}:
        raise InvalidInput(
            f"drift reference whose images have not {len(FIELDS)} fields each; publish the version again"
        )
    return names + FIELDS, columns + list(zip(*reference.regions, strict=True))


def reference_table(reference: DriftReference) -> tuple[tuple[str, ...], Array]:
    """Names, and the reference as `(N, S)`; raises InvalidInput where it is too small, not aligned or not finite."""
    names, columns = signal_table(reference)
    if len({len(column) for column in columns}) != 1:
        lengths = [len(column) for column in columns]
        raise InvalidInput(f"drift reference with columns of {lengths} images; give one entry an image")
    if len(columns[0]) < SMALLEST_REFERENCE:
        raise InvalidInput(
            f"drift reference of {len(columns[0])} images: at least {SMALLEST_REFERENCE} are needed to tell chance "
            "from change; fit the model on more images"
        )
    table = np.array(columns, dtype=np.float64).T
    if not np.isfinite(table).all():
        raise InvalidInput("drift reference with values that are not finite; publish the version again")
    return names, table


def floors(names: tuple[str, ...]) -> Array:
    """The least spread of each signal, in its own units: steps smaller than these are not worth a word."""
    return np.array([_FLOORS.get(name, 0.0) for name in names])


def suspicion(peak_z: Array | Floats) -> Array:
    """How suspicious images are by the robust scores of their peaks: 0 up to one sd above the usual, 1 from three.

    Of the statistics tried on surges of bad parts this was found fastest: it counts bad parts that stay below the threshold, and what
    usual images do below their median is no noise in it.

    >>> suspicion(np.array([-2.0, 1.0, 2.0, 9.0])).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    return np.asarray(np.clip((peak_z - 1) / 2, 0.0, 1.0))


def usual_suspicion(peak_z: Array | Floats) -> Array:
    """Mean suspicion of a line at its ordinary share of bad parts, from the scores of a reference along the first axis."""
    return np.asarray(suspicion(peak_z).mean(axis=0) * (1 - BAD_PARTS) + BAD_PARTS * _OF_BAD_PARTS)


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
    values does, and 3 % of them are bad parts, since a line at its ordinary defect rate has not drifted. `least_correlation`: what is
    known from elsewhere, such as from the live line.
    """
    rng = np.random.default_rng(seed)
    scale = Scale.of(reference_NS, floors(names))
    z_NS = scale.standard(reference_NS)
    clipped_NS = np.clip(z_NS, -CLIP, CLIP)
    correlation_S = np.maximum(autocorrelation(clipped_NS), least_correlation)
    dead_zones_2S = dead_zones(len(reference_NS), correlation_S)
    process = Process.of(np.clip(z_NS, -2 * CLIP, 2 * CLIP), correlation_S, rng)
    streams_TRW, means_RW = _paths(names, process, scale.least(floors(names)) / scale.above, rng)
    charts = charts_of(names, dead_zones_2S, len(reference_NS))
    known = bootstrap.joint_thresholds(streams_TRW, means_RW, charts, _RUN_LENGTHS)
    return calibration_of(names, reference_NS, correlation_S, known)


def calibration_of(names: tuple[str, ...], reference_NS: Array, correlation_S: Array, known: Thresholds) -> Calibration:
    """The calibration that thresholds of a reference belong to: all but these takes no time."""
    scale = Scale.of(reference_NS, floors(names))
    z_NS = scale.standard(reference_NS)
    above_bulk = Contrast.on(reference_NS, (names.index(PEAK),), (names.index(BULK),))
    fields = tuple(names.index(name) for name in FIELDS if name in names)
    return Calibration(
        names=names,
        scale=scale,
        prime=np.clip(z_NS, -CLIP, CLIP).mean(axis=0),
        weight=len(reference_NS),
        correlation=correlation_S,
        dead_zones=dead_zones(len(reference_NS), correlation_S),
        suspicion=float(usual_suspicion(z_NS[:, names.index(PEAK)])),
        above_bulk=above_bulk,
        local=Contrast.on(reference_NS, fields, fields) if fields else above_bulk,
        known=known,
    )


def charts_of(names: tuple[str, ...], dead_zones_2S: Array, images: int) -> Charts:
    """The charts of a line: both ways for signals of the line, upwards for those of its parts; for suspicion the fast one alone."""
    suspicion_21 = np.array([[SUSPICION_DEAD_ZONE], [np.inf]])
    of_parts = np.array([name in OF_PARTS for name in names])
    return Charts(
        up=np.concatenate((dead_zones_2S, suspicion_21), axis=1),
        down=np.concatenate((np.where(of_parts, np.inf, dead_zones_2S), np.full((2, 1), np.inf)), axis=1),
        weight=np.append(np.full(dead_zones_2S.shape[1], float(images)), float(SUSPICION_WEIGHT)),
        share=np.append(np.ones(dead_zones_2S.shape[1]), _SUSPICION_SHARE),
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
    for signal, name in enumerate(names):
        if name in _BAD_PART_SHIFT:
            z_TRS[..., signal] += bad_TR * np.float32(_BAD_PART_SHIFT[name])
    z_TRS = _standard(z_TRS, scale_RS)
    _jump(z_TRS, process.images_known, rng)
    peak = names.index(PEAK)
    usual_R = usual_suspicion(scale_RS.standard(references_NRS)[..., peak])
    suspicion_TR1 = ((suspicion(z_TRS[..., peak]) - usual_R) / SUSPICION_SPREAD).astype(np.float32)[..., None]
    return np.concatenate((z_TRS, suspicion_TR1), axis=2), np.pad(means_RS, ((0, 0), (0, 1))).astype(np.float32)


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
