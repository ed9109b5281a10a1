"""Verdicts counted by line and hour, in the transaction that writes them.

A count over ten million verdicts takes seconds whatever the index; a line has 8,760 hours a year. Only a verdict that was new is counted,
so that redelivery counts nothing twice; and as the row and the count are one transaction, they cannot part.
"""

import math
from collections.abc import Sequence

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from streams.ledger_rows import Hour
from streams.ledger_tables import VERDICT_HOURS
from streams.messages import Verdict

HOUR_S = 3600.0


def hour_of(at: float) -> float:
    """The beginning of the hour that `at` lies in.

    >>> hour_of(7300.5)
    7200.0
    """
    return math.floor(at / HOUR_S) * HOUR_S


def count_into_hours(connection: Connection, judged: Sequence[Verdict]) -> None:
    """Count verdicts that were written in this transaction. Rows in order: two writers never wait for each other in a ring."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    by_hour: dict[tuple[str, float], list[Verdict]] = {}
    for verdict in judged:
        by_hour.setdefault((verdict.line, hour_of(verdict.judged_at)), []).append(verdict)
    for (line, start_at), each in sorted(by_hour.items()):
        counts = {
            "judged": len(each),
            "flagged": sum(verdict.flagged for verdict in each),
            "overdue": sum(verdict.overdue for verdict in each),
        }
        row = dialect.insert(VERDICT_HOURS).values(line=line, start_at=start_at, **counts)
        more = {name: VERDICT_HOURS.c[name] + row.excluded[name] for name in counts}
        connection.execute(row.on_conflict_do_update(index_elements=["line", "start_at"], set_=more))


def hours_of(connection: Connection, line: str, *, since: float, until: float) -> list[Hour]:
    """The hours of a line that have verdicts and overlap with a span of time, oldest first."""
    hours = VERDICT_HOURS.c
    query = select(hours.start_at, hours.judged, hours.flagged, hours.overdue).where(hours.line == line)
    query = query.where(hours.start_at > since - HOUR_S, hours.start_at < until).order_by(hours.start_at)
    return [Hour(*row) for row in connection.execute(query)]


def judged_of(connection: Connection, line: str) -> tuple[int, int]:
    """How many images of a line were judged, and how many of them after its deadline."""
    hours = VERDICT_HOURS.c
    totals = select(func.sum(hours.judged), func.sum(hours.overdue)).where(hours.line == line)
    judged, overdue = connection.execute(totals).one()
    return int(judged or 0), int(overdue or 0)
