"""The watch over one line under one model version: has the line changed, where, and is it the line or its parts?

Every signal becomes a robust z-score against the model's own reference, then goes through two of river's Page-Hinkley
tests (a fast one for steps, a slow one for small shifts); the flags go through one as a rate. No textbook defaults:
all thresholds come together from a block bootstrap of the reference. This is the only module that knows river;
importing it takes seconds.

Shape legend: N images of the reference, S signals, T recent images.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import drift

from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from streams.calibrating import (
    BAD_PARTS,
    CLIP,
    FIELDS,
    FLAG_DEAD_ZONE,
    FLAG_SPREAD,
    FLAG_WEIGHT,
    FLAGGED,
    PEAK,
    QUIET_IMAGES,
    Array,
    Calibration,
    autocorrelation,
    calibrate,
    signal_table,
)
from streams.camera_faults import Usable
from streams.classifying import COVARIATE, FAULT, STEP, SURGE, Finding, bad_parts, classify, drift_map, shape_of
from streams.messages import Signals, Verdict

SMALLEST_REFERENCE = 10
RECENT = 512
FAULTY = 4
CONFIRMED_AFTER = 100
REPEATS, UNUSABLE, PAGE_HINKLEY, TAIL = "repeats", "unusable", "page_hinkley", "tail"

_ASKED_AGAIN = (20, 40, 80, 160)
_BAD_SHARE, _SURE = 0.12, 0.01
_MORE_CORRELATED = 2.5


@dataclass(frozen=True)
class Alarm:
    """The line changed. `kind`: covariate_drift, defect_surge or camera_fault.

    `test`: page_hinkley, tail (more bad parts than the line ever had, after it drifted), repeats (a frozen camera) or
    unusable (a camera that shows no part). `reference` and `observed` are in the signal's own units, `effect` is their
    distance in robust standard deviations; `since_image_id` is the first image after the estimated change,
    `before_image_id` the last one before it, if it is still known; `after_images` counts the images judged before the
    alarm image. `confidence`: 0 to 1; `evidence`: why, in words; `shape`: step or ramp; `where`: how far the bulk of
    each field of the image moved.
    """

    kind: str
    signal: str
    test: str
    reference: float
    observed: float
    effect: float
    since_image_id: str
    alarm_image_id: str
    after_images: int
    before_image_id: str | None = None
    confidence: float = 1.0
    evidence: tuple[str, ...] = ()
    shape: str = STEP
    where: tuple[float, ...] = ()


@dataclass(frozen=True)
class MonitorState:
    """What a monitor has become, to compare two of them: equal after the same images (state is rebuilt by replay,
    never pickled).
    """

    judged: int
    rejected: int
    recent: tuple[str, ...]
    averages: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class _Seen:
    """One image as the monitor keeps it: its signals in their own units; clipped scores of them and of the flag."""

    image_id: str
    raw: Array
    z: Array


class LineMonitor:
    """Watches the verdicts of one model version on one line.

    `expected_run_length`: images between false alarms of the whole monitor, all signals and tests together. After an
    alarm the monitor starts again from what it knew before the change, so a change that stays is found again. After
    the first `CONFIRMED_AFTER` images it looks whether the line's images hang together more than those of the
    reference did, and widens its thresholds if so; `notes` says it. Raises InvalidInput for a reference that is too
    small or not finite.

    >>> rng = np.random.default_rng(0)
    >>> def part(shift):
    ...     bulk = 1 + (rng.normal() + shift) / 10
    ...     return Signals(peak=2 + rng.normal(), bulk=bulk, mean=120.0, contrast=30.0, sharpness=9.0)
    >>> known = [part(0) for _ in range(60)]
    >>> names = ("peak", "bulk", "mean", "contrast", "sharpness")
    >>> reference = DriftReference(**{name: tuple(getattr(each, name) for each in known) for name in names})
    >>> monitor = LineMonitor(reference, expected_run_length=10_000)
    >>> any(monitor.update(f"steady-{n}", part(0), flagged=False) for n in range(100))
    False
    >>> alarms = [alarm for n in range(20) for alarm in monitor.update(f"changed-{n}", part(3), flagged=False)]
    >>> alarms[0].kind, alarms[0].signal
    ('covariate_drift', 'bulk')
    """

    def __init__(self, reference: DriftReference, *, expected_run_length: int, seed: int = 0) -> None:
        self.names, self._reference_NS = _table(reference)
        if expected_run_length < 1:
            raise InvalidInput(f"expected_run_length {expected_run_length}: must be 1 or more; 10000 is the default")
        self._run_length, self._seed = float(expected_run_length), seed
        self.calibration = self._calibrated()
        self.notes: tuple[str, ...] = ()
        self._usable = Usable.of(self.names, self._reference_NS)
        self._judged = self.rejected = 0
        self._recent: deque[_Seen] = deque(maxlen=RECENT)
        self._unusable: list[str] = []
        self._repeats = 0
        self._since_alarm: int | None = None
        self._since_change: int | None = None
        self._mean_S = np.append(self.calibration.prime_S, 0.0)
        self._weight_S = np.append(np.full(len(self.names), float(self.calibration.weight)), float(FLAG_WEIGHT))
        self._sum_S, self._count_S = self._mean_S * self._weight_S, self._weight_S
        self._arm()

    @property
    def state(self) -> MonitorState:
        """What the monitor has become: for comparing, not for storing."""
        return MonitorState(
            judged=self._judged,
            rejected=self.rejected,
            recent=tuple(seen.image_id for seen in self._recent),
            averages=tuple((self._sum_S / self._count_S).tolist()),
            thresholds=tuple(self.calibration.thresholds_2S.ravel().tolist()),
        )

    def update(self, image_id: str, signals: Signals, *, flagged: bool) -> tuple[Alarm, ...]:
        """Take one verdict in; the alarms it raises: none, one, or two where the line and its parts changed at once.

        An image with a signal that is not finite is counted and left out.
        """
        raw_S = self._row(signals)
        self._judged += 1
        if not np.isfinite(raw_S).all():
            self.rejected += 1
            return ()
        fault = self._look_for_fault(image_id, raw_S, flagged)
        if fault is not None or self._unusable:
            return () if fault is None else (fault,)
        z_S = self._recent[-1].z
        self._sum_S, self._count_S = self._sum_S + z_S, self._count_S + 1
        alarms = self._alarms(self._fired(z_S)) or self._asked_again()
        if alarms:
            self._note(alarms)
        elif self._since_alarm is not None:
            self._since_alarm += 1
            self._since_change = self._since_change and self._since_change + 1
            if self._since_alarm >= QUIET_IMAGES:
                self._since_alarm = self._since_change = None
        elif self._judged == CONFIRMED_AFTER:
            self._confirm()
        return alarms

    def follow(self, verdicts: Iterable[Verdict]) -> Iterator[tuple[Verdict, tuple[Alarm, ...]]]:
        """Take many verdicts in, in their order; those that raised alarms, with these."""
        for verdict in verdicts:
            alarms = self.update(verdict.image_id, verdict.signals, flagged=verdict.flagged)
            if alarms:
                yield verdict, alarms

    def _row(self, signals: Signals) -> Array:
        """Signals in the order of `names`; what an older scorer did not say is taken to be usual."""
        numbers = [getattr(signals, name) for name in self.names if name not in FIELDS]
        fields = signals.regions if len(signals.regions) == len(FIELDS) else (None,) * len(FIELDS)
        said = [*numbers, *fields][: len(self.names)]
        usual = self.calibration.scale.centre
        return np.array([at if value is None else value for value, at in zip(said, usual, strict=True)])

    def _calibrated(self, least_correlation: float = 0.0) -> Calibration:
        return calibrate(
            self.names, self._reference_NS, run_length=self._run_length, rng=np.random.default_rng(self._seed),
            least_correlation=least_correlation,
        )  # fmt: skip

    def _look_for_fault(self, image_id: str, raw_S: Array, flagged: bool) -> Alarm | None:
        """Keep an image that shows a part; tell a camera that has shown none, or always the same, for some images."""
        reason = self._usable.fault(raw_S)
        if reason is not None:
            self._unusable.append(image_id)
            if len(self._unusable) % FAULTY:
                return None
            return self._fault(UNUSABLE, self._unusable[-FAULTY], image_id, raw_S, reason)
        self._unusable.clear()
        z_S = np.append(
            np.clip(self.calibration.scale.standard(raw_S), -CLIP, CLIP), (flagged - BAD_PARTS) / FLAG_SPREAD
        )
        again = bool(self._recent) and np.array_equal(self._recent[-1].raw, raw_S)
        self._repeats = self._repeats + 1 if again else 0
        self._recent.append(_Seen(image_id, raw_S, z_S))
        if self._repeats < FAULTY:
            return None
        first = self._recent[-1 - min(self._repeats, len(self._recent) - 1)].image_id
        self._repeats = 0
        return self._fault(REPEATS, first, image_id, raw_S, "the same image again and again")

    def _fault(self, test: str, since: str, image_id: str, raw_S: Array, reason: str) -> Alarm:
        z_S = self.calibration.scale.standard(raw_S)
        at = int(np.argmax(np.abs(z_S)))
        alarm = Alarm(
            kind=FAULT, signal=self.names[at], test=test, reference=float(self.calibration.scale.centre[at]),
            observed=float(raw_S[at]), effect=float(z_S[at]), since_image_id=since, alarm_image_id=image_id,
            after_images=self._judged - 1, before_image_id=None, evidence=(reason,),
        )  # fmt: skip
        self._arm()
        return alarm

    def _note(self, alarms: tuple[Alarm, ...]) -> None:
        """Start again from what was known before the change, of which only the first alarm of a row can tell."""
        images = self._images_after(alarms[0].since_image_id)
        if self._since_alarm is None:
            last = np.sum([seen.z for seen in list(self._recent)[-images:]], axis=0)
            self._mean_S = (self._sum_S - last) / (self._count_S - images)
            self._weight_S = np.maximum(self._weight_S, self._count_S - images)
        self._since_alarm = 0
        if self._since_change is None and any(alarm.kind == COVARIATE for alarm in alarms):
            self._since_change = images
        self._arm()

    def _arm(self) -> None:
        self._sum_S, self._count_S = self._mean_S * self._weight_S, self._weight_S
        self._armed_for = 0
        dead, limits = self.calibration.dead_zones_2S, self.calibration.thresholds_2S
        self._tests: list[tuple[int, float, Any]] = [
            (
                signal,
                float(dead[test, signal]),
                self._primed(float(limits[test, signal]), float(dead[test, signal]), signal),
            )
            for test in range(2)
            for signal in range(len(self.names))
        ]
        flags = len(self.names)
        self._tests.append(
            (flags, FLAG_DEAD_ZONE, self._primed(self.calibration.flag_threshold, FLAG_DEAD_ZONE, flags))
        )

    def _primed(self, threshold: float, delta: float, watched: int) -> Any:
        """river's test as it is after the images of the reference, each at their mean, with its sums at rest."""
        mode = "up" if watched == len(self.names) else "both"
        # alpha 1: with river's 0.9999 the dead zone fades away within 10,000 images.
        test: Any = drift.PageHinkley(min_instances=1, delta=delta, threshold=threshold, alpha=1.0, mode=mode)
        test._x_mean.update(float(self._mean_S[watched]), float(self._weight_S[watched]))
        test._min_increase = test._max_decrease = 0.0
        return test

    def _fired(self, z_S: Array) -> list[tuple[int, int]]:
        """What was watched by the tests that fired on this image, and how many of the last images lie after the
        estimated change.
        """
        self._armed_for += 1
        fired = []
        for watched, delta, test in self._tests:
            test.update(float(z_S[watched]))
            if test.drift_detected:
                fired.append((watched, self._images_since(watched, delta)))
        return fired

    def _images_since(self, watched: int, delta: float) -> int:
        """How many of the images since the last start lie after the lowest point of the cumulative sum: Page-Hinkley's
        estimate of the change.
        """
        z_T = np.array([seen.z[watched] for seen in list(self._recent)[-self._armed_for :]])
        dev_T = z_T - self._sum_S[watched] / self._count_S[watched]
        sums = np.concatenate((np.zeros((2, 1)), np.cumsum(np.stack((dev_T, -dev_T)) - delta, axis=1)), axis=1)
        side = int(np.argmax(sums[:, -1] - sums[:, :-1].min(axis=1)))
        return len(dev_T) - int(np.argmin(sums[side, :-1]))

    def _images_after(self, since: str) -> int:
        ids = [seen.image_id for seen in self._recent]
        return len(ids) - ids.index(since)

    def _shift(self, images: int) -> Array:
        """Shift over the last images, in robust sd: mean of clipped scores, or the plain median where that is off the
        clip; the flag last.
        """
        last = list(self._recent)[-images:]
        shift_S = np.mean([seen.z for seen in last], axis=0) - self._mean_S
        median_S = self.calibration.scale.standard(np.median([seen.raw for seen in last], axis=0))
        shift_S[:-1] = np.where(np.abs(median_S) < CLIP, shift_S[:-1], median_S)
        return np.asarray(shift_S)

    def _z(self, images: int) -> Array:
        """Robust scores of the last images, not clipped, `(T, S)`."""
        return self.calibration.scale.standard(np.array([seen.raw for seen in list(self._recent)[-images:]]))

    def _alarms(self, fired: list[tuple[int, int]]) -> tuple[Alarm, ...]:
        if not fired:
            return ()
        watched, images = max(fired, key=lambda each: abs(self._shift(each[1])[each[0]]))
        name = (*self.names, FLAGGED)[watched]
        finding = classify(self.names, self._z(images), name)
        return self._told(finding, watched, images, PAGE_HINKLEY)

    def _asked_again(self) -> tuple[Alarm, ...]:
        """Once a line has drifted, whether its parts got worse as well shows only with more images."""
        if self._since_change not in _ASKED_AGAIN:
            return ()
        images = min(self._since_change, len(self._recent))
        bad, chance = bad_parts(self._z(images)[:, self.names.index(PEAK)])
        if chance >= _SURE or bad < _BAD_SHARE * images:
            return ()
        finding = Finding((SURGE,), 1 - chance, (f"{bad} of {images} images far above the median of their peaks",))
        return self._told(finding, self.names.index(PEAK), images, TAIL)

    def _told(self, finding: Finding, watched: int, images: int, test: str) -> tuple[Alarm, ...]:
        z_TS, shift_S = self._z(images), self._shift(images)
        flags = len(self.names)
        seen = self._recent[-images - 1].image_id if images < len(self._recent) else None
        return tuple(
            Alarm(
                kind=kind,
                signal=(*self.names, FLAGGED)[watched],
                test=test,
                reference=BAD_PARTS if watched == flags else float(self.calibration.scale.centre[watched]),
                observed=self._observed(watched, shift_S),
                effect=float(shift_S[watched]),
                since_image_id=self._recent[-images].image_id,
                alarm_image_id=self._recent[-1].image_id,
                after_images=self._judged - 1,
                before_image_id=seen,
                confidence=round(finding.confidence, 3),
                evidence=finding.evidence,
                shape=STEP if watched == flags else shape_of(z_TS[:, watched]),
                where=drift_map(self.names, z_TS),
            )
            for kind in finding.kinds
        )

    def _observed(self, watched: int, shift_S: Array) -> float:
        if watched == len(self.names):
            return BAD_PARTS + float(shift_S[-1]) * FLAG_SPREAD
        return float(self.calibration.scale.raw(shift_S[:-1])[watched])

    def _confirm(self) -> None:
        """Whether the first live images hang together more than those of the reference: if so, wider thresholds."""
        live_S = autocorrelation(np.array([seen.z[:-1] for seen in self._recent]))
        known_S = self.calibration.correlation_S
        more = float(np.mean(live_S - known_S))
        if more <= _MORE_CORRELATED / np.sqrt(CONFIRMED_AFTER * len(live_S) / 4):
            return
        live = float(np.median(live_S))
        self.calibration = self._calibrated(least_correlation=live)
        self.notes += (
            f"neighbouring images are alike (correlation {live:.2f}, {float(np.median(known_S)):.2f} on the reference): "
            "thresholds were widened, small changes take longer to be found",
        )
        self._arm()


def _table(reference: DriftReference) -> tuple[tuple[str, ...], Array]:
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
