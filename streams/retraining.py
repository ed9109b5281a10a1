"""The policy: which alarm becomes an incident, which incident becomes a request, and when. Pure, in virtual time.

An alarm is not a request. A line has one open incident a kind (`streams.incidents`) and one open request; only
covariate drift may retrain, and by itself only while neither a surge of defects nor a fault of the camera is open
(retraining then would teach the model that defects are normal); after an alarm the policy waits for images from after
the change, and asks only while it is still there; after a request that came to nothing it rests. A person's answer
comes first: expected lets an incident retrain, ignored forbids it. Time is that of the events, so feeding the same
events again gives the same state and messages.
"""

import hashlib
from dataclasses import dataclass, replace

from streams.incidents import CLOSED, EXPECTED, IGNORED, QUIET_IMAGES, Incident, ending, live_through, may_come_back
from streams.messages import DriftIncident, Message, RetrainRequest
from streams.settings import LineConfig

RETRAINING_KINDS = frozenset({"covariate_drift"})
LARGEST_WINDOW = 400
"""Images of a window at most, whoever asks: their features lie in memory at once, 1.6 MB an image."""
STILL_THERE = 5
"""Images since its latest alarm after which a change may be over: as many as may be anything without one (`calibrating.SPIKE`), so a
change of fewer images than the window has asks for nothing.
"""


@dataclass(frozen=True)
class Judged:
    """An image was judged by the current version; `alarms` are the incidents it would open, `changed` the images (this one included) since
    the change that may retrain, as an alarm estimates it.
    """

    image_key: str
    at: float
    alarms: tuple[DriftIncident, ...] = ()
    changed: int = 0


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
class NewEpoch:
    """The watch begins anew with the next image (`streams.epochs`): what is left is what a ledger can tell of the time before."""

    at: float


@dataclass(frozen=True)
class RequestEnded:
    """A request came to its end: promoted, refused, failed, cancelled or switched_back."""

    request_id: str
    outcome: str
    at: float


@dataclass(frozen=True)
class Answered:
    """What a person said of an incident (`IncidentAnswer`)."""

    incident_id: str
    says: str
    at: float


Event = Judged | Gathered | NewVersion | NewEpoch | RequestEnded | Answered


@dataclass(frozen=True)
class LineState:
    """Where the policy stands with one line.

    `incidents`: those that are open, and those that closed by themselves not long ago; `window`: keys of the images to
    learn from, oldest first; `request_id`: the open request; `rests_until`: no request in the cool-down before that
    time; `attempts`: cold-start requests so far.
    """

    version: int | None = None
    incidents: tuple[Incident, ...] = ()
    window: tuple[str, ...] = ()
    request_id: str | None = None
    rests_until: float = 0.0
    attempts: int = 0

    @property
    def open_incidents(self) -> tuple[Incident, ...]:
        """Those that are not closed, one a kind."""
        return tuple(each for each in self.incidents if each.is_open)

    @property
    def waiting(self) -> Incident | None:
        """The open incident that asks for a new model, if any."""
        wanted = (each for each in self.open_incidents if each.told.kind in RETRAINING_KINDS and each.says != IGNORED)
        return next(wanted, None)


Step = tuple[LineState, tuple[Message, ...]]


def digest_of_cause(*parts: object) -> str:
    """The identity of what came of a cause: the same cause, the same identity.

    >>> digest_of_cause("tiles", 1, "covariate_drift") == digest_of_cause("tiles", 1, "covariate_drift")
    True
    """
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


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
    if isinstance(event, NewEpoch):
        return new_epoch(state, event, config), ()
    if isinstance(event, RequestEnded):
        return _ended(state, event, config), ()
    return _answered(state, event), ()


def _judged(state: LineState, event: Judged, line: str, config: LineConfig) -> Step:
    quiet = 0 if state.waiting is None else state.waiting.quiet
    incidents, news = live_through(
        state.incidents, event.alarms, at=event.at, cooldown_s=config.cooldown_s, may_close=state.request_id is None
    )
    state = replace(state, incidents=incidents)
    if state.waiting is None or state.request_id is not None:
        return replace(state, window=()), news
    window = _slide(state.window, event.image_key, config.retrain_images)
    if (
        0 < event.changed < quiet / 2
    ):  # the change had gone, and this is another one: what lies between is no part of it
        window = window[-event.changed :]
    if any(each.state == CLOSED for each in news):
        window = window[-QUIET_IMAGES:]  # what came before lies in a surge or a fault: no reason to learn it
    state, request = _ask(replace(state, window=window), event.at, line, config)
    return state, news + request


def _ask(state: LineState, at: float, line: str, config: LineConfig) -> Step:
    """A request, if the window is full, the line has rested, and nobody has to be asked first."""
    incident = state.waiting
    if incident is None or _rests(state, at, config) or len(state.window) < _window_size(config.retrain_images):
        return state, ()
    if not _lasts(incident) or not _is_allowed(state, incident, config):
        return state, ()
    request = RetrainRequest(
        line=line,
        request_id=digest_of_cause(line, incident.told.incident_id, incident.attempts),
        cause=incident.told.kind,
        mode=config.retrain_mode,
        image_keys=state.window,
        parent_version=state.version,
        alarm_at=incident.alarm_at,
        requested_at=at,
        incident_id=incident.told.incident_id,
        asked_at=at,
    )
    asked = replace(incident, attempts=incident.attempts + 1)
    incidents = tuple(asked if each is incident else each for each in state.incidents)
    return replace(state, incidents=incidents, window=(), request_id=request.request_id), (request,)


def _lasts(incident: Incident) -> bool:
    """Whether the change is still there: it alarmed within the latest few images, or a person says that it is to stay.

    A change that stays alarms again and again. Of a lamp that flickered and came back nothing is left to learn, although its incident
    stays open until the line has been quiet for long.
    """
    return incident.quiet <= STILL_THERE or incident.says == EXPECTED


def _is_allowed(state: LineState, incident: Incident, config: LineConfig) -> bool:
    """Whether a person said so, or the line retrains by itself and nothing else is the matter with it."""
    if incident.says == EXPECTED:
        return True
    return config.auto and all(each.told.kind in RETRAINING_KINDS for each in state.open_incidents)


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
    closed = tuple(ending(each.told, at=event.at, reason=reason) for each in state.open_incidents)
    rests_until = event.at + config.cooldown_s if state.request_id else state.rests_until
    return LineState(version=event.version, rests_until=rests_until), closed


def new_epoch(state: LineState, event: NewEpoch, config: LineConfig) -> LineState:
    """Open incidents stay, and closed ones that may come back within the cool-down; quiet images and the window are counted anew."""
    kept = tuple(
        replace(each, quiet=0) for each in state.incidents if may_come_back(each.told, event.at, config.cooldown_s)
    )
    return replace(state, incidents=kept, window=())


def _ended(state: LineState, event: RequestEnded, config: LineConfig) -> LineState:
    """After its request a line rests, then asks again with images from then on; a cold start may use those it has."""
    if event.request_id != state.request_id:
        return state
    return replace(state, request_id=None, rests_until=event.at + config.cooldown_s)


def _answered(state: LineState, event: Answered) -> LineState:
    """Expected and ignored stand until the other is said, whatever becomes of the incident; acknowledged changes nothing."""
    if event.says not in (EXPECTED, IGNORED):
        return state
    incidents = tuple(
        replace(each, says=event.says) if each.told.incident_id == event.incident_id else each
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
