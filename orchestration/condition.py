"""Which images show a line as it is now: those judged since the change that a request follows from.

What an image of the old light says of a candidate for the new one is nothing, unless that light still occurs.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from streams.causes import REFRESH
from streams.classifying import COVARIATE
from streams.ledger import Ledger
from streams.messages import DriftIncident, RetrainRequest


@dataclass(frozen=True)
class Condition:
    """The line as it is now: what was judged from `since` on (seconds since the epoch), and what is of before but still occurs, by key.

    `words`: since when, and why then; `change`: what changed the line and asks for the candidate, empty where nothing did.

    >>> Condition(since=10.0, words="since the drift", still_occurs={"b"}).holds("a", judged_at=9.0)
    False
    """

    since: float
    words: str
    change: str = ""
    still_occurs: Collection[str] = frozenset()

    def holds(self, key: str, *, judged_at: float) -> bool:
        """Whether an image under `key` that was judged then shows the line as it is now."""
        return judged_at >= self.since or key in self.still_occurs


def condition_of(ledger: Ledger, request: RetrainRequest) -> Condition:
    """The condition in which the candidate of a request has to prove itself.

    It began with the change of the request's incident; for a request without one, with the latest drift of the line. A refresh keeps
    what the line showed before, so all of it counts.
    """
    change = f"the line changed ({request.incident_id})" if request.incident_id else _open_drift(ledger, request.line)
    if request.mode == REFRESH:
        return Condition(-math.inf, "in every light so far, as a refresh keeps them", change)
    if request.incident_id is not None:
        return Condition(change_began(ledger, request), "since the change", change)
    drift = _latest_drift(ledger, request.line)
    if drift is None:
        return Condition(-math.inf, "since the first image, as the line never drifted", change)
    return Condition(_began(ledger, drift), "since the latest drift began", change)


def change_began(ledger: Ledger, request: RetrainRequest) -> float:
    """When the first image after the change was judged that a request follows from; the alarm, where the ledger lacks its incident."""
    incident = None if request.incident_id is None else ledger.incident(request.line, request.incident_id)
    if incident is not None:
        return _began(ledger, incident)
    return request.requested_at if request.alarm_at is None else request.alarm_at


def _open_drift(ledger: Ledger, line: str) -> str:
    """The drift that nobody has answered with a new model yet, in words."""
    drifts = [each.incident_id for each in ledger.incidents(line, open_only=True) if each.kind == COVARIATE]
    return f"a drift of the line is open ({drifts[-1]})" if drifts else ""


def _latest_drift(ledger: Ledger, line: str) -> DriftIncident | None:
    drifts = [told for _, told in ledger.openings(line) if told.kind == COVARIATE]
    return drifts[-1] if drifts else None


def _began(ledger: Ledger, incident: DriftIncident) -> float:
    """When the first image after the change was judged; if the ledger lacks it the alarm's, if that too the first word of the incident."""
    for image_id in (incident.since_image_id, incident.alarm_image_id):
        verdict = ledger.verdict(incident.line, image_id)
        if verdict is not None:
            return verdict.judged_at
    return min((told.at for told in ledger.incident_states(incident.line, incident.incident_id)), default=incident.at)
