"""The life of an incident: opened, growing, closed when the line falls quiet, reopened when it comes back. Pure, in virtual time.

A line has one incident a kind: further alarms of its kind merge into it. One that closed by itself is remembered for a
while, so that a change that comes and goes is one incident and not many.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from streams.messages import DriftIncident

OPENED, GROWING, REOPENED, CLOSED = "opened", "growing", "reopened", "closed"
ACKNOWLEDGED, EXPECTED, IGNORED = "acknowledged", "expected", "ignored"
ANSWERS = (ACKNOWLEDGED, EXPECTED, IGNORED)
QUIET_IMAGES = 200
"""After so many images without an alarm a change is over, or has become usual."""
GROWN = 1.5


@dataclass(frozen=True)
class Incident:
    """An incident that is open, or closed by itself not long ago.

    `told`: the latest message of it; `alarm_at`: when it was opened, or reopened last; `largest`: the largest |effect|
    told so far; `quiet`: images judged since its kind last alarmed, once closed since it closed; `attempts`: requests
    made for it; `says`: what a person answered that matters here (expected, ignored; the latest counts).
    """

    told: DriftIncident
    alarm_at: float
    largest: float
    quiet: int = 0
    attempts: int = 0
    says: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not closed, whatever else became of it."""
        return self.told.state != CLOSED


Lived = tuple[tuple[Incident, ...], tuple[DriftIncident, ...]]


def ending(told: DriftIncident, *, at: float, reason: str) -> DriftIncident:
    """The message that closes an incident, given the latest message of it; the same state, the same identity."""
    return msgspec.structs.replace(told, state=CLOSED, at=at, reason=reason, sequence=told.sequence + 1)


def live_through(
    incidents: tuple[Incident, ...],
    alarms: Iterable[DriftIncident],
    *,
    at: float,
    cooldown_s: float,
    may_close: bool = True,
) -> Lived:
    """The incidents after one more image, and what there is to tell of them.

    `alarms`: the incidents that the image would open. Each is told as a new one (opened), or goes to the one of its kind: one
    that closed by itself is reopened within `cooldown_s` or `QUIET_IMAGES` images of its end, whichever is longer; an
    open one is growing if the effect is more than `GROWN` times the largest told. What has been quiet for `QUIET_IMAGES` images
    is closed if it `may_close`.

    >>> alarm = DriftIncident(
    ...     line="tiles", incident_id="first", kind="covariate_drift", state="opened", version=1, signal="bulk",
    ...     test="page_hinkley", reference=0.0, observed=2.0, effect=2.0, since_image_id="a", alarm_image_id="b",
    ...     after_images=9, at=1.0,
    ... )
    >>> incidents, told = live_through((), [alarm], at=1.0, cooldown_s=60.0)
    >>> larger = msgspec.structs.replace(alarm, incident_id="second", effect=4.0, at=2.0)
    >>> incidents, told = live_through(incidents, [larger], at=2.0, cooldown_s=60.0)
    >>> [(each.incident_id, each.state, each.sequence, each.effect) for each in told]
    [('first', 'growing', 1, 4.0)]
    """
    older = (replace(each, quiet=each.quiet + 1) for each in incidents)
    kept = tuple(each for each in older if not _is_forgotten(each, at, cooldown_s))
    news: tuple[DriftIncident, ...] = ()
    for alarm in alarms:
        kept, told = _alarmed(kept, alarm)
        news += told
    if may_close:
        kept, closed = _fallen_quiet(kept, at)
        news += closed
    return kept, news


def _is_forgotten(incident: Incident, at: float, cooldown_s: float) -> bool:
    """Whether it closed too long ago to come back. A time before its end comes from a clock that was set back: no time has passed."""
    return incident.quiet > QUIET_IMAGES and not may_come_back(incident.told, at, cooldown_s)


def may_come_back(told: DriftIncident, at: float, cooldown_s: float) -> bool:
    """Whether an incident is open, or closed within the cool-down. `told`: the latest message of it."""
    return told.state != CLOSED or told.at <= at < told.at + cooldown_s


def _alarmed(incidents: tuple[Incident, ...], alarm: DriftIncident) -> Lived:
    same = next((each for each in incidents if each.told.kind == alarm.kind), None)
    if same is None:
        return (*incidents, Incident(alarm, alarm.at, abs(alarm.effect))), (alarm,)
    after = _merged(same, alarm)
    told = () if after.told is same.told else (after.told,)
    return tuple(after if each is same else each for each in incidents), told


def _merged(incident: Incident, alarm: DriftIncident) -> Incident:
    """The incident after another alarm of its kind."""
    incident = replace(incident, quiet=0)
    largest, effect = incident.largest, abs(alarm.effect)
    if not incident.is_open:
        told = _continued(incident.told, alarm, REOPENED, f"it came back at image {alarm.alarm_image_id}")
        return replace(incident, told=told, alarm_at=alarm.at, largest=max(largest, effect))
    if effect <= GROWN * largest:
        return incident
    grown = f"{effect:.1f} robust sd at image {alarm.alarm_image_id}, {largest:.1f} before"
    return replace(incident, told=_continued(incident.told, alarm, GROWING, grown), largest=effect)


def _continued(told: DriftIncident, alarm: DriftIncident, state: str, reason: str) -> DriftIncident:
    """The next message of an incident: what the alarm found now, with the identity and the images of the first alarm."""
    return msgspec.structs.replace(
        alarm,
        incident_id=told.incident_id,
        state=state,
        sequence=told.sequence + 1,
        reason=reason,
        since_image_id=told.since_image_id,
        before_image_id=told.before_image_id,
        alarm_image_id=told.alarm_image_id,
        after_images=told.after_images,
    )


def _fallen_quiet(incidents: tuple[Incident, ...], at: float) -> Lived:
    reason = f"no further alarm in {QUIET_IMAGES} images"
    after = tuple(
        replace(each, told=ending(each.told, at=at, reason=reason), quiet=0)
        if each.is_open and each.quiet >= QUIET_IMAGES
        else each
        for each in incidents
    )
    return after, tuple(now.told for now, before in zip(after, incidents, strict=True) if now.told is not before.told)
