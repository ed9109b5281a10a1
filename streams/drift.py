"""The watch over one line under one model version: has the line changed, where, and is it the line or its parts?

Every signal becomes a robust z-score against the model's own reference, then goes through river's Page-Hinkley (fast
for steps) and ADWIN (slow and small changes); the flags go through Page-Hinkley as a rate. No textbook defaults:
Page-Hinkley's thresholds come from a block bootstrap of the reference. This is the only module that knows river;
importing it takes seconds.

Shape legend: N images of the reference, S what is watched (the signals, then the flag), R bootstrap paths, T images
of a path.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import drift

from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from streams.calibrating import (
    BAD_PARTS,
    BULK,
    CLIP,
    CONTRAST,
    FLAG_DEAD_ZONE,
    FLAG_SPREAD,
    FLAG_WEIGHT,
    FLAGS,
    MEAN,
    PEAK,
    SIGNALS,
    Array,
    Scale,
    calibrate,
    dead_zone,
)
from streams.messages import Signals

FLAGGED = "flagged"
WATCHED = (*SIGNALS, FLAGGED)
MOVED = 1.0
SMALLEST_REFERENCE = 10
RECENT = 256
REPEATS = 10
FROZEN = "repeats"
BLACK, BLOWN, FLAT = 4.0, 251.0, 0.15

_ADWIN_CLOCK = 8
_CAUTION = 5


@dataclass(frozen=True)
class Alarm:
    """The line changed. `kind`: covariate_drift, defect_surge or camera_fault.

    `test`: page_hinkley, adwin, or repeats (a frozen camera). `reference` and `observed` are in the signal's own
    units, `effect` is their distance in robust standard deviations; `since_image_id` is the first image after the
    estimated change; `after_images` counts the images judged before the alarm image.
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


@dataclass(frozen=True)
class MonitorState:
    """What a monitor has become, to compare two of them: equal after the same images (state is rebuilt by replay,
    never pickled).
    """

    judged: int
    rejected: int
    recent: tuple[str, ...]
    windows: tuple[int, ...]
    averages: tuple[float, ...]


@dataclass(frozen=True)
class _Seen:
    """One image as the monitor keeps it: its signals in their own units; clipped scores of them and of the flag."""

    image_id: str
    raw: Array
    z: Array


