"""The incidents of a line as a person reads them: what changed, how it is, what people said. Knows no Streamlit."""

from collections.abc import Mapping
from dataclasses import dataclass

from dashboard.queries import Colour
from dashboard.words import short
from detectors.maps import REGIONS
from streams.incidents import CLOSED, GROWING, OPENED, REOPENED
from streams.ledger import Ledger, RequestRow
from streams.messages import DriftIncident, IncidentAnswer, Verdict

PAST_SHOWN = 20


@dataclass(frozen=True)
class Look:
    """A word with the symbol and the colour that say the same."""

    word: str
    symbol: str
    colour: Colour


STATES: Mapping[str, Look] = {
    OPENED: Look("open", "notification_important", "orange"),
    GROWING: Look("growing", "trending_up", "red"),
    REOPENED: Look("open again", "replay", "orange"),
    CLOSED: Look("closed", "task_alt", "green"),
}
KINDS: Mapping[str, Look] = {
    "covariate_drift": Look("The line has changed", "tune", "orange"),
    "defect_surge": Look("Many more bad parts than usual", "report", "red"),
    "camera_fault": Look("The camera does not show the parts", "no_photography", "violet"),
}
SHAPES = {"step": "at once", "ramp": "little by little"}


@dataclass(frozen=True)
class IncidentCard:
    """An incident with what the ledger knows of it. Verdicts are absent where an image is not in the ledger; `requests`
    are those that came of it, oldest first.
    """

    incident: DriftIncident
    before: Verdict | None
    since: Verdict | None
    alarm: Verdict | None
    requests: tuple[RequestRow, ...]
    answers: tuple[IncidentAnswer, ...]

    @property
    def is_open(self) -> bool:
        """Whether it goes on: opened, growing or reopened."""
        return self.incident.state != CLOSED

    @property
    def alarm_at(self) -> float:
        """When the alarm was: the incident's own time is that of its latest state."""
        return self.incident.at if self.alarm is None else self.alarm.judged_at


def on_the_line(ledger: Ledger, line: str) -> tuple[list[DriftIncident], list[DriftIncident]]:
    """Incidents that go on, and the last PAST_SHOWN that are over; newest first."""
    newest_first = sorted(ledger.incidents(line), key=lambda incident: incident.at, reverse=True)
    going_on = [incident for incident in newest_first if incident.state != CLOSED]
    return going_on, [incident for incident in newest_first if incident.state == CLOSED][:PAST_SHOWN]


def incident_card(ledger: Ledger, incident: DriftIncident) -> IncidentCard:
    """Everything about one incident."""
    line, before = incident.line, incident.before_image_id
    rows = ledger.requests(line)
    return IncidentCard(
        incident,
        before=None if before is None else ledger.verdict(line, before),
        since=ledger.verdict(line, incident.since_image_id),
        alarm=ledger.verdict(line, incident.alarm_image_id),
        requests=tuple(row for row in rows if row.request.incident_id == incident.incident_id),
        answers=answers_to(ledger, incident),
    )


def answers_to(ledger: Ledger, incident: DriftIncident) -> tuple[IncidentAnswer, ...]:
    """What people said of an incident, oldest first."""
    return tuple(ledger.answers(incident.incident_id))


def state_look(state: str) -> Look:
    """The look of an incident's state."""
    return STATES.get(state, Look(short(state, 40), "help", "gray"))


def kind_look(kind: str) -> Look:
    """The look of an incident's kind."""
    return KINDS.get(kind, Look(short(kind, 40), "help", "gray"))


def drift_map_of(incident: DriftIncident) -> tuple[float, ...] | None:
    """How far each field moved; None where that is not known."""
    return incident.where if len(incident.where) == REGIONS**2 else None
