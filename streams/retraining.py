"""The policy: which alarm becomes an incident, which incident becomes a request, and when. Pure, in virtual time.

An alarm is not a request. A line has one open incident a kind and one open request; only covariate drift may retrain
(retraining on a surge of defects would teach the model that defects are normal); after an alarm the policy waits for
images from after the change; after a request that came to nothing it rests. Time is that of the events, so feeding
the same events again gives the same state and messages.
"""

import hashlib
from dataclasses import dataclass, replace

import msgspec

from streams.messages import DriftIncident, Message, RetrainRequest
from streams.settings import LineConfig

RETRAINING_KINDS = frozenset({"covariate_drift"})
LARGEST_WINDOW = 400
QUIET_IMAGES = 200


@dataclass(frozen=True)
class Judged:
    """An image was judged by the current version; `alarm` is the incident it would open."""

    image_key: str
    at: float
    alarm: DriftIncident | None = None


@dataclass(frozen=True)
class Gathered:
    """An image met no model and was collected."""

    image_key: str
    at: float


@dataclass(frozen=True)
class NewVersion:
    """Another version judges the line from now on."""

    version: int
    at: float


@dataclass(frozen=True)
class RequestEnded:
    """A request came to its end: promoted, refused, failed, cancelled or switched_back."""

    request_id: str
    outcome: str
    at: float


@dataclass(frozen=True)
class Approved:
    """A person lets an incident retrain, on a line that does not do so by itself."""

    incident_id: str
    at: float


Event = Judged | Gathered | NewVersion | RequestEnded | Approved


@dataclass(frozen=True)
class Incident:
    """An open incident: the message that opened it, images judged since its kind last alarmed, requests made for it."""

    opened: DriftIncident
    quiet: int = 0
    attempts: int = 0
    approved: bool = False


@dataclass(frozen=True)
class LineState:
    """Where the policy stands with one line.

    `window`: keys of the images to learn from, oldest first; `request_id`: the open request; `rests_until`: no
    request in the cool-down before that time; `attempts`: cold-start requests so far.
    """

    version: int | None = None
    incidents: tuple[Incident, ...] = ()
    window: tuple[str, ...] = ()
    request_id: str | None = None
    rests_until: float = 0.0
    attempts: int = 0

    @property
    def waiting(self) -> Incident | None:
        """The open incident that asks for a new model, if any."""
        return next((each for each in self.incidents if each.opened.kind in RETRAINING_KINDS), None)


Step = tuple[LineState, tuple[Message, ...]]


def digest_of_cause(*parts: object) -> str:
    """The identity of what came of a cause: the same cause, the same identity.

    >>> digest_of_cause("tiles", 1, "covariate_drift") == digest_of_cause("tiles", 1, "covariate_drift")
    True
    """
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


def ending(opened: DriftIncident, *, at: float, reason: str) -> DriftIncident:
    """The message that closes an incident."""
    return msgspec.structs.replace(opened, state="closed", at=at, reason=reason)


def decide(state: LineState, event: Event, *, line: str, config: LineConfig) -> Step:
    """The state after an event and the messages that follow from it (`DriftIncident`, `RetrainRequest`).

    >>> config = LineConfig(cold_start_images=2)
    >>> state, messages = decide(LineState(), Gathered("images/a.png", at=1.0), line="tiles", config=config)
    >>> state, messages = decide(state, Gathered("images/b.png", at=2.0), line="tiles", config=config)
    >>> [(each.cause, each.mode, each.image_keys) for each in messages]
    [('cold_start', 'blind', ('images/a.png', 'images/b.png'))]
    """
    if isinstance(event, Judged):
        return _judged(state, event, line, config)
    if isinstance(event, Gathered):
        return _gathered(state, event, line, config)
    if isinstance(event, NewVersion):
        return _new_version(state, event, config)
    if isinstance(event, RequestEnded):
        return _ended(state, event, config), ()
    return _approved(state, event), ()


def _judged(state: LineState, event: Judged, line: str, config: LineConfig) -> Step:
    state, news = _incidents(state, event)
    if state.waiting is None or state.request_id is not None:
        return replace(state, window=()), news
    state = replace(state, window=_slide(state.window, event.image_key, config.retrain_images))
    state, request = _ask(state, event.at, line, config)
    return state, news + request


