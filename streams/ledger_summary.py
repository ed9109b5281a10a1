"""A line at a glance, from the ledger's tables."""

from sqlalchemy import ColumnElement, Connection, Table, func, select

from streams.incidents import OPENED
from streams.ledger_hours import judged_of
from streams.ledger_rows import UNENDED, LineSummary
from streams.ledger_tables import COLLECTED, EVENTS, INCIDENTS, REQUESTS, VERDICTS
from streams.messages import DriftIncident, ModelAlert, ModelPromoted, ModelServing, decode

LATEST = 200
RATE_OVER_S = 60.0
ALERTS_LOOKED_AT = 20


def summary_of(connection: Connection, line: str, *, now: float | None) -> LineSummary:
    """The line's summary; rates are measured up to `now`, by default its last image."""
    last_judged = select(func.max(VERDICTS.c.judged_at)).where(VERDICTS.c.line == line)
    last_collected = select(func.max(COLLECTED.c.collected_at)).where(COLLECTED.c.line == line)
    last = [connection.execute(query).scalar_one() for query in (last_judged, last_collected)]
    last_at = max((at for at in last if at is not None), default=None)
    judged, overdue = judged_of(connection, line)
    request, waits = _open_request(connection, line)
    return LineSummary(
        line=line,
        judged=judged,
        overdue=overdue,
        collected=pending_of(connection, line),
        flag_rate=_flag_rate(connection, line),
        images_per_min=_per_minute(connection, line, until=now if now is not None else last_at),
        last_at=last_at,
        version=_latest_version(connection, line),
        open_incident=_open_incident(connection, line),
        open_request=request,
        alert=_standing_alert(connection, line),
        request_waits=waits,
    )


def lines_in(connection: Connection) -> list[str]:
    """Every line that anything is known of, by name."""
    return sorted({name for table in (VERDICTS, COLLECTED, REQUESTS, EVENTS) for name in _lines_of(connection, table)})


def unjudged(line: str) -> ColumnElement[bool]:
    """Whether a collected image of the line has no verdict yet: looked up one by one, as the verdicts are many more."""
    judged = select(VERDICTS.c.image_id).where(VERDICTS.c.line == line, VERDICTS.c.image_id == COLLECTED.c.image_id)
    return (COLLECTED.c.line == line) & ~judged.exists()


def pending_of(connection: Connection, line: str) -> int:
    """How many collected images of a line have no verdict yet."""
    return int(connection.execute(select(func.count()).select_from(COLLECTED).where(unjudged(line))).scalar_one())


def _lines_of(connection: Connection, table: Table) -> list[str]:
    """The lines in a table, from each to the next by its index: DISTINCT would read every row of it."""
    names = select(func.min(table.c.line).label("line")).cte("names", recursive=True)
    following = select(func.min(table.c.line)).where(table.c.line > names.c.line).scalar_subquery()
    names = names.union_all(select(following).where(names.c.line.is_not(None)))
    return list(connection.execute(select(names.c.line).where(names.c.line.is_not(None))).scalars())


def _flag_rate(connection: Connection, line: str) -> float | None:
    latest = (
        select(VERDICTS.c.flagged).where(VERDICTS.c.line == line).order_by(VERDICTS.c.judged_at.desc()).limit(LATEST)
    )
    flags = connection.execute(latest).scalars().all()
    return sum(flags) / len(flags) if flags else None


def _per_minute(connection: Connection, line: str, *, until: float | None) -> float:
    if until is None:
        return 0.0
    since = until - RATE_OVER_S
    judged = select(func.count()).where(VERDICTS.c.line == line, VERDICTS.c.judged_at > since)
    collected = select(func.count()).where(COLLECTED.c.line == line, COLLECTED.c.collected_at > since)
    return float(max(connection.execute(judged).scalar_one(), connection.execute(collected).scalar_one()))


def _latest_version(connection: Connection, line: str) -> int | None:
    for kind in (ModelServing.topic, ModelPromoted.topic):
        of_kind = (EVENTS.c.kind == kind) & (EVENTS.c.line == line)
        version = connection.execute(
            select(EVENTS.c.subject).where(of_kind).order_by(EVENTS.c.at.desc()).limit(1)
        ).scalar()
        if version is not None:
            return int(version)
    return None


def _open_incident(connection: Connection, line: str) -> str | None:
    here = (INCIDENTS.c.line == line) & (INCIDENTS.c.state == OPENED)
    body = connection.execute(select(INCIDENTS.c.body).where(here).order_by(INCIDENTS.c.at.desc()).limit(1)).scalar()
    return None if body is None else decode(body, DriftIncident).kind


def _open_request(connection: Connection, line: str) -> tuple[str | None, str | None]:
    """State and detail of the request that is carried out, else of the oldest that waits; None where there is none."""
    here = (REQUESTS.c.line == line) & REQUESTS.c.state.in_(UNENDED)
    query = select(REQUESTS.c.state, REQUESTS.c.detail).where(here)
    found = connection.execute(query.order_by(REQUESTS.c.state.desc(), REQUESTS.c.requested_at).limit(1)).one_or_none()
    return (None, None) if found is None else (found.state, found.detail)


def _standing_alert(connection: Connection, line: str) -> ModelAlert | None:
    """The latest refusal of a champion, unless a scorer has taken up another version since."""
    of_line = EVENTS.c.line == line
    latest = select(EVENTS.c.body).where(EVENTS.c.kind == ModelAlert.topic, of_line)
    bodies = connection.execute(latest.order_by(EVENTS.c.at.desc()).limit(ALERTS_LOOKED_AT)).scalars()
    alert = next((each for each in (decode(body, ModelAlert) for body in bodies) if not each.beside), None)
    served = select(func.max(EVENTS.c.at)).where(EVENTS.c.kind == ModelServing.topic, of_line)
    served_at = connection.execute(served).scalar_one()
    if alert is None or (served_at is not None and served_at > alert.raised_at):
        return None
    return alert
