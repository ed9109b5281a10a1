"""Who did what, read back: the ledger's part in the audit page, newest first and a page at a time."""

import math
from collections.abc import Iterator

from sqlalchemy import Connection, Select, select

from streams.ledger_rows import AuditEntry, AuditNames, AuditWish
from streams.ledger_tables import AUDIT

NAMES_OF_LATEST = 5000


def audit_entries(connection: Connection, wish: AuditWish, *, before: int | None, limit: int) -> list[AuditEntry]:
    """The latest entries that are wished for, newest first, from before the entry of number `before` on."""
    query: Select[tuple[object, ...]] = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
    for column, value in ((AUDIT.c.line, wish.line), (AUDIT.c.who, wish.who), (AUDIT.c.action, wish.action)):
        if value is not None:
            query = query.where(column == value)
    if wish.since > -math.inf:
        query = query.where(AUDIT.c.at >= wish.since)
    if wish.until < math.inf:
        query = query.where(AUDIT.c.at < wish.until)
    if before is not None:
        query = query.where(AUDIT.c.id < before)
    return list(_entries(connection, query))


def audit_names(connection: Connection) -> AuditNames:
    """Who acted, how, and on which lines, in the latest NAMES_OF_LATEST entries."""
    latest = select(AUDIT.c.who, AUDIT.c.action, AUDIT.c.line).order_by(AUDIT.c.id.desc()).limit(NAMES_OF_LATEST)
    named = latest.subquery()
    rows = connection.execute(select(named.c.who, named.c.action, named.c.line).distinct()).all()
    people, actions, lines = (
        (tuple(sorted(set(column))) for column in zip(*rows, strict=True)) if rows else ((), (), ())
    )
    return AuditNames(people, actions, lines)


def _entries(connection: Connection, query: Select[tuple[object, ...]]) -> Iterator[AuditEntry]:
    for row in connection.execute(query):
        yield AuditEntry(row.at, row.who, row.role, row.action, row.line, row.detail, number=row.id)
