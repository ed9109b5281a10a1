"""How each wire type goes into the ledger: idempotent by its identity, whatever the order and however often it comes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from streams.incidents import CLOSED, OPENED
from streams.ledger_hours import count_into_hours
from streams.ledger_tables import COLLECTED, EVENTS, INCIDENTS, OUTBOX, REQUESTS, SHADOWS, VERDICTS
from streams.messages import (
    Approval,
    Collected,
    DeadLetter,
    DriftIncident,
    IncidentAnswer,
    Message,
    ModelAlert,
    ModelPromoted,
    ModelServing,
    RetrainRequest,
    Review,
    ShadowVerdict,
    Verdict,
    decode,
    encode,
)

LONGEST_INDEXED = 1000
"""Characters of an image's id that an index of PostgreSQL takes for certain."""


def record_messages(connection: Connection, messages: Sequence[Message]) -> None:
    """Write messages down; one that is there already changes nothing (but counters of redelivery).

    In one order, whatever theirs: of two writers of the same rows one waits for the other, never each for both.
    """
    judged = []
    for message in sorted(messages, key=lambda each: (each.topic, each.line, each.identity)):
        if isinstance(message, Verdict):
            if _is_first(connection, message):
                judged.append(message)
        elif type(message) in _WRITERS:
            _WRITERS[type(message)](connection, message)
    count_into_hours(connection, judged)


def put_in_outbox(connection: Connection, messages: Sequence[Message]) -> None:
    """Messages to be published by the recorder, part of the same transaction as what they tell of."""
    for message in messages:
        connection.execute(insert(OUTBOX).values(topic=message.topic, body=encode(message), sent=False))


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert unless the primary key is there; whether it was new."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(table).values(**row).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(new).rowcount == 1


def _is_first(connection: Connection, verdict: Verdict) -> bool:
    """Whether it was the image's first verdict, and is written now."""
    row = {
        "line": verdict.line,
        "image_id": verdict.image_id,
        "version": verdict.version,
        "score": verdict.score,
        "flagged": verdict.flagged,
        "judged_at": verdict.judged_at,
        "redelivered": 0,
        "repeats": 0,
        "body": encode(verdict),
    }
    first = insert_new(connection, VERDICTS, row)
    if not first:
        _count_repeat(connection, verdict)
    return first


def _count_repeat(connection: Connection, verdict: Verdict) -> None:
    """The first verdict stands; whether the later one agrees with it is counted, so that a report can be honest."""
    here = (VERDICTS.c.line == verdict.line) & (VERDICTS.c.image_id == verdict.image_id)
    first = connection.execute(select(VERDICTS.c.version, VERDICTS.c.score).where(here)).one()
    agrees = first.version == verdict.version and first.score == verdict.score
    column = VERDICTS.c.redelivered if agrees else VERDICTS.c.repeats
    connection.execute(update(VERDICTS).where(here).values({column.name: column + 1}))


def _collected(connection: Connection, collected: Collected) -> None:
    row = {
        "line": collected.line,
        "image_id": collected.image.image_id,
        "collected_at": collected.collected_at,
        "body": encode(collected),
    }
    insert_new(connection, COLLECTED, row)


def _incident(connection: Connection, incident: DriftIncident) -> None:
    """The newest state of an incident stands, under the earliest time it was told, whatever the order they come in; beside it
    each state is kept as an event.
    """
    _INCIDENT_STATE(connection, incident)
    row = {
        "incident_id": incident.incident_id,
        "line": incident.line,
        "at": incident.at,
        "state": CLOSED if incident.state == CLOSED else OPENED,
        "body": encode(incident),
    }
    if insert_new(connection, INCIDENTS, row):
        return
    here = INCIDENTS.c.incident_id == incident.incident_id
    query = select(INCIDENTS.c.at, INCIDENTS.c.body).where(here).with_for_update()
    known = connection.execute(query).one()
    newer = _progress(incident) > _progress(decode(known.body, DriftIncident))
    change = {name: row[name] for name in ("state", "body")} if newer else {}
    if newer or incident.at < known.at:
        connection.execute(update(INCIDENTS).where(here).values(at=min(known.at, incident.at), **change))


def _progress(incident: DriftIncident) -> tuple[int, bool]:
    """How far an incident has come. Older programs did not count states: of theirs the end is the later one."""
    return incident.sequence, incident.state == CLOSED


def _request(connection: Connection, request: RetrainRequest) -> None:
    row = {
        "request_id": request.request_id,
        "line": request.line,
        "state": "open",
        "requested_at": request.requested_at,
        "attempt": 0,
        "body": encode(request),
    }
    insert_new(connection, REQUESTS, row)


def _shadow(connection: Connection, shadow: ShadowVerdict) -> None:
    row = {
        "line": shadow.line,
        "version": shadow.version,
        "image_id": shadow.image_id,
        "flagged": shadow.flagged,
        "champion": shadow.champion,
        "champion_flagged": shadow.champion_flagged,
        "judged_at": shadow.judged_at,
        "body": encode(shadow),
    }
    insert_new(connection, SHADOWS, row)


def _event(
    at: Callable[[Any], float],
    subject: Callable[[Any], str | None],
    *,
    image_id: Callable[[Any], str | None] = lambda _: None,
) -> Callable[[Connection, Any], None]:
    def write(connection: Connection, message: Message) -> None:
        row = {
            "kind": message.topic,
            "identity": f"{message.line}|{message.identity}",
            "line": message.line,
            "subject": subject(message),
            "image_id": image_id(message),
            "at": at(message),
            "body": encode(message),
        }
        insert_new(connection, EVENTS, row)

    return write


def image_of(letter: DeadLetter) -> str | None:
    """The image a dead letter tells of: the id its sender gave it, else its place in the log, which is what the scorer calls it.

    None for an id that no database can look up.
    """
    given = dict(letter.headers).get("ce_id", letter.identity.replace("/", "-").encode())
    name = given.decode(errors="replace")
    return name if len(name) <= LONGEST_INDEXED and "\0" not in name else None


_INCIDENT_STATE = _event(lambda m: m.at, lambda m: m.incident_id)

_WRITERS: Mapping[type[Message], Callable[[Connection, Any], None]] = {
    Collected: _collected,
    ShadowVerdict: _shadow,
    DriftIncident: _incident,
    RetrainRequest: _request,
    ModelPromoted: _event(lambda m: m.at, lambda m: str(m.version)),
    ModelServing: _event(lambda m: m.at, lambda m: str(m.version)),
    ModelAlert: _event(lambda m: m.raised_at, lambda m: str(m.version)),
    Approval: _event(lambda m: m.at, lambda m: m.request_id),
    IncidentAnswer: _event(lambda m: m.at, lambda m: m.incident_id),
    Review: _event(lambda m: m.at, lambda m: m.image_id, image_id=lambda m: m.image_id),
    DeadLetter: _event(lambda m: m.at, lambda m: m.identity, image_id=image_of),
}
