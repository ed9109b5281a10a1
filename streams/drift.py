"""The watch over one line under one model version: has the line changed, where, and is it the line or its parts?

Every signal becomes a robust z-score against the model's own reference, then goes through two of river's Page-Hinkley tests (a fast one
for steps, a slow one for small shifts); how suspicious images are, for a surge of bad parts, goes through one.
No textbook defaults: all thresholds come together from a
block bootstrap of the reference. This is the only module that knows river; importing it takes seconds.

Shape legend: N images of the reference, S signals, W what is watched (the signals, then suspicion), T images; tests are (2, W): the fast
and the slow one of each.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import drift, stats

from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from streams.alarms import Alarm, Change, Seen
from streams.bootstrap import Array
from streams.calibrating import (
    CLIP,
    FIELDS,
    OF_PARTS,
    PEAK,
    SHORT,
    SUSPICION,
    SUSPICION_SPREAD,
    Calibration,
    autocorrelation,
    calibrate,
    reference_table,
    suspicion,
)
from streams.camera_faults import Usable
from streams.classifying import COVARIATE, FAULT, SURGE, Finding, classify
from streams.epochs import begins_epoch
from streams.incidents import QUIET_IMAGES
from streams.messages import Signals, Verdict
from streams.streaks import ASKED_AGAIN, Streak, Waiting

RECENT = 512
FAULTY, FAULT_WINDOW = 4, 16
ABSURD = 1e100
"""No signal of an image is so large: one that is, or is not finite, is left out."""
CONFIRMED_AFTER = 100
REPEATS, UNUSABLE, PAGE_HINKLEY, TAIL = "repeats", "unusable", "page_hinkley", "tail"

_MORE_CORRELATED = 2.5
_READ_AT_ONCE, _SHORTEST, _LONGEST = 8192, 64, 2048


@dataclass(frozen=True)
class MonitorState:
    """What a monitor has become, to compare two of them: equal after the same images (state is rebuilt by replay, never pickled)."""

    judged: int
    rejected: int
    recent: tuple[str, ...]
    means: tuple[float, ...]
    sums: tuple[float, ...]


class PageHinkleyTests:
    """river's Page-Hinkley tests of a line side by side.

    They begin as if they had seen a reference of which every image lay at the mean: `arm`. Their statistics can be taken on over many
    images at once, in closed form, as long as none fires: `skip`.
    """

    def __init__(self, calibration: Calibration, run_length: float) -> None:
        self._limits = calibration.thresholds(run_length)
        self._dead = calibration.charts
        self._tests: list[tuple[int, int, Any]] = []

    def arm(self, mean_W: Array, count_W: Array) -> None:
        """Start anew from a mean and the number of images it stands for."""
        # alpha 1: with river's 0.9999 the dead zone fades away within 10,000 images.
        self._tests = [
            (speed, watched, drift.PageHinkley(
                min_instances=1, delta=float(self._dead.up[speed, watched]), threshold=float(self._limits[speed, watched]), alpha=1.0,
                mode="both" if np.isfinite(self._dead.down[speed, watched]) else "up",
            ))
            for speed in range(2) for watched in range(len(mean_W)) if np.isfinite(self._limits[speed, watched])
        ]  # fmt: skip
        self._set(mean_W, count_W, np.zeros((2, 2, len(mean_W))))

    def update(self, z_W: Array) -> list[tuple[int, float]]:
        """One image; what was watched by the tests that fired, and their dead zones."""
        fired = []
        for _, watched, test in self._tests:
            test.update(float(z_W[watched]))
            if test.drift_detected:
                fired.append((watched, float(test.delta)))
        return fired

    def begin_again(self) -> None:
        """Start the sums of those tests anew that just fired; river's own start would forget the mean."""
        mean_W, count_W, sums = self.means, self.counts, self.sums
        for speed, watched, test in self._tests:
            if test.drift_detected:
                test._reset()
                sums[:, speed, watched] = 0.0
        self._set(mean_W, count_W, sums)

    @property
    def means(self) -> Array:
        """Mean of what was watched, the reference included, `(W,)`."""
        return np.array([test._x_mean.get() for speed, _, test in self._tests if speed == 0])

    @property
    def counts(self) -> Array:
        """Images that the means stand for, `(W,)`."""
        return np.array([test._x_mean.n for speed, _, test in self._tests if speed == 0])

    @property
    def sums(self) -> Array:
        """Statistics upwards and downwards, `(2, 2, W)`; 0 for what is not tested."""
        sums = np.zeros((2, *self._limits.shape))
        for speed, watched, test in self._tests:
            sums[0, speed, watched] = test._sum_increase - test._min_increase
            if np.isfinite(self._dead.down[speed, watched]):
                sums[1, speed, watched] = test._max_decrease - test._sum_decrease
        return sums

    def skip(self, z_TW: Array) -> int:
        """Take in the images before the first one that would fire a test; how many these are."""
        count_TW = self.counts + np.arange(1, len(z_TW) + 1)[:, None]
        mean_TW = (self.counts * self.means + np.cumsum(z_TW, axis=0)) / count_TW
        dev_TW = z_TW - mean_TW
        sums = self.sums
        up_T2W = _statistics(sums[0], dev_TW, self._dead.up)
        down_T2W = _statistics(sums[1], -dev_TW, self._dead.down)
        over_T = ((up_T2W > self._limits) | (down_T2W > self._limits)).any(axis=(1, 2))
        quiet = int(np.argmax(over_T)) if over_T.any() else len(z_TW)
        if quiet:
            self._set(mean_TW[quiet - 1], count_TW[quiet - 1], np.stack((up_T2W[quiet - 1], down_T2W[quiet - 1])))
        return quiet

    def _set(self, mean_W: Array, count_W: Array, sums: Array) -> None:
        for speed, watched, test in self._tests:
            test._x_mean = stats.Mean._from_state(float(count_W[watched]), float(mean_W[watched]))
            test._sum_increase, test._min_increase = float(sums[0, speed, watched]), 0.0
            test._sum_decrease, test._max_decrease = -float(sums[1, speed, watched]), 0.0


