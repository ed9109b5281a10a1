"""Verdicts counted by line and hour, and the few that came again found by an index: nothing counts millions of rows any more."""

from alembic.operations import Operations
from sqlalchemy import Column, Float, Integer, Text, text

revision = "0002"
down_revision = "0001"

KEY = Text().with_variant(Text(collation="C"), "postgresql")
REPEATED = text("(redelivered > 0 OR repeats > 0)")
HOUR = {"postgresql": "floor(judged_at / 3600) * 3600", "sqlite": "CAST(judged_at / 3600 AS INTEGER) * 3600.0"}


def upgrade(op: Operations) -> None:
    """Count what is there."""
    op.create_table(
        "verdict_hours",
        Column("line", KEY, primary_key=True),
        Column("start_at", Float, primary_key=True),
        Column("judged", Integer, nullable=False),
        Column("flagged", Integer, nullable=False),
    )
    hour = HOUR[op.get_context().dialect.name]
    counts = f"SELECT line, {hour} AS start_at, count(*), count(*) FILTER (WHERE flagged) FROM verdicts GROUP BY 1, 2"
    op.execute(f"INSERT INTO verdict_hours (line, start_at, judged, flagged) {counts}")
    op.create_index("verdicts_repeated", "verdicts", ["line"], sqlite_where=REPEATED, postgresql_where=REPEATED)
