"""Recorded verdicts under other settings: which alarms a version's monitor would have raised, and which of them were recorded.

Pure: verdicts and a drift reference in, alarms out, as the watcher's monitor raises them. No policy: an alarm that would only
have kept an incident open is an alarm here.
"""

from collections.abc import Iterable, Sequence

import msgspec

from detectors.manifest import DriftReference
from streams.alarms import Alarm
from streams.calibrating import calibrate, reference_table
from streams.classifying import place_of
from streams.drift import LineMonitor
from streams.incidents import CLOSED, QUIET_IMAGES
from streams.messages import DriftIncident, Verdict
from streams.watching import incident

AS_RECORDED, CONTINUED, NEW, MISSING = "as recorded", "continued", "new", "missing"


class WouldAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm that a monitor would have raised: fields as in `streams.alarms.Alarm`; `at`: when its image was judged.

    `incident_id`: of the incident that it would open. `mark`: as recorded (it opened an incident), continued (an incident of
    its kind was open), new; None where it was not compared.
    """

    at: float
    version: int
    image_id: str
    kind: str
    signal: str
    test: str
    reference: float
    observed: float
    effect: float
    confidence: float
    evidence: tuple[str, ...]
    shape: str
    where: tuple[float, ...]
    place: str
    since_image_id: str
    before_image_id: str | None
    after_images: int
    incident_id: str
    mark: str | None = None


class RecordedIncident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that was really recorded. `closed_at`: None while it is open; `run_length`: what was promised then, if it was said.

    `mark`: as recorded or missing; None where its version was not run, or nothing was compared.
    """

    incident_id: str
    version: int
    kind: str
    signal: str
    state: str
    opened_at: float
    closed_at: float | None
    effect: float
    alarm_image_id: str
    since_image_id: str
    run_length: int | None
    place: str
    mark: str | None = None

    @classmethod
    def of(cls, opened_at: float, told: DriftIncident) -> "RecordedIncident":
        """An incident by the latest message of it."""
        return cls(
            incident_id=told.incident_id,
            version=told.version,
            kind=told.kind,
            signal=told.signal,
            state=told.state,
            opened_at=opened_at,
            closed_at=told.at if told.state == CLOSED else None,
            effect=told.effect,
            alarm_image_id=told.alarm_image_id,
            since_image_id=told.since_image_id,
            run_length=told.run_length,
            place=told.place,
        )

    def covers(self, alarm: WouldAlarm) -> bool:
        """Whether it was open when an alarm of its kind and version came."""
        open_then = self.opened_at <= alarm.at and (self.closed_at is None or alarm.at <= self.closed_at)
        return open_then and (self.version, self.kind) == (alarm.version, alarm.kind)


class Backtest:
    """The monitors of one version, one for each expected run length, side by side over the same verdicts.

    Raises InvalidInput for a reference that can carry no monitor, and for a run length below 1.
    """

    def __init__(self, reference: DriftReference, *, run_lengths: Iterable[int], seed: int) -> None:
        known = calibrate(*reference_table(reference), seed=seed)
        self.monitors = {
            run_length: LineMonitor(reference, expected_run_length=run_length, seed=seed, calibration=known)
            for run_length in run_lengths
        }

    def run(self, pages: Iterable[Sequence[Verdict]]) -> dict[int, list[WouldAlarm]]:
        """The alarms of each run length, oldest first. `pages`: verdicts of the version in the order of judgement, read once."""
        found: dict[int, list[WouldAlarm]] = {run_length: [] for run_length in self.monitors}
        for page in pages:
            watched = in_turn(page)
            for run_length, monitor in self.monitors.items():
                for verdict, alarms in monitor.follow(watched):
                    found[run_length] += [_would(verdict, alarm) for alarm in alarms]
        return found


def in_turn(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those that the watcher watches: made in their turn."""
    return [verdict for verdict in verdicts if not verdict.late]


def compared(
    alarms: Sequence[WouldAlarm], recorded: Sequence[RecordedIncident], *, versions: Iterable[int]
) -> tuple[list[WouldAlarm], list[RecordedIncident]]:
    """The same with their marks. `versions`: those that were run; of the others nothing can be missing."""
    raised = {alarm.incident_id for alarm in alarms}
    known = {each.incident_id for each in recorded}
    run = set(versions)

    def mark(alarm: WouldAlarm) -> str:
        if alarm.incident_id in known:
            return AS_RECORDED
        return CONTINUED if any(each.covers(alarm) for each in recorded) else NEW

    return (
        [msgspec.structs.replace(alarm, mark=mark(alarm)) for alarm in alarms],
        [
            msgspec.structs.replace(each, mark=AS_RECORDED if each.incident_id in raised else MISSING)
            if each.version in run
            else each
            for each in recorded
        ],
    )


def runs_of(alarms: Sequence[WouldAlarm]) -> list[tuple[WouldAlarm, int]]:
    """A change that stays is found again and again: the first alarm of each, and how many more came.

    Those of one kind and version belong together as long as no `QUIET_IMAGES` images lie between two of them, which is how long
    the policy keeps an incident open.
    """
    runs: list[list[WouldAlarm]] = []
    latest: dict[tuple[int, str], list[WouldAlarm]] = {}
    for alarm in alarms:
        run = latest.get((alarm.version, alarm.kind))
        if run is None or alarm.after_images - run[-1].after_images > QUIET_IMAGES or alarm.mark == AS_RECORDED:
            run = []
            runs.append(run)
            latest[alarm.version, alarm.kind] = run
        run.append(alarm)
    return [(run[0], len(run) - 1) for run in runs]


def _would(verdict: Verdict, alarm: Alarm) -> WouldAlarm:
    return WouldAlarm(
        at=verdict.judged_at,
        version=verdict.version,
        image_id=alarm.alarm_image_id,
        kind=alarm.kind,
        signal=alarm.signal,
        test=alarm.test,
        reference=alarm.reference,
        observed=alarm.observed,
        effect=alarm.effect,
        confidence=alarm.confidence,
        evidence=alarm.evidence,
        shape=alarm.shape,
        where=alarm.where,
        place=place_of(alarm.where),
        since_image_id=alarm.since_image_id,
        before_image_id=alarm.before_image_id,
        after_images=alarm.after_images,
        incident_id=incident(verdict, alarm).incident_id,
    )