def _statistics(start_2W: Array, dev_TW: Array, dead_2W: Array) -> Array:
    """Page-Hinkley's statistic upwards after each image, `(T, 2, W)`, from what it was; 0 where nothing is tested."""
    tested = np.isfinite(dead_2W)
    sums_T2W = start_2W + np.cumsum(dev_TW[:, None] - np.where(tested, dead_2W, 0.0), axis=0)
    return np.asarray((sums_T2W - np.minimum(np.minimum.accumulate(sums_T2W, axis=0), 0.0)) * tested)


class LineMonitor:
    """Watches the verdicts of one model version on one line.

    `expected_run_length`: images between false alarms of the whole monitor, all signals and tests together. After an alarm the monitor
    starts again from what it knew before the change, so a change that stays is found again. After the first `CONFIRMED_AFTER` images it
    looks whether the line's images hang together more than those of the reference did, and widens its thresholds if so; `notes` says it.
    It begins anew with each epoch (`streams.epochs`), so that a restart need not live through all that a version has judged.
    `calibration`: of the same reference, if it was made before (it takes a second or two). Raises InvalidInput for a reference that is
    too small or not finite.

    >>> rng = np.random.default_rng(0)
    >>> def part(shift):
    ...     bulk = 1 + (rng.normal() + shift) / 10
    ...     return Signals(peak=2 + rng.normal(), bulk=bulk, mean=120.0, contrast=30.0, sharpness=9.0)
    >>> known = [part(0) for _ in range(60)]
    >>> names = ("peak", "bulk", "mean", "contrast", "sharpness")
    >>> reference = DriftReference(**{name: tuple(getattr(each, name) for each in known) for name in names})
    >>> monitor = LineMonitor(reference, expected_run_length=10_000)
    >>> any(monitor.update(f"steady-{n}", part(0)) for n in range(100))
    False
    >>> alarms = [alarm for n in range(20) for alarm in monitor.update(f"changed-{n}", part(3))]
    >>> alarms[0].kind, alarms[0].signal
    ('covariate_drift', 'bulk')
    """

    def __init__(
        self,
        reference: DriftReference,
        *,
        expected_run_length: int,
        seed: int = 0,
        calibration: Calibration | None = None,
    ) -> None:
        self.names, self._reference_NS = reference_table(reference)
        if expected_run_length < 1:
            raise InvalidInput(f"expected_run_length {expected_run_length}: must be 1 or more; 10000 is the default")
        self._run_length, self._seed = float(expected_run_length), seed
        self.calibration = calibration or calibrate(self.names, self._reference_NS, seed=seed)
        self.notes = _short(self.calibration.weight)
        self._row = _Row(self.names, self.calibration.scale.centre)
        self._usable = Usable.of(self.names, self._reference_NS)
        self._judged = self.rejected = 0
        self._confirmed = False
        self._tests = PageHinkleyTests(self.calibration, self._run_length)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the images seen, but for how many they were and what the first of them taught; by itself at each `begins_epoch`."""
        self._recent: deque[Seen] = deque(maxlen=RECENT)
        self._shown: deque[bool] = deque(maxlen=FAULT_WINDOW)
        self._hidden: deque[str] = deque(maxlen=FAULTY)
        self._repeats = self._untold = 0
        self._streak: Streak | None = None
        self._waiting: Waiting | None = None
        self._known_mean = np.append(self.calibration.prime, 0.0)
        self._known_count = self.calibration.charts.weight
        self._arm()

    @property
    def knows_the_line(self) -> bool:
        """Whether the first images of the version, from which it learns how they hang together, have gone by."""
        return self._confirmed

    def pass_over(self, images: int) -> None:
        """Count images that are not looked at: those between the first ones of the version and an epoch's beginning."""
        self._judged += images

    @property
    def state(self) -> MonitorState:
        """What the monitor has become: for comparing, not for storing."""
        return MonitorState(
            judged=self._judged,
            rejected=self.rejected,
            recent=tuple(seen.image_id for seen in self._recent),
            means=tuple(self._tests.means.round(9).tolist()),
            sums=tuple(self._tests.sums.round(6).ravel().tolist()),
        )

    def update(self, image_id: str, signals: Signals) -> tuple[Alarm, ...]:
        """Take one verdict in; the alarms it raises: none, one, or two where the line and its parts changed at once.

        An image with a signal that is not finite is counted and left out.
        """
        return self._take(image_id, self._row.of(signals))

    def follow(self, verdicts: Iterable[Verdict]) -> Iterator[tuple[Verdict, tuple[Alarm, ...]]]:
        """Take many verdicts in, in their order; those that raised alarms, with these. The same as `update` of each, many times faster."""
        coming = iter(verdicts)
        while chunk := list(islice(coming, _READ_AT_ONCE)):
            raw_TS = np.array([self._row.of(each.signals) for each in chunk])
            yield from ((chunk[at], alarms) for at, alarms in self._follow([each.image_id for each in chunk], raw_TS))

    def _follow(self, ids: Sequence[str], raw_TS: Array) -> Iterator[tuple[int, tuple[Alarm, ...]]]:
        at, stride = 0, _SHORTEST
        begins_T = np.array([begins_epoch(image_id) for image_id in ids])
        while at < len(ids):
            end = min(at + stride, len(ids))
            at += self._skip(ids[at:end], raw_TS[at:end], begins_T[at:end])
            if at == end:
                stride = min(2 * stride, _LONGEST)
                continue
            stride = _SHORTEST
            if alarms := self._take(ids[at], raw_TS[at]):
                yield at, alarms
            at += 1

    def _skip(self, ids: Sequence[str], raw_TS: Array, begins_T: NDArray[np.bool_]) -> int:
        """Take in as many images as go by without anything to decide; how many these are."""
        images = self._undecided(raw_TS, begins_T)
        if images == 0:
            return 0
        z_TW = self._z(raw_TS[:images])
        images = self._tests.skip(z_TW)
        self._judged += images
        self._armed_for += images
        first = max(0, images - RECENT)
        self._recent.extend(Seen(ids[at], raw_TS[at], z_TW[at]) for at in range(first, images))
        self._age(images)
        return images

    def _undecided(self, raw_TS: Array, begins_T: NDArray[np.bool_]) -> int:
        """How many images may be taken in at once: up to the first that shows no part, repeats the one before, is not finite or begins an
        epoch, and up to when the monitor looks again at what it has seen.
        """
        if not self._confirmed or not all(self._shown) or self._repeats or self._waiting:
            return 0
        again_T = (
            np.all(raw_TS == np.vstack((self._recent[-1].raw, raw_TS[:-1])), axis=1)
            if self._recent
            else np.zeros(len(raw_TS), bool)
        )
        plain_T = (np.abs(raw_TS) < ABSURD).all(axis=1) & self._usable.shows(raw_TS) & ~again_T & ~begins_T
        images = len(raw_TS) if plain_T.all() else int(np.argmin(plain_T))
        return images if self._streak is None else min(images, self._streak.undecided)

    def _take(self, image_id: str, raw_S: Array) -> tuple[Alarm, ...]:
        if self.knows_the_line and begins_epoch(image_id):
            self.begin_anew()
        self._judged += 1
        if not (np.abs(raw_S) < ABSURD).all():
            self.rejected += 1
            return ()
        fault = self._usable.fault(raw_S)
        self._shown.append(fault is None)
        if fault is not None:
            return self._not_shown(image_id, raw_S, fault)
        self._untold = 0 if all(self._shown) else self._untold
        if frozen := self._frozen(image_id, raw_S):
            return frozen
        self._armed_for += 1
        alarms = self._told(self._fired()) or self._waited() or self._asked_again()
        self._age(1)
        if alarms:
            self._note(alarms)
        if not self._confirmed and len(self._recent) >= CONFIRMED_AFTER:
            self._confirm()
        return alarms

    def _age(self, images: int) -> None:
        """So many more images; a streak of alarms ends with `QUIET_IMAGES` without one."""
        if self._streak is not None:
            self._streak.age(images)
            if self._streak.quiet >= QUIET_IMAGES:
                self._streak = None

    def _z(self, raw_TS: Array) -> Array:
        """Clipped scores of signals, then that of suspicion, `(T, W)`."""
        z_TS = np.clip(self.calibration.scale.standard(raw_TS), -CLIP, CLIP)
        suspicion_T = suspicion(z_TS[:, self.names.index(PEAK)])
        return np.column_stack((z_TS, (suspicion_T - self.calibration.suspicion) / SUSPICION_SPREAD))

    def _not_shown(self, image_id: str, raw_S: Array, reason: str) -> tuple[Alarm, ...]:
        """A camera fault, if `FAULTY` of the latest `FAULT_WINDOW` images showed no part, and again after so many more."""
        self._hidden.append(image_id)
        self._untold += 1
        if self._untold < FAULTY or self._shown.count(False) < FAULTY:
            return ()
        self._untold = 0
        return (self._fault(UNUSABLE, self._hidden[0], image_id, raw_S, reason),)

    def _frozen(self, image_id: str, raw_S: Array) -> tuple[Alarm, ...]:
        """Keep an image that shows a part; a camera fault if it is the same again and again."""
        again = bool(self._recent) and np.array_equal(self._recent[-1].raw, raw_S)
        self._repeats = self._repeats + 1 if again else 0
        self._recent.append(Seen(image_id, raw_S, self._z(raw_S[None])[0]))
        if self._repeats < FAULTY:
            return ()
        first = self._recent[-1 - min(self._repeats, len(self._recent) - 1)].image_id
        self._repeats = 0
        return (self._fault(REPEATS, first, image_id, raw_S, "the same image again and again"),)

    def _fault(self, test: str, since: str, image_id: str, raw_S: Array, reason: str) -> Alarm:
        z_S = self.calibration.scale.standard(raw_S)
        at = int(np.argmax(np.abs(z_S)))
        before = self._recent[-1].image_id if test == UNUSABLE and self._recent else None
        alarm = Alarm(
            kind=FAULT, signal=self.names[at], test=test, reference=float(self.calibration.scale.centre[at]),
            observed=float(raw_S[at]), effect=float(z_S[at]), since_image_id=since, alarm_image_id=image_id,
            after_images=self._judged - 1, before_image_id=before, evidence=(reason,),
        )  # fmt: skip
        self._arm()
        return alarm

    def _note(self, alarms: tuple[Alarm, ...]) -> None:
        """Start again from what was known before the change, of which only the first alarm of a row can tell."""
        images = self._images_after(alarms[0].since_image_id)
        if self._streak is None:
            count_W, last = self._tests.counts, np.sum([seen.z for seen in self._last(images)], axis=0)
            self._known_mean = (self._tests.means * count_W - last) / (count_W - images)
            self._known_count = np.maximum(self._known_count, count_W - images)
            self._streak = Streak(images)
        self._streak.quiet = 0
        self._waiting = None
        if any(alarm.kind == COVARIATE for alarm in alarms):
            self._streak.drifted(images)
        self._arm()

    def _arm(self) -> None:
        self._armed_for = 0
        self._tests.arm(self._known_mean, self._known_count)

    def _fired(self) -> list[tuple[int, int]]:
        """What was watched by the tests that fired on the latest image, and how many of the last images lie after the estimated change."""
        return [
            (watched, self._images_since(watched, dead)) for watched, dead in self._tests.update(self._recent[-1].z)
        ]

    def _images_since(self, watched: int, dead_zone: float) -> int:
        """How many of the images since the last start lie after the lowest point of the cumulative sum: Page-Hinkley's estimate of the
        change.
        """
        z_T = np.array([seen.z[watched] for seen in self._last(self._armed_for)])
        dev_T = z_T - self._tests.means[watched]
        sums = np.concatenate((np.zeros((2, 1)), np.cumsum(np.stack((dev_T, -dev_T)) - dead_zone, axis=1)), axis=1)
        side = int(np.argmax(sums[:, -1] - sums[:, :-1].min(axis=1)))
        return len(dev_T) - int(np.argmin(sums[side, :-1]))

    def _images_after(self, since: str) -> int:
        ids = [seen.image_id for seen in self._recent]
        return len(ids) - ids.index(since)

    def _last(self, images: int) -> list[Seen]:
        return list(self._recent)[-images:]

    def _change(self, images: int) -> Change:
        seen = list(self._recent)
        return Change(self.calibration, self._known_mean, seen[-images:], seen[:-images], self.notes)

    def _told(self, fired: list[tuple[int, int]]) -> tuple[Alarm, ...]:
        """The alarms of tests that fired; a surge that would be the first of its streak waits."""
        if not fired:
            return ()
        watched, images = max(fired, key=lambda each: abs(self._change(each[1]).shift[each[0]]))
        finding = self._finding(watched, images)
        if finding.kinds == (SURGE,) and self._streak is None:
            self._waiting = self._waiting or Waiting(watched, images)
            self._tests.begin_again()
            return ()
        return self._change(images).alarms(finding, watched, test=PAGE_HINKLEY, after_images=self._judged - 1)

    def _finding(self, watched: int, images: int) -> Finding:
        """The kind of a change. Of a few more bad parts a median tells nothing, so all images since the streak began are asked."""
        change, name = self._change(images), (*self.names, SUSPICION)[watched]
        if name in OF_PARTS and self._streak is not None:
            change = self._change(min(self._streak.since_change, len(self._recent)))
        return classify(self.names, change.z, name, change.parts)

    def _waited(self) -> tuple[Alarm, ...]:
        """A surge is told some images after its test fired: a change of light lifts the peaks of parts as well, often before anything else
        fires. As long as the latest images look like such a change, it waits on.
        """
        waiting = self._waiting
        if waiting is None or not waiting.is_over():
            return ()
        change = self._change(Waiting.IMAGES)
        latest = classify(self.names, change.z, SUSPICION, change.parts)
        if COVARIATE in latest.kinds:
            self._waiting = Waiting(waiting.watched, waiting.images)
            return ()
        images = min(waiting.images, len(self._recent))
        finding = self._finding(waiting.watched, images)
        return self._change(images).alarms(finding, waiting.watched, test=PAGE_HINKLEY, after_images=self._judged - 1)

    def _asked_again(self) -> tuple[Alarm, ...]:
        """Once a line has drifted, whether its parts got worse as well shows only with more images."""
        if self._streak is None or not self._streak.asks():
            return ()
        change = self._change(min(self._streak.since_drift or 1, ASKED_AGAIN[-1], len(self._recent)))
        parts = change.parts
        if not parts.got_worse:
            return ()
        finding = Finding((SURGE,), parts.confidence, (parts.words,))
        return change.alarms(finding, self.names.index(PEAK), test=TAIL, after_images=self._judged - 1)

    def _confirm(self) -> None:
        """Whether the first live images hang together more than those of the reference: if so, wider thresholds."""
        self._confirmed = True
        live_S = autocorrelation(self._level())
        known_S = self.calibration.correlation
        more = float(np.mean(live_S - known_S))
        if more <= _MORE_CORRELATED / np.sqrt(len(self._recent) * len(live_S) / 4):
            return
        live = float(np.median(live_S))
        self.calibration = calibrate(self.names, self._reference_NS, seed=self._seed, least_correlation=live)
        self.notes += (
            f"neighbouring images are alike (correlation {live:.2f}, {float(np.median(known_S)):.2f} on the reference): "
            "thresholds were widened, small changes take longer to be found",
        )
        self._tests = PageHinkleyTests(self.calibration, self._run_length)
        self._arm()

    def _level(self) -> Array:
        """Scores of the images seen, `(T, S)`, without the step of a change that was found among them."""
        z_TS = np.array([seen.z[:-1] for seen in self._recent])
        since = 0 if self._streak is None else min(self._streak.since_change, len(z_TS))
        parts = (z_TS[: len(z_TS) - since], z_TS[len(z_TS) - since :])
        return np.concatenate([part - part.mean(axis=0) for part in parts if len(part)])


def _short(images: int) -> tuple[str, ...]:
    if images >= SHORT:
        return ()
    return (
        f"the reference has {images} images: changes must be larger to be told from chance than with {SHORT} or more",
    )


class _Row:
    """Signals in the order of names; what an older scorer did not say is taken to be usual."""

    def __init__(self, names: tuple[str, ...], usual_S: Array) -> None:
        numbers = [name for name in names if name not in FIELDS]
        self._numbers = attrgetter(*numbers)
        self._fields = len(names) > len(numbers)
        self._usual = usual_S

    def of(self, signals: Signals) -> Array:
        """The signals of one image, `(S,)`."""
        said = self._numbers(signals)
        if self._fields:
            said += signals.regions if len(signals.regions) == len(FIELDS) else (None,) * len(FIELDS)
        if None in said:
            said = tuple(at if value is None else value for value, at in zip(said, self._usual, strict=True))
        return np.array(said, dtype=np.float64)
