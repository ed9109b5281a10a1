"""All that the ledger knows of one image."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, Table, select

from streams.ledger_rows import ImageStory
from streams.ledger_tables import COLLECTED, EVENTS, INCIDENTS, VERDICTS
from streams.messages import Collected, DeadLetter, DriftIncident, Message, ModelPromoted, Review, Verdict, decode

M = TypeVar("M", bound=Message)


def story_of(connection: Connection, line: str, image_id: str) -> ImageStory:
    """The story of an image; everything in it is absent for one that never came."""

    def of_image(table: Table, kind: type[M]) -> M | None:
        here = (table.c.line == line) & (table.c.image_id == image_id)
        return next(_messages(connection, table, here, kind), None)

    verdict = of_image(VERDICTS, Verdict)
    return ImageStory(
        line=line,
        image_id=image_id,
        collected=of_image(COLLECTED, Collected),
        verdict=verdict,
        promotions=() if verdict is None else _promotions(connection, line, verdict.version),
        reviews=_events(connection, line, image_id, Review),
        incidents=_incidents(connection, line, image_id),
        dead_letters=_events(connection, line, image_id, DeadLetter),
    )


def _promotions(connection: Connection, line: str, version: int) -> tuple[ModelPromoted, ...]:
    of_line = (EVENTS.c.kind == ModelPromoted.topic) & (EVENTS.c.line == line)
    here = of_line & (EVENTS.c.subject == str(version))
    return tuple(_messages(connection, EVENTS, here, ModelPromoted, [EVENTS.c.at]))


def _events(connection: Connection, line: str, image_id: str, kind: type[M]) -> tuple[M, ...]:
    here = (EVENTS.c.line == line) & (EVENTS.c.image_id == image_id) & (EVENTS.c.kind == kind.topic)
    return tuple(_messages(connection, EVENTS, here, kind, [EVENTS.c.at, EVENTS.c.identity]))


def _incidents(connection: Connection, line: str, image_id: str) -> tuple[DriftIncident, ...]:
    """Those of the line that name the image, oldest first: read one by one, for a line has few."""
    found = _messages(connection, INCIDENTS, INCIDENTS.c.line == line, DriftIncident, [INCIDENTS.c.at])
    return tuple(each for each in found if image_id in (each.since_image_id, each.alarm_image_id))


def _messages(
    connection: Connection,
    table: Table,
    here: ColumnElement[bool],
    kind: type[M],
    order: Sequence[ColumnElement[object]] = (),
) -> Iterator[M]:
    for body in connection.execute(select(table.c.body).where(here).order_by(*order)).scalars():
        yield decode(body, kind)
