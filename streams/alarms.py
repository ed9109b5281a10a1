"""What an alarm says: which signal moved how far, since which image, of what kind, how sure, and where in the image.

Shape legend: S signals, W what is watched (the signals, then suspicion), T images since the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streams.bootstrap import Array
from streams.calibrating import CLIP, SUSPICION, SUSPICION_SPREAD, Calibration
from streams.classifying import LOCAL_MARGIN, MARGIN, STEP, Finding, Measure, Parts, drift_map, shape_of


@dataclass(frozen=True)
class Alarm:
    """The line changed. `kind`: covariate_drift, defect_surge or camera_fault.

    `test`: page_hinkley, tail (more bad parts than the line ever had, after it drifted), repeats (a frozen camera) or unusable (a camera
    that shows no part). `reference` and `observed` are in the signal's own units, `effect` is their distance in robust standard
    deviations; `since_image_id` is the first image after the estimated change, `before_image_id` the last one before it, if it is still
    known; `after_images` counts the images judged before the alarm image. `confidence`: 0 to 1; `evidence`: why, in words; `shape`: step
    or ramp; `where`: how far the bulk of each field of the image moved; `images`: how many lie after the estimated change.
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
    images: int = 1


@dataclass(frozen=True)
class Seen:
    """One image as a monitor keeps it: its signals in their own units `(S,)`; clipped scores of them and of suspicion `(W,)`."""

    image_id: str
    raw: Array
    z: Array


@dataclass(frozen=True)
class Change:
    """The images since a change, `mean` being what was usual before it `(W,)`; `earlier`: those before it that are still known;
    `notes`: what should be known of the watch that found it."""

    calibration: Calibration
    mean: Array
    images: Sequence[Seen]
    earlier: Sequence[Seen] = ()
    notes: tuple[str, ...] = ()

    @property
    def z(self) -> Array:
        """Robust scores, not clipped, `(T, S)`."""
        return self.calibration.scale.standard(np.array([seen.raw for seen in self.images]))

    @property
    def parts(self) -> Parts:
        """Whether the parts got worse as well."""
        known = self.calibration
        since, before = (np.array([seen.raw for seen in images]) for images in (self.images, self.earlier))
        before = before.reshape(-1, len(known.names))
        of_place, of_bulk = known.local, known.above_bulk
        measures = (
            Measure.of(_centred(of_place.of(since)), _centred(of_place.of(before)), usual=of_place.usual, margin=LOCAL_MARGIN),
            Measure.of(_centred(of_place.by_own(since)), _centred(of_place.of(before)), usual=of_place.usual, margin=MARGIN),
            Measure.of(_lifted(of_bulk.of(since)), _lifted(of_bulk.of(before)), usual=of_bulk.usual, margin=MARGIN),
        )  # fmt: skip
        return Parts(measures, len(since))

    @property
    def shift(self) -> Array:
        """How far everything moved in robust sd `(W,)`: mean of clipped scores, or the plain median where that is off the clip."""
        shift_W = np.mean([seen.z for seen in self.images], axis=0) - self.mean
        median_S = self.calibration.scale.standard(np.median([seen.raw for seen in self.images], axis=0))
        shift_W[:-1] = np.where(np.abs(median_S) < CLIP, shift_W[:-1], median_S)
        return np.asarray(shift_W)

    def alarms(self, finding: Finding, watched: int, *, test: str, after_images: int) -> tuple[Alarm, ...]:
        """One alarm a kind of the finding, told by what was watched."""
        names, shift_W, z_TS = self.calibration.names, self.shift, self.z
        suspicious = watched == len(names)
        return tuple(
            Alarm(
                kind=kind,
                signal=SUSPICION if suspicious else names[watched],
                test=test,
                reference=self.calibration.suspicion if suspicious else float(self.calibration.scale.centre[watched]),
                observed=self._observed(watched, shift_W),
                effect=float(shift_W[watched]),
                since_image_id=self.images[0].image_id,
                alarm_image_id=self.images[-1].image_id,
                after_images=after_images,
                before_image_id=self.earlier[-1].image_id if self.earlier else None,
                confidence=round(finding.confidence, 3),
                evidence=(*finding.evidence, *self.notes),
                shape=STEP if suspicious else shape_of(z_TS[:, watched]),
                where=drift_map(names, z_TS),
                images=len(self.images),
            )
            for kind in finding.kinds
        )

    def _observed(self, watched: int, shift_W: Array) -> float:
        if watched == len(self.calibration.names):
            return self.calibration.suspicion + float(shift_W[-1]) * SUSPICION_SPREAD
        return float(self.calibration.scale.raw(shift_W[:-1])[watched])


def _centred(z_T: Array) -> Array:
    """Scores by their own median: what happened to all images is none of the parts'."""
    return z_T - np.median(z_T) if len(z_T) else z_T


def _lifted(z_T: Array) -> Array:
    """The same where they fell; where they rose the median is left, since a surge may have lifted it."""
    return z_T - min(0.0, float(np.median(z_T))) if len(z_T) else z_T
