"""What happens on a line, told in words as it happens: reads the ledger again and again and says what is new."""

import time
from collections.abc import Callable, Iterator

from streams.incidents import CLOSED, GROWING, REOPENED
from streams.ledger import Ledger, RequestRow
from streams.messages import DriftIncident, IncidentAnswer, ModelAlert, ModelServing

Tell = Callable[[str], None]

KIND_IN_WORDS = {
    "covariate_drift": "the line has changed",
    "defect_surge": "many more bad parts than usual",
    "camera_fault": "the camera does not show the parts",
}


class Story:
    """Tells each event of a line once."""

    def __init__(self, ledger: Ledger, line: str, tell: Tell) -> None:
        self._ledger = ledger
        self._line = line
        self._tell = tell
        self._told: set[str] = set()
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        self._tell(f"[{time.monotonic() - self._start:6.1f} s] {text}")

    def catch_up(self) -> None:
        """Tell what has happened since the last call."""
        for identity, text in self._events():
            if identity not in self._told:
                self._told.add(identity)
                self.say(text)

    def _events(self) -> Iterator[tuple[str, str]]:
        incidents = self._ledger.incidents(self._line)
        for state in (*self._ledger.incident_states(self._line), *incidents):
            yield state.identity, incident_in_words(state)
        for incident in incidents:
            for answer in self._ledger.answers(incident.incident_id):
                yield f"answer:{answer.identity}", answer_in_words(incident, answer)
        for row in self._ledger.requests(self._line):
            yield from self._request(row)
        for serving in self._ledger.servings(self._line):
            yield f"serving:{serving.identity}", _serving(serving)
        for alert in self._ledger.alerts(self._line):
            yield f"alert:{alert.identity}", _alert(alert)

    def _request(self, row: RequestRow) -> Iterator[tuple[str, str]]:
        identity, request = row.request.request_id, row.request
        yield (
            f"{identity}:asked",
            f"a new model is asked for ({request.cause}, {request.mode}, {len(request.image_keys)} images)",
        )
        if row.run_id is not None:
            yield f"{identity}:{row.run_id}", f"Dagster carries it out (run {row.run_id[:8]})"
        for gate in self._ledger.gates(identity):
            yield (
                f"{identity}:{row.run_id}:{gate.name}",
                f"gate {gate.name} {'passed' if gate.passed else 'FAILED'}: {gate.words}",
            )
        if row.ended_at is not None:
            yield f"{identity}:ended", f"the request ended: {row.state} ({row.detail})"


def incident_in_words(incident: DriftIncident) -> str:
    """What became of an incident: what changed, how sure, where, by how much, since when, and why we think so."""
    if incident.state == CLOSED:
        return f"incident closed ({incident.kind}): {incident.reason}"
    moved = (
        f"{incident.signal} moved by {incident.effect:+.1f} robust sd, from {incident.reference:.3g} to {incident.observed:.3g} "
        f"({incident.test}); since image {incident.since_image_id}"
    )
    shaped = "" if not incident.shape else f", a {incident.shape}"
    why = "" if not incident.evidence else f"; {', '.join(incident.evidence)}"
    return f"{_heading(incident)}{_place(incident.place)}: {moved}{shaped}{why}"


def _heading(incident: DriftIncident) -> str:
    sure = "" if incident.confidence is None else f", {100 * incident.confidence:.0f} % sure"
    kind = f"{KIND_IN_WORDS.get(incident.kind, incident.kind)} ({incident.kind}{sure})"
    if incident.state == GROWING:
        return f"the incident GROWS ({incident.reason}): {kind}"
    if incident.state == REOPENED:
        return f"the incident is BACK ({incident.reason}): {kind}"
    return f"ALARM: {kind}"


def _place(place: str) -> str:
    """Where, after the kind: "top left" is said as a place, "everywhere" as it is."""
    if not place:
        return ""
    return f", {place}" if place in ("everywhere", "nowhere in particular") else f", {place} of the image"


def answer_in_words(incident: DriftIncident, answer: IncidentAnswer) -> str:
    """Who said what of an incident."""
    note = f": {answer.note}" if answer.note else ""
    return f"{answer.by} says of the incident ({incident.kind}): {answer.says}{note}"


def _alert(alert: ModelAlert) -> str:
    if alert.beside:
        return f"version {alert.version} scores no more beside version {alert.serving}: {alert.reason}"
    return f"version {alert.version} REFUSED by the scorer: {alert.reason}"


def _serving(serving: ModelServing) -> str:
    instead = f" instead of version {serving.previous}" if serving.previous is not None else ""
    return f"version {serving.version} judges the line{instead}"
