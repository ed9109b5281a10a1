"""Where a watch is taken up again after a restart: from which image on, and where the policy stood there.

The monitor is replayed from the beginning of an epoch; what the policy knows of the time before comes from the ledger.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import isfinite
from typing import Protocol

from streams.epochs import LONGEST_REPLAY, Place, begins_epoch
from streams.incidents import CLOSED, OPENED, REOPENED, Incident, may_come_back
from streams.messages import Collected, DriftIncident, IncidentAnswer, ModelPromoted, RetrainRequest, Verdict
from streams.retraining import LineState, RequestEnded
from streams.settings import LineConfig


class History(Protocol):
    """What versions have judged, as a ledger keeps it; the order is that of `Place`."""

    def history(self, line: str, version: int, *, since: Place, before: Place | None) -> Iterable[Verdict]:
        """The verdicts from `since` on and before `before`, oldest first, read as they are asked for."""

    def images_before(self, line: str, version: int, place: Place) -> Iterable[Place]:
        """The images judged before a place, newest first, read as they are asked for."""

    def judged_before(self, line: str, version: int, place: Place) -> int:
        """How many they are."""

    def verdict(self, line: str, image_id: str) -> Verdict | None:
        """The verdict of one image."""


class NothingJudged:
    """The history of lines that are new."""

    def history(self, line: str, version: int, *, since: Place, before: Place | None) -> Iterable[Verdict]:
        """None."""
        return ()

    def images_before(self, line: str, version: int, place: Place) -> Iterable[Place]:
        """None."""
        return ()

    def judged_before(self, line: str, version: int, place: Place) -> int:
        """None."""
        return 0

    def verdict(self, line: str, image_id: str) -> Verdict | None:
        """None."""


@dataclass(frozen=True)
class Recorded:
    """What else the watcher asks of the ledger; the defaults know nothing.

    `collected`: images collected from a line, oldest first. `outcome`: how a request ended, None while it is under
    way. `open_incidents`: those of a line. `answers`: what people said of an incident, oldest first (all of it, so that
    a replay hears each answer when it was given). `lives`: every state of the incidents of a line that are open or of which something
    was told since a moment. `requests` and `promotions` of a line, oldest first.
    """

    collected: Callable[[str], Iterable[Collected]] = lambda _: ()
    outcome: Callable[[str], RequestEnded | None] = lambda _: None
    open_incidents: Callable[[str], Iterable[DriftIncident]] = lambda _: ()
    answers: Callable[[str], Sequence[IncidentAnswer]] = lambda _: ()
    lives: Callable[[str, float], Sequence[DriftIncident]] = lambda *_: ()
    requests: Callable[[str], Sequence[RetrainRequest]] = lambda _: ()
    promotions: Callable[[str], Sequence[ModelPromoted]] = lambda _: ()


KNOWS_NOTHING = Recorded()


def place_of(verdict: Verdict) -> Place:
    """Where a verdict lies in the order of judgement."""
    return verdict.judged_at, verdict.image_id


def latest_epoch(history: History, line: str, version: int, place: Place) -> Place | None:
    """Where the epoch begins that lasts at `place`; None where it is the version's first.

    After `LONGEST_REPLAY` images without a beginning there is one. Images judged late begin none, since they are not watched.
    """
    for count, earlier in enumerate(history.images_before(line, version, place), start=1):
        if count == LONGEST_REPLAY:
            return earlier
        if begins_epoch(earlier[1]):
            found = history.verdict(line, earlier[1])
            if found is not None and not found.late:
                return earlier
    return None


def watched_until(verdicts: Iterable[Verdict], place: Place, *, ahead: int) -> Iterator[Verdict]:
    """Those made in their turn, up to a place and so many recorded ones beyond it."""
    for each in verdicts:
        if place_of(each) >= place:
            if ahead == 0:
                return
            ahead -= 1
        if not each.late:
            yield each


def in_service_since(promotions: Sequence[ModelPromoted], version: int) -> float:
    """When a version that came back did so: what it judged and alarmed in its time before is over. -inf for one that never left.

    >>> def promoted(version: int, sequence: int, previous: int | None) -> ModelPromoted:
    ...     said = {"line": "tiles", "by": "driftline", "why": "", "at": 10.0 * sequence}
    ...     return ModelPromoted(version=version, previous=previous, sequence=sequence, **said)
    >>> promotions = [promoted(1, 1, None), promoted(2, 2, 1), promoted(1, 3, 2)]
    >>> in_service_since(promotions, 1), in_service_since(promotions, 2)
    (30.0, -inf)
    """
    latest = max((each for each in promotions if each.version == version), key=_sequence, default=None)
    if latest is None:
        return float("-inf")
    before = [each for each in promotions if each.sequence < latest.sequence]
    was_there = any(version in (each.version, each.previous) for each in before)
    return latest.at if was_there else float("-inf")


def is_over(promotions: Sequence[ModelPromoted], version: int) -> bool:
    """Whether a version was in service and no longer is: what it judges is told late. False for one that was never heard of."""
    latest = max(promotions, key=_sequence, default=None)
    if latest is None or version == latest.version:
        return False
    return any(version in (each.version, each.previous) for each in promotions)


def _sequence(promotion: ModelPromoted) -> int:
    return promotion.sequence


@dataclass(frozen=True)
class SinceReturn:
    """The history of a version that came back, as if it began with its return: then its watch begins anew."""

    whole: History
    since: float

    def history(self, line: str, version: int, *, since: Place, before: Place | None) -> Iterable[Verdict]:
        """The verdicts since the return."""
        return self.whole.history(line, version, since=max(since, self._first), before=before)

    def images_before(self, line: str, version: int, place: Place) -> Iterable[Place]:
        """The images judged since the return."""
        return takewhile(lambda each: each >= self._first, self.whole.images_before(line, version, place))

    def judged_before(self, line: str, version: int, place: Place) -> int:
        """How many they are."""
        earlier = self.whole.judged_before(line, version, self._first)
        return max(0, self.whole.judged_before(line, version, place) - earlier)

    def verdict(self, line: str, image_id: str) -> Verdict | None:
        """The verdict of one image."""
        return self.whole.verdict(line, image_id)

    @property
    def _first(self) -> Place:
        return self.since, ""


def policy_at(recorded: Recorded, line: str, version: int, at: float, config: LineConfig) -> LineState:
    """Where the policy stood when an epoch of the version began, before the image that began it."""
    promotions = recorded.promotions(line)
    service = in_service_since(promotions, version)
    asked = [each for each in _asked(recorded.requests(line), version) if service <= _asked_at(each) < at]
    told = recorded.lives(line, at - config.cooldown_s) if isfinite(at) else ()
    told = [each for each in told if each.version == version and service <= each.at < at]
    return LineState(
        version=version,
        incidents=tuple(_incidents(told, asked, at, config)),
        request_id=asked[-1].request_id if asked else None,
        rests_until=rest_after(recorded, promotions, line, config),
    )


def rest_after(recorded: Recorded, promotions: Sequence[ModelPromoted], line: str, config: LineConfig) -> float:
    """Until when a line rests that got its version while a request was under way, whoever gave it."""
    if not promotions:
        return 0.0
    given_at = promotions[-1].at
    asked = [each for each in recorded.requests(line) if each.incident_id is not None or each.cause == "cold_start"]
    latest = max((each for each in asked if _asked_at(each) < given_at), key=_asked_at, default=None)
    if latest is None:
        return 0.0
    ended = recorded.outcome(latest.request_id)
    return given_at + config.cooldown_s if ended is None or ended.at >= given_at else ended.at + config.cooldown_s


def unaccounted(recorded: Recorded, line: str, state: LineState) -> tuple[Incident, ...]:
    """The open incidents of a version that a replay did not lead to: told of images that are yet to come, or that it had not."""
    known = {each.told.incident_id for each in state.incidents}
    service = in_service_since(recorded.promotions(line), state.version or 0)
    left = [each for each in recorded.open_incidents(line) if each.version == state.version and each.at >= service]
    asked = _asked(recorded.requests(line), state.version) if left else []
    return tuple(
        Incident(each, each.at, abs(each.effect), attempts=_attempts(asked, each.incident_id))
        for each in left
        if each.incident_id not in known
    )


def _incidents(
    told: Sequence[DriftIncident], asked: Sequence[RetrainRequest], at: float, config: LineConfig
) -> Iterable[Incident]:
    """One a kind, in the order in which they were opened."""
    lives: dict[str, list[DriftIncident]] = {}
    for each in told:
        lives.setdefault(each.incident_id, []).append(each)
    by_kind: dict[str, Incident] = {}
    for incident_id, states in lives.items():
        latest = max(states, key=lambda each: (each.sequence, each.state == CLOSED))
        if may_come_back(latest, at, config.cooldown_s):
            begun = [each.at for each in states if each.state in (OPENED, REOPENED)]
            by_kind[latest.kind] = Incident(
                told=latest,
                alarm_at=max(begun, default=latest.at),
                largest=max(abs(each.effect) for each in states),
                attempts=_attempts(asked, incident_id),
            )
    return by_kind.values()


def _asked(requests: Iterable[RetrainRequest], version: int | None) -> list[RetrainRequest]:
    """Those that followed from incidents of a version, in the order of the images."""
    of_version = (each for each in requests if each.incident_id is not None and each.parent_version == version)
    return sorted(of_version, key=_asked_at)


def _asked_at(request: RetrainRequest) -> float:
    return request.requested_at if request.asked_at is None else request.asked_at


def _attempts(asked: Sequence[RetrainRequest], incident_id: str) -> int:
    return sum(each.incident_id == incident_id for each in asked)
