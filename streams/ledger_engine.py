"""Where the ledger's tables lie: a SQLite file, or a PostgreSQL database.

SQLite lets one writer in at a time, PostgreSQL many: what must not happen twice at once asks for a lock by name here.
"""

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.pool import NullPool

from detectors.errors import DriftlineError, InvalidInput, Unavailable

BUSY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5
WAL_RETRY_S = 0.005
_POSTGRESQL = ("postgresql", "postgresql+psycopg")
_REFUSALS = ("28000", "28P01", "3D000", "42501")
"""PostgreSQL's codes for wrong names and passwords, a database that is not there, and missing rights."""

_WITHHELD = ("42501", "25006")
"""Its codes for rights that were taken away from us, and for a standby that only reads: people put that right, no message is at fault."""

_LIMITS = "54"
"""PostgreSQL's class of what exceeds its limits (a name too long for an index): no second try helps."""

_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)
"""SQLite's codes for what passes: another process is writing (or changing the tables of a large ledger), the disk is full."""

_TABLES_LOCK = 7_163_504


def open_engine(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """The engine of the ledger at `url`; the folder of a file is made, no connection is opened yet.

    A writer waits at most `busy_timeout_s` seconds for the others. Raises InvalidInput for a URL that can be no ledger,
    Unavailable where the disk is full.
    """
    if on_postgresql(url):
        return _postgresql(url, busy_timeout_s)
    engine = create_engine(_sqlite_url(url), poolclass=NullPool, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def on_postgresql(url: str) -> bool:
    """Whether the ledger at `url` lies in a PostgreSQL database.

    >>> on_postgresql("sqlite:///ledger.sqlite")
    False
    """
    return url.startswith("postgresql")


def shown(url: str) -> str:
    """The URL as it may be printed.

    >>> shown("postgresql+psycopg://line:secret@host/driftline")
    'postgresql+psycopg://line:***@host/driftline'
    """
    try:
        return make_url(url).render_as_string(hide_password=True)
    except exc.ArgumentError:
        return url.partition("://")[0] + "://..."


def lock_tables(connection: Connection) -> None:
    """Until the transaction ends nobody else makes or changes tables; SQLite's writers are alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TABLES_LOCK})")


def lock_requests(connection: Connection) -> None:
    """Until the transaction ends nobody else adds or changes a request."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE requests IN SHARE ROW EXCLUSIVE MODE")


def lock_audit(connection: Connection) -> None:
    """Until the transaction ends nobody else adds an entry."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE")


def fault(error: Exception) -> DriftlineError | None:
    """What an error within a transaction means: a value that no ledger can hold, away for now, or (None) a mistake of ours."""
    sqlstate = str(getattr(getattr(error, "orig", None), "sqlstate", ""))
    if isinstance(error, exc.DBAPIError) and sqlstate in _WITHHELD:
        return Unavailable(f"the ledger does not let us: {error.orig}; give us the rights again; it is tried again")
    if isinstance(error, (exc.DataError, OverflowError)) or sqlstate.startswith(_LIMITS):
        return InvalidInput(f"the ledger cannot hold that: {str(error).splitlines()[0]}; send it again, mended")
    if isinstance(error, (exc.OperationalError, exc.InterfaceError)):
        return Unavailable(f"the ledger does not answer: {error.orig}; it is tried again")
    return None


def refusal(error: exc.DBAPIError, url: str) -> DriftlineError:
    """What an error at opening means: wrong for ever, or away for now."""
    words = str(error.orig)
    sqlstate = getattr(error.orig, "sqlstate", None)
    if on_postgresql(url):
        refused = sqlstate in _REFUSALS or any(said in words for said in ("authentication failed", "does not exist"))
        if isinstance(error, exc.OperationalError) and not refused:
            return Unavailable(f"ledger {shown(url)} does not answer: {words}; it is tried again")
        return InvalidInput(f"ledger {shown(url)}: {words}; check name, password, database and rights")
    if getattr(error.orig, "sqlite_errorcode", None) in _PASSING:
        return Unavailable(f"ledger {url!r}: {words}; it is tried again")
    return InvalidInput(f"ledger {url!r}: {words}; move that file away, or name another")


def _postgresql(url: str, busy_timeout_s: float) -> Engine:
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername not in _POSTGRESQL or not parsed.host or not parsed.database:
        raise InvalidInput(f"ledger {shown(url)!r}; write postgresql+psycopg://name:password@host:5432/database")
    waits = f"-c lock_timeout={int(busy_timeout_s * 1000)} -c idle_in_transaction_session_timeout=300000"
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=4,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": waits, "application_name": "driftline"},
    )


def _sqlite_url(url: str) -> URL:
    """The URL of a file whose folder is there; raises InvalidInput where no file can be."""
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or path.is_dir() or path.name == ":memory:":
        raise InvalidInput(
            f"ledger {shown(url)!r}; write sqlite:///path/to/ledger.sqlite or "
            "postgresql+psycopg://name:password@host:5432/database"
        )
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
    _write_ahead(connection, until=time.monotonic() + BUSY_TIMEOUT_S)
    connection.execute("PRAGMA synchronous = FULL")


def _write_ahead(connection: Any, *, until: float) -> None:
    """SQLite waits for others everywhere but where it changes the journal mode of a new file: there, wait here."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(WAL_RETRY_S)


def _begin(connection: Connection) -> None:
    """Writers queue from their first statement on (a reader that turns writer late would fail); readers never wait."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes", True) else "BEGIN")
