"""The ledger's tables. What was said on the wire is kept whole in `body` (JSON); the columns beside it are what queries ask for.

`open_engine` opens the SQLite file they lie in.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.pool import NullPool

from detectors.errors import InvalidInput, NotYet, Unavailable

BUSY_TIMEOUT_S = 30.0
METADATA = MetaData()

VERDICTS = Table(
    "verdicts",
    METADATA,
    Column("line", String(400), primary_key=True),
    Column("image_id", String(400), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("judged_at", Float, nullable=False),
    Column("redelivered", Integer, nullable=False, default=0),
    Column("repeats", Integer, nullable=False, default=0),
    Column("body", LargeBinary, nullable=False),
    Index("verdicts_by_time", "line", "judged_at"),
    Index("verdicts_flagged", "line", "flagged", "judged_at"),
    Index("verdicts_by_version", "line", "version", "judged_at"),
)

COLLECTED = Table(
    "collected",
    METADATA,
    Column("line", String(400), primary_key=True),
    Column("image_id", String(400), primary_key=True),
    Column("collected_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("collected_by_time", "line", "collected_at"),
)

INCIDENTS = Table(
    "incidents",
    METADATA,
    Column("incident_id", String(200), primary_key=True),
    Column("line", String(400), nullable=False),
    Column("at", Float, nullable=False),
    Column("state", String(20), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("incidents_of_line", "line", "at"),
)

REQUESTS = Table(
    "requests",
    METADATA,
    Column("request_id", String(200), primary_key=True),
    Column("line", String(400), nullable=False),
    Column("state", String(40), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("run_id", String(80)),
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
    Column("request_id", String(200), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("passed", Boolean, nullable=False),
    Column("value", Float),
    Column("limit_value", Float, nullable=False),
    Column("words", Text, nullable=False),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("kind", String(40), primary_key=True),
    Column("identity", String(600), primary_key=True),
    Column("line", String(400), nullable=False),
    Column("subject", String(400)),
    Column("at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("events_of_line", "kind", "line", "at"),
    Index("events_by_time", "kind", "at"),
)
"""Promotions, servings, alerts, reviews, dead letters: what is only ever added to."""

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String(200), nullable=False),
    Column("role", String(40), nullable=False),
    Column("action", String(80), nullable=False),
    Column("line", String(400), nullable=False),
    Column("detail", Text, nullable=False),
)

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("topic", String(40), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sent", Boolean, nullable=False, default=False),
    Index("outbox_unsent", "sent", "id"),
)


def open_engine(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """The engine of the file at `url`, its folder made if it is not there; no connection is opened yet.

    A writer waits at most `busy_timeout_s` seconds for the others. Raises InvalidInput for a URL that can be no file, NotYet for
    PostgreSQL, Unavailable where the disk is full.
    """
    engine = create_engine(_sqlite_url(url), poolclass=NullPool, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _sqlite_url(url: str) -> URL:
    """The URL of a file whose folder is there; raises InvalidInput where no file can be."""
    if url.startswith("postgresql"):
        raise NotYet(f"ledger {url.split('://')[0]}: not yet, a later release brings it; use sqlite:///path")
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or path.is_dir() or path.name == ":memory:":
        raise InvalidInput(f"ledger {url!r} is no file; write sqlite:///path/to/ledger.sqlite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InvalidInput(f"ledger {url!r}: {error}; name a folder that can be made") from error
    except OSError as error:
        raise Unavailable(f"the folder of ledger {url!r} cannot be made: {error}; it is tried again") from error
    return make_url(url)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Many processes at once: write-ahead log, and transactions begun by us (sqlite3's own would begin too late)."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: Connection) -> None:
    """Writers queue from their first statement on (a reader that turns writer late would fail); readers never wait."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes", True) else "BEGIN")
