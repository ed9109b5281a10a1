"""The ledger's tables. What was said on the wire is kept whole in `body` (JSON); the columns beside it are what queries ask for."""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

METADATA = MetaData()

KEY = Text().with_variant(Text(collation="C"), "postgresql")
"""Names and identities: ordered by their bytes, as SQLite does."""

REPEATED = text("(redelivered > 0 OR repeats > 0)")
"""Verdicts that came again: few, in an index of their own (found only where a query says it in these words)."""

VACUUM_SOON = {"autovacuum_vacuum_insert_scale_factor": 0, "autovacuum_vacuum_insert_threshold": 20_000}
"""PostgreSQL answers from an index alone only where it has vacuumed: after so many new rows, not after a fifth of a large table."""

VERDICTS = Table(
    "verdicts",
    METADATA,
    Column("line", KEY, primary_key=True),
    Column("image_id", KEY, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("judged_at", Float, nullable=False),
    Column("redelivered", Integer, nullable=False, default=0),
    Column("repeats", Integer, nullable=False, default=0),
    Column("body", LargeBinary, nullable=False),
    Index("verdicts_by_time", "line", "judged_at"),
    Index("verdicts_flagged", "line", "flagged", "judged_at"),
    Index("verdicts_by_version", "line", "version", "judged_at", "score", "flagged"),
    Index("verdicts_repeated", "line", sqlite_where=REPEATED, postgresql_where=REPEATED),
    postgresql_with=VACUUM_SOON,
)

VERDICT_HOURS = Table(
    "verdict_hours",
    METADATA,
    Column("line", KEY, primary_key=True),
    Column("start_at", Float, primary_key=True),
    Column("judged", Integer, nullable=False),
    Column("flagged", Integer, nullable=False),
    Column("overdue", Integer, nullable=False, server_default="0"),
)
"""Verdicts counted by line and hour as they are written, for whatever would otherwise count millions of them."""

COLLECTED = Table(
    "collected",
    METADATA,
    Column("line", KEY, primary_key=True),
    Column("image_id", KEY, primary_key=True),
    Column("collected_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("collected_by_time", "line", "collected_at"),
)

INCIDENTS = Table(
    "incidents",
    METADATA,
    Column("incident_id", KEY, primary_key=True),
    Column("line", KEY, nullable=False),
    Column("at", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("incidents_of_line", "line", "at"),
    Index("incidents_by_state", "state", "line", "at"),
)
"""`state`: opened or closed, whatever else became of an incident (`body` is its latest message); `at`: when it was first told."""

REQUESTS = Table(
    "requests",
    METADATA,
    Column("request_id", KEY, primary_key=True),
    Column("line", KEY, nullable=False),
    Column("state", Text, nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("run_id", Text),
    Column("attempt", Integer, nullable=False, default=0),
    Column("version", Integer),
    Column("detail", Text),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("body", LargeBinary, nullable=False),
    Index("requests_of_line", "line", "requested_at"),
    Index("requests_by_state", "state"),
)

GATES = Table(
    "gates",
    METADATA,
    Column("request_id", KEY, primary_key=True),
    Column("name", KEY, primary_key=True),
    Column("passed", Boolean, nullable=False),
    Column("value", Float),
    Column("limit_value", Float, nullable=False),
    Column("words", Text, nullable=False),
)

SHADOWS = Table(
    "shadows",
    METADATA,
    Column("line", KEY, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("image_id", KEY, primary_key=True),
    Column("flagged", Boolean, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("champion_flagged", Boolean, nullable=False),
    Column("judged_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("shadows_by_time", "line", "version", "judged_at"),
)
"""What challengers would have said."""

TRAINING_IMAGES = Table(
    "training_images",
    METADATA,
    Column("line", KEY, primary_key=True),
    Column("request_id", KEY, primary_key=True),
    Column("image_key", KEY, primary_key=True),
    Column("role", Text, nullable=False),
    Column("why", Text, nullable=False),
    Index("training_images_by_image", "line", "image_key"),
)
"""What became of each image of a request's training set: fit, held_out or left_out, and why."""

EVENTS = Table(
    "events",
    METADATA,
    Column("kind", KEY, primary_key=True),
    Column("identity", KEY, primary_key=True),
    Column("line", KEY, nullable=False),
    Column("subject", KEY),
    Column("image_id", KEY),
    Column("at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("events_of_line", "kind", "line", "at"),
    Index("events_by_time", "kind", "at"),
    Index("events_of_image", "line", "image_id"),
)
"""Promotions, servings, alerts, states of incidents, answers, reviews, dead letters: what is only ever added to. `image_id`: where it
tells of one image.
"""

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("line", KEY, nullable=False),
    Column("detail", Text, nullable=False),
)

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sent", Boolean, nullable=False, default=False),
    Index("outbox_unsent", "sent", "id"),
)
