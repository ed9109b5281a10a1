"""The tables as they were before the ledger had revisions."""

from alembic.operations import Operations
from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, Text

revision = "0001"
down_revision = None

KEY = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade(op: Operations) -> None:
    """Make them."""
    _verdicts(op)
    _collected(op)
    _incidents(op)
    _requests(op)
    _gates(op)
    _events(op)
    _audit(op)
    _outbox(op)


def _verdicts(op: Operations) -> None:
    op.create_table(
        "verdicts",
        Column("line", KEY, primary_key=True),
        Column("image_id", KEY, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("score", Float, nullable=False),
        Column("flagged", Boolean, nullable=False),
        Column("judged_at", Float, nullable=False),
        Column("redelivered", Integer, nullable=False),
        Column("repeats", Integer, nullable=False),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_index("verdicts_by_time", "verdicts", ["line", "judged_at"])
    op.create_index("verdicts_flagged", "verdicts", ["line", "flagged", "judged_at"])
    op.create_index("verdicts_by_version", "verdicts", ["line", "version", "judged_at"])


def _collected(op: Operations) -> None:
    op.create_table(
        "collected",
        Column("line", KEY, primary_key=True),
        Column("image_id", KEY, primary_key=True),
        Column("collected_at", Float, nullable=False),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_index("collected_by_time", "collected", ["line", "collected_at"])


def _incidents(op: Operations) -> None:
    op.create_table(
        "incidents",
        Column("incident_id", KEY, primary_key=True),
        Column("line", KEY, nullable=False),
        Column("at", Float, nullable=False),
        Column("state", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_index("incidents_of_line", "incidents", ["line", "at"])


def _requests(op: Operations) -> None:
    op.create_table(
        "requests",
        Column("request_id", KEY, primary_key=True),
        Column("line", KEY, nullable=False),
        Column("state", Text, nullable=False),
        Column("requested_at", Float, nullable=False),
        Column("run_id", Text),
        Column("attempt", Integer, nullable=False),
        Column("version", Integer),
        Column("detail", Text),
        Column("started_at", Float),
        Column("ended_at", Float),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_index("requests_of_line", "requests", ["line", "requested_at"])
    op.create_index("requests_by_state", "requests", ["state"])


def _gates(op: Operations) -> None:
    op.create_table(
        "gates",
        Column("request_id", KEY, primary_key=True),
        Column("name", KEY, primary_key=True),
        Column("passed", Boolean, nullable=False),
        Column("value", Float),
        Column("limit_value", Float, nullable=False),
        Column("words", Text, nullable=False),
    )


def _events(op: Operations) -> None:
    op.create_table(
        "events",
        Column("kind", KEY, primary_key=True),
        Column("identity", KEY, primary_key=True),
        Column("line", KEY, nullable=False),
        Column("subject", KEY),
        Column("at", Float, nullable=False),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_index("events_of_line", "events", ["kind", "line", "at"])
    op.create_index("events_by_time", "events", ["kind", "at"])


def _audit(op: Operations) -> None:
    op.create_table(
        "audit",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("at", Float, nullable=False),
        Column("who", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("line", KEY, nullable=False),
        Column("detail", Text, nullable=False),
    )


def _outbox(op: Operations) -> None:
    op.create_table(
        "outbox",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("topic", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("sent", Boolean, nullable=False),
    )
    op.create_index("outbox_unsent", "outbox", ["sent", "id"])