def _incidents(state: LineState, event: Judged) -> Step:
    """Open a new incident, keep one alive that alarms again, close what has been quiet for long."""
    kind = event.alarm.kind if event.alarm else None
    incidents = tuple(
        replace(each, quiet=0 if each.opened.kind == kind else each.quiet + 1) for each in state.incidents
    )
    news: tuple[Message, ...] = ()
    if event.alarm and all(each.opened.kind != kind for each in incidents):
        incidents += (Incident(event.alarm),)
        news += (event.alarm,)
    over = tuple(each for each in incidents if each.quiet >= QUIET_IMAGES and state.request_id is None)
    closed = tuple(
        ending(each.opened, at=event.at, reason=f"no further alarm in {QUIET_IMAGES} images") for each in over
    )
    return replace(state, incidents=tuple(each for each in incidents if each not in over)), news + closed


def _ask(state: LineState, at: float, line: str, config: LineConfig) -> Step:
    """A request, if the window is full, the line has rested, and nobody has to approve it first."""
    incident = state.waiting
    if incident is None or _rests(state, at, config) or len(state.window) < _window_size(config.retrain_images):
        return state, ()
    if not (config.auto or incident.approved):
        return state, ()
    request = RetrainRequest(
        line=line,
        request_id=digest_of_cause(line, incident.opened.incident_id, incident.attempts),
        cause=incident.opened.kind,
        mode="blind",
        image_keys=state.window,
        parent_version=state.version,
        alarm_at=incident.opened.at,
        requested_at=at,
        incident_id=incident.opened.incident_id,
    )
    asked = replace(incident, attempts=incident.attempts + 1, approved=False)
    incidents = tuple(asked if each is incident else each for each in state.incidents)
    return replace(state, incidents=incidents, window=(), request_id=request.request_id), (request,)


def _gathered(state: LineState, event: Gathered, line: str, config: LineConfig) -> Step:
    if state.version is not None:
        return state, ()
    state = replace(state, window=_slide(state.window, event.image_key, config.cold_start_images))
    full = len(state.window) >= _window_size(config.cold_start_images)
    if not full or state.request_id is not None or _rests(state, event.at, config):
        return state, ()
    request = RetrainRequest(
        line=line,
        request_id=digest_of_cause(line, "cold_start", state.attempts),
        cause="cold_start",
        mode="blind",
        image_keys=state.window,
        parent_version=None,
        alarm_at=None,
        requested_at=event.at,
    )
    return replace(state, request_id=request.request_id, attempts=state.attempts + 1), (request,)


def _new_version(state: LineState, event: NewVersion, config: LineConfig) -> Step:
    """Incidents were about the old version. A version made on request rests the line as any end of a request does."""
    if event.version == state.version:
        return state, ()
    reason = f"version {event.version} judges the line"
    closed = tuple(ending(each.opened, at=event.at, reason=reason) for each in state.incidents)
    rests_until = event.at + config.cooldown_s if state.request_id else state.rests_until
    return LineState(version=event.version, rests_until=rests_until), closed


def _ended(state: LineState, event: RequestEnded, config: LineConfig) -> LineState:
    """After its request a line rests, then asks again with images from then on; a cold start may use those it has."""
    if event.request_id != state.request_id:
        return state
    return replace(state, request_id=None, rests_until=event.at + config.cooldown_s)


def _approved(state: LineState, event: Approved) -> LineState:
    incidents = tuple(
        replace(each, approved=True) if each.opened.incident_id == event.incident_id else each
        for each in state.incidents
    )
    return replace(state, incidents=incidents)


def _rests(state: LineState, at: float, config: LineConfig) -> bool:
    """Whether the line rests. A time before its rest began comes from a clock that was set back: that must not make the rest longer."""
    return state.rests_until - config.cooldown_s <= at < state.rests_until


def _window_size(wanted: int) -> int:
    return min(max(wanted, 1), LARGEST_WINDOW)


def _slide(window: tuple[str, ...], key: str, wanted: int) -> tuple[str, ...]:
    return (*window, key)[-_window_size(wanted) :]
