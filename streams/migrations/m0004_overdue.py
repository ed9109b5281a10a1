"""Verdicts that came after their line's deadline, counted by hour beside the others."""

from alembic.operations import Operations
from sqlalchemy import Column, Integer

revision = "0004"
down_revision = "0003"

HOUR = {"postgresql": "floor(judged_at / 3600) * 3600", "sqlite": "CAST(judged_at / 3600 AS INTEGER) * 3600.0"}
OVERDUE = {
    "postgresql": """position('"overdue":true'::bytea in body) > 0""",
    "sqlite": """instr(body, CAST('"overdue":true' AS BLOB)) > 0""",
}
"""Said in the body alone (JSON without spaces, where a quote within a name would have a backslash)."""


def upgrade(op: Operations) -> None:
    """Count what is there."""
    op.add_column("verdict_hours", Column("overdue", Integer, nullable=False, server_default="0"))
    kind = op.get_context().dialect.name
    counts = f"SELECT line, {HOUR[kind]} AS start_at, count(*) AS n FROM verdicts WHERE {OVERDUE[kind]} GROUP BY 1, 2"
    here = "verdict_hours.line = found.line AND verdict_hours.start_at = found.start_at"
    op.get_bind().exec_driver_sql(f"UPDATE verdict_hours SET overdue = found.n FROM ({counts}) AS found WHERE {here}")
