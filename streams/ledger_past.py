"""A line's past, for those who go through all of it: millions of verdicts, a page at a time."""

import math

import msgspec
from sqlalchemy import Connection, func, select, tuple_

from detectors.errors import InvalidInput
from streams.incidents import OPENED
from streams.ledger_rows import JudgedSpan
from streams.ledger_tables import EVENTS, INCIDENTS, VERDICTS
from streams.messages import DriftIncident, NearestNormal, Verdict, decode

JUDGED_PAGE = 5000
"""More at once is slower: Python's garbage collector looks at everything that is held."""


class _Figures(Verdict, frozen=True, kw_only=True, gc=False):
    """A verdict without what only a picture of it needs: half the time to decode. Read, never written.

    `gc=False`: a verdict is no part of a cycle.
    """

    nearest: NearestNormal | None = msgspec.field(default=None, name="-nearest")
    heatmap_key: str | None = msgspec.field(default=None, name="-heatmap_key")


_FIGURES = msgspec.json.Decoder(_Figures)


def judged_spans(connection: Connection, line: str, *, since: float) -> list[JudgedSpan]:
    """What each version has judged from `since` on, in the order of its first verdict there."""
    at = VERDICTS.c.judged_at
    query = select(VERDICTS.c.version, func.count(), func.min(at), func.max(at))
    query = query.where(VERDICTS.c.line == line, at >= since).group_by(VERDICTS.c.version)
    found = [JudgedSpan(*row) for row in connection.execute(query)]
    return sorted(found, key=lambda each: (each.first_at, each.version))


def first_of_latest(connection: Connection, line: str, images: int, *, version: int | None) -> float | None:
    """When the first of the latest `images` was judged; None where there are fewer."""
    query = select(VERDICTS.c.judged_at).where(VERDICTS.c.line == line)
    if version is not None:
        query = query.where(VERDICTS.c.version == version)
    return connection.execute(query.order_by(VERDICTS.c.judged_at.desc()).offset(images - 1).limit(1)).scalar()


def page_of(
    connection: Connection, line: str, span: JudgedSpan, *, place: tuple[float, str], limit: int
) -> list[Verdict]:
    """The verdicts of a span that follow on `place` (when judged, image), oldest first.

    What was judged after the end of the span is left for the next time. Raises InvalidInput for a body that is no verdict.
    """
    here = tuple_(VERDICTS.c.judged_at, VERDICTS.c.image_id)
    query = select(VERDICTS.c.body).where(VERDICTS.c.line == line, VERDICTS.c.version == span.version)
    query = query.where(here > place, VERDICTS.c.judged_at <= span.last_at).order_by(*here).limit(limit)
    bodies = connection.execute(query).scalars().all()
    try:
        return [_FIGURES.decode(body) for body in bodies]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"line {line!r}: the ledger holds a verdict that is none: {error}; restore it") from error


def openings(connection: Connection, line: str) -> list[tuple[float, DriftIncident]]:
    """The incidents of a line as they stand, each with the moment it was opened, oldest first.

    That is when its alarm image was judged: a row keeps the time of the message that came first, which may be that of its end.
    """
    query = select(INCIDENTS.c.at, INCIDENTS.c.body).where(INCIDENTS.c.line == line)
    rows = [(at, decode(body, DriftIncident)) for at, body in connection.execute(query)]
    found = [(min(at, told.at, _judged_at(connection, told)), told) for at, told in rows]
    return sorted(found, key=lambda each: (each[0], each[1].incident_id))


def _judged_at(connection: Connection, told: DriftIncident) -> float:
    here = (VERDICTS.c.line == told.line) & (VERDICTS.c.image_id == told.alarm_image_id)
    at = connection.execute(select(VERDICTS.c.judged_at).where(here)).scalar()
    return math.inf if at is None else float(at)


def images_before(
    connection: Connection, line: str, version: int, place: tuple[float, str], *, limit: int
) -> list[tuple[float, str]]:
    """When a version judged which images, newest first, from before `place` (when judged, image) on."""
    at, image_id = VERDICTS.c.judged_at, VERDICTS.c.image_id
    query = select(at, image_id).where(VERDICTS.c.line == line, VERDICTS.c.version == version)
    query = query.where(at <= place[0], tuple_(at, image_id) < place).order_by(at.desc(), image_id.desc()).limit(limit)
    return [(row.judged_at, row.image_id) for row in connection.execute(query)]


def judged_before(connection: Connection, line: str, version: int, place: tuple[float, str]) -> int:
    """How many images a version had judged before `place`."""
    at = VERDICTS.c.judged_at
    query = select(func.count()).where(VERDICTS.c.line == line, VERDICTS.c.version == version)
    earlier = connection.execute(query.where(at < place[0])).scalar_one()
    return int(earlier + connection.execute(query.where(at == place[0], VERDICTS.c.image_id < place[1])).scalar_one())


def lives(connection: Connection, line: str, *, since: float) -> list[DriftIncident]:
    """Every state of the incidents of a line that are open, or of which something was told from `since` on, oldest first.

    Older programs kept only the latest state: then that alone.
    """
    states = (EVENTS.c.kind == DriftIncident.topic) & (EVENTS.c.line == line)
    told = select(EVENTS.c.subject).where(states, EVENTS.c.at >= since)
    newest = select(INCIDENTS.c.body).where(INCIDENTS.c.line == line, INCIDENTS.c.state == OPENED)
    opened = [decode(body, DriftIncident) for body in connection.execute(newest).scalars()]
    wanted = {each.incident_id for each in opened} | set(connection.execute(told).scalars())
    query = select(EVENTS.c.body).where(states, EVENTS.c.subject.in_(sorted(wanted)))
    known = [decode(body, DriftIncident) for body in connection.execute(query).scalars()]
    kept = {each.incident_id for each in known}
    known += [each for each in opened if each.incident_id not in kept]
    return sorted(known, key=lambda each: (each.at, each.incident_id, each.sequence))
