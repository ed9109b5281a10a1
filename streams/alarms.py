"""What an alarm says: which signal moved how far, since which image, of what kind, how sure, and where in the image.

Shape legend: S signals, W what is watched (the signals, then suspicion), T images since the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streams.bootstrap import Array
from streams.calibrating import CLIP, PEAK, SUSPICION, SUSPICION_SPREAD, Calibration, above_bulk
from streams.classifying import STEP, Finding, Parts, drift_map, shape_of


@dataclass(frozen=True)
class Alarm:
    """The line changed. `kind`: covariate_drift, defect_surge or camera_fault.

    `test`: page_hinkley, tail (more bad parts than the line ever had, after it drifted), repeats (a frozen camera) or unusable (a camera
    that shows no part). `reference` and `observed` are in the signal's own units, `effect` is their distance in robust standard
    deviations; `since_image_id` is the first image after the estimated change, `before_image_id` the last one before it, if it is still
    known; `after_images` counts the images judged before the alarm image. `confidence`: 0 to 1; `evidence`: why, in words; `shape`: step
    or ramp; `where`: how far the bulk of each field of the image moved.
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
class Seen:
    """One image as a monitor keeps it: its signals in their own units `(S,)`; clipped scores of them and of suspicion `(W,)`."""

    image_id: str
    raw: Array
    z: Array


@dataclass(frozen=True)
class Change:
    """The images since a change, `mean` being what was usual before it `(W,)`; `before`: the last image before it, if it is known;
    `notes`: what should be known of the watch that found it."""

    calibration: Calibration
    mean: Array
    images: Sequence[Seen]
    before: Seen | None
    notes: tuple[str, ...] = ()

    @property
    def z(self) -> Array:
        """Robust scores, not clipped, `(T, S)`."""
        return self.calibration.scale.standard(np.array([seen.raw for seen in self.images]))

    @property
    def parts(self) -> Parts:
        """How suspicious the parts are."""
        known, names = self.calibration, self.calibration.names
        raw_TS = np.array([seen.raw for seen in self.images])
        above_bulk_z_T = known.above_bulk.standard(above_bulk(raw_TS, names))
        return Parts.of(known.scale.standard(raw_TS)[:, names.index(PEAK)], above_bulk_z_T, known.suspicion)

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
                before_image_id=None if self.before is None else self.before.image_id,
                confidence=round(finding.confidence, 3),
                evidence=(*finding.evidence, *self.notes),
                shape=STEP if suspicious else shape_of(z_TS[:, watched]),
                where=drift_map(names, z_TS),
            )
            for kind in finding.kinds
        )

    def _observed(self, watched: int, shift_W: Array) -> float:
        if watched == len(self.calibration.names):
            return self.calibration.suspicion + float(shift_W[-1]) * SUSPICION_SPREAD
        return float(self.calibration.scale.raw(shift_W[:-1])[watched])