class LineMonitor:
    """Watches the verdicts of one model version on one line.

    `expected_run_length`: images between false alarms of the whole monitor, all signals and both tests together.
    After an alarm the monitor starts again from the reference, so a change that stays is found again. Raises
    InvalidInput for a reference that is too small or not finite.

    >>> rng = np.random.default_rng(0)
    >>> def part(shift):
    ...     bulk = 1 + (rng.normal() + shift) / 10
    ...     return Signals(peak=2 + rng.normal(), bulk=bulk, mean=120.0, contrast=30.0, sharpness=9.0)
    >>> known = [part(0) for _ in range(60)]
    >>> reference = DriftReference(**{name: tuple(getattr(each, name) for each in known) for name in SIGNALS})
    >>> monitor = LineMonitor(reference, expected_run_length=10_000)
    >>> any(monitor.update(f"steady-{n}", part(0), flagged=False) for n in range(100))
    False
    >>> alarms = [monitor.update(f"changed-{n}", part(3), flagged=False) for n in range(20)]
    >>> next((alarm.kind, alarm.signal) for alarm in alarms if alarm)
    ('covariate_drift', 'bulk')
    """

    def __init__(self, reference: DriftReference, *, expected_run_length: int, seed: int = 0) -> None:
        reference_NS = _table(reference)
        if expected_run_length < 1:
            raise InvalidInput(f"expected_run_length {expected_run_length}: must be 1 or more; 10000 is the default")
        rng = np.random.default_rng(seed)
        self._scale = Scale.of(reference_NS)
        self._delta_S = np.array([dead_zone(len(reference_NS))] * len(SIGNALS) + [FLAG_DEAD_ZONE])
        self._weight_S = np.array([len(reference_NS)] * len(SIGNALS) + [FLAG_WEIGHT], dtype=np.float64)
        self._primer_NS = rng.permutation(np.clip(self._scale.standard(reference_NS), -CLIP, CLIP))
        self._prime_S = np.append(self._primer_NS.mean(axis=0), 0.0)
        share = (len(WATCHED) + len(SIGNALS)) * _CAUTION * float(expected_run_length)
        self.thresholds = calibrate(reference_NS, run_length=share, rng=rng)
        self._adwin_delta = min(_ADWIN_CLOCK / share, 0.1)
        self._judged = self.rejected = self._frozen = 0
        self._count_S: Array = self._weight_S
        self._sum_S: Array = self._prime_S
        self._recent: deque[_Seen] = deque(maxlen=RECENT)
        self._arm()

    @property
    def state(self) -> MonitorState:
        """What the monitor has become: for comparing, not for storing."""
        return MonitorState(
            judged=self._judged,
            rejected=self.rejected,
            recent=tuple(seen.image_id for seen in self._recent),
            windows=tuple(int(adwin.width) for adwin in self._adwins),
            averages=tuple((self._sum_S / self._count_S).tolist()),
        )

    def update(self, image_id: str, signals: Signals, *, flagged: bool) -> Alarm | None:
        """Take one verdict in; the alarm it raises, if any. An image with a signal that is not finite is counted and
        left out.
        """
        raw_S = np.array([getattr(signals, name) for name in SIGNALS], dtype=np.float64)
        self._judged += 1
        if not np.isfinite(raw_S).all():
            self.rejected += 1
            return None
        z_S = np.append(np.clip(self._scale.standard(raw_S), -CLIP, CLIP), (flagged - BAD_PARTS) / FLAG_SPREAD)
        self._frozen = self._frozen + 1 if self._recent and np.array_equal(self._recent[-1].raw, raw_S) else 0
        self._recent.append(_Seen(image_id, raw_S, z_S))
        self._sum_S = self._sum_S + z_S
        self._count_S = self._count_S + 1
        alarm = self._alarm(self._fired(z_S))
        if alarm:
            self._arm()
        return alarm

    def _arm(self) -> None:
        """Start again from the reference. Page-Hinkley needs its mean (fed so that its sums start clean), ADWIN all
        of it.
        """
        self._recent.clear()
        self._frozen = 0
        self._count_S, self._sum_S = self._weight_S, self._prime_S * self._weight_S
        self._hinkleys = [self._hinkley(watched) for watched in range(len(WATCHED))]
        self._adwins = [self._adwin(signal) for signal in range(len(SIGNALS))]

    def _hinkley(self, watched: int) -> Any:
        # alpha 1: with river's 0.9999 the dead zone fades away within 10,000 images.
        hinkley: Any = drift.PageHinkley(
            min_instances=1,
            delta=float(self._delta_S[watched]),
            threshold=float(self.thresholds[watched]),
            alpha=1.0,
            mode="up" if watched == FLAGS else "both",
        )
        for _ in range(int(self._weight_S[watched])):
            hinkley.update(float(self._prime_S[watched]))
        return hinkley

    def _adwin(self, signal: int) -> Any:
        kind: Any = drift.ADWIN
        adwin = kind(delta=self._adwin_delta, clock=_ADWIN_CLOCK)
        for z in self._primer_NS[:, signal]:
            adwin.update(float(z))
        return adwin

    def _fired(self, z_S: Array) -> list[tuple[int, str, int]]:
        """Tests that fired on this image: what was watched, test, and how many of the last images lie after the
        estimated change.
        """
        fired = []
        for watched, hinkley in enumerate(self._hinkleys):
            hinkley.update(float(z_S[watched]))
            if hinkley.drift_detected:
                fired.append((watched, "page_hinkley", self._images_since(watched)))
        for signal, adwin in enumerate(self._adwins):
            adwin.update(float(z_S[signal]))
            if adwin.drift_detected:
                images = min(int(adwin.width), len(self._recent))
                self._adwins[signal] = self._adwin(signal)
                if abs(self._shift(images)[signal]) > self._delta_S[signal]:
                    fired.append((signal, "adwin", images))
        if self._frozen >= REPEATS:
            fired.append((CONTRAST, FROZEN, self._frozen + 1))
        return fired

    def _images_since(self, watched: int) -> int:
        """How many of the recent images lie after the lowest point of the cumulative sum: Page-Hinkley's estimate of
        the change.
        """
        dev = np.array([seen.z[watched] for seen in self._recent]) - self._sum_S[watched] / self._count_S[watched]
        steps = np.stack((dev, -dev)) - self._delta_S[watched]
        sums = np.concatenate((np.zeros((2, 1)), np.cumsum(steps, axis=1)), axis=1)
        side = int(np.argmax(sums[:, -1] - sums[:, :-1].min(axis=1)))
        return len(dev) - int(np.argmin(sums[side, :-1]))

    def _shift(self, images: int) -> Array:
        """Shift over the last images, in robust sd: mean of clipped scores, or the plain median where that is off the
        clip.
        """
        last = list(self._recent)[-images:]
        shift_S = np.mean([seen.z for seen in last], axis=0) - self._prime_S
        median_S = self._scale.standard(np.median([seen.raw for seen in last], axis=0))
        shift_S[:FLAGS] = np.where(np.abs(median_S) < CLIP, shift_S[:FLAGS], median_S)
        return np.asarray(shift_S)

    def _alarm(self, fired: list[tuple[int, str, int]]) -> Alarm | None:
        if not fired:
            return None
        watched, test, images = max(fired, key=lambda each: (each[1] == FROZEN, abs(self._shift(each[2])[each[0]])))
        shift_S = self._shift(images)
        return Alarm(
            kind=self._kind(watched, test, images),
            signal=WATCHED[watched],
            test=test,
            reference=BAD_PARTS if watched == FLAGS else float(self._scale.centre[watched]),
            observed=self._observed(watched, shift_S),
            effect=float(shift_S[watched]),
            since_image_id=self._recent[-images].image_id,
            alarm_image_id=self._recent[-1].image_id,
            after_images=self._judged - 1,
        )

    def _observed(self, watched: int, shift_S: Array) -> float:
        if watched == FLAGS:
            return BAD_PARTS + float(shift_S[FLAGS]) * FLAG_SPREAD
        return float(self._scale.raw(shift_S[:FLAGS])[watched])

    def _kind(self, watched: int, test: str, images: int) -> str:
        raw_S = np.median([seen.raw for seen in list(self._recent)[-images:]], axis=0)
        flat = raw_S[CONTRAST] < FLAT * self._scale.centre[CONTRAST]
        if test == FROZEN or flat or not BLACK <= raw_S[MEAN] <= BLOWN:
            return "camera_fault"
        shift_S = self._shift(images)
        needed_S = np.full(len(WATCHED), max(MOVED, 3 / np.sqrt(images)))
        needed_S[watched] = MOVED
        # A bad part moves bulk by about 1 and peak by much more; a change of the line moves bulk more than peak
        # (design, decision 5).
        needed_S[BULK] = max(needed_S[BULK], abs(shift_S[PEAK]) / 2)
        moved = bool((np.abs(shift_S) >= needed_S)[BULK:FLAGS].any())
        return "defect_surge" if watched in (PEAK, FLAGS) and not moved else "covariate_drift"


def _table(reference: DriftReference) -> Array:
    """The reference as `(N, S)`; raises InvalidInput where it is too small, not aligned or not finite."""
    columns = [getattr(reference, name) for name in SIGNALS]
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
    return table
