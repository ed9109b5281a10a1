"""The SQLite file under the embedded bus: its tables, its transactions, and the log's own reads and writes.

The log is one table, found by (topic, partition, offset); `ends` holds the next offset of each partition, so that
offsets go on after retention has emptied it. `members` and `positions` belong to the consumer groups.
"""

import fcntl
import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from detectors.errors import InvalidInput, Unavailable
from streams.bus import Headers, Record
from streams.membership import Slot

Entry = tuple[Slot, bytes | None, bytes, bytes]
"""What is appended: partition, key, packed headers, value."""

BUSY_TIMEOUT_S = 5.0
EXPIRE_ROWS = 500
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, key BLOB, headers BLOB NOT NULL,
    value BLOB NOT NULL, appended_at REAL NOT NULL, PRIMARY KEY (topic, partition, offset));
CREATE TABLE IF NOT EXISTS ends (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    grp TEXT NOT NULL, member TEXT NOT NULL, topics TEXT NOT NULL, boot TEXT NOT NULL, namespace TEXT NOT NULL,
    pid INTEGER NOT NULL, started TEXT NOT NULL, seen_at REAL NOT NULL, session_timeout_s REAL NOT NULL,
    PRIMARY KEY (grp, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, committed INTEGER NOT NULL, owner TEXT,
    epoch INTEGER NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
"""
RECORDS = """
SELECT topic, partition, offset, key, headers, value, appended_at FROM log
WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?"""
LAG = """
SELECT coalesce(sum(e.next_offset - max(coalesce(p.committed, 0), coalesce(
    (SELECT min(l.offset) FROM log l WHERE l.topic = e.topic AND l.partition = e.partition), e.next_offset))), 0)
FROM ends e LEFT JOIN positions p ON p.grp = ? AND p.topic = e.topic AND p.partition = e.partition
WHERE e.topic = ?"""


def prepare(path: Path) -> None:
    """Make the file with its folder and tables if they are not there; raises InvalidInput if it is something else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(path.parent), closing(connect(path, "FULL")) as db, translated():
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            known = f"this program knows {SCHEMA_VERSION}"
            raise InvalidInput(f"{path} has format {version}, {known}: use the newer program")
        if version < SCHEMA_VERSION:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};")


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """A connection in autocommit; with `synchronous` FULL a commit survives a power cut, with NORMAL `kill -9`."""
    with translated():
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA synchronous = {synchronous}")
    return db


def append(db: sqlite3.Connection, entries: Sequence[Entry], *, at: float) -> None:
    """Append entries in order, each at the next offset of its partition. Within a transaction of the caller."""
    ends = {slot: _end_of(db, slot) for slot in {slot for slot, *_ in entries}}
    for slot, key, headers, value in entries:
        db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", (*slot, ends[slot], key, headers, value, at))
        ends[slot] += 1
    rows = [(*slot, end) for slot, end in ends.items()]
    db.executemany("INSERT OR REPLACE INTO ends VALUES (?, ?, ?)", rows)


def records_from(db: sqlite3.Connection, slot: Slot, offset: int, limit: int) -> Generator[Record]:
    """The records of a partition from `offset` on, at most `limit`, each read when it is asked for; close it in the end."""
    with closing(db.execute(RECORDS, (*slot, offset, limit))) as rows:
        for topic, partition, number, key, headers, value, appended_at in rows:
            yield Record(
                topic, partition, number, key, msgspec.msgpack.decode(headers, type=Headers), value, appended_at
            )


def expire(db: sqlite3.Connection, slot: Slot, before: float) -> int:
    """Delete a partition's records up to the first one appended at or after `before`; returns how many.

    In steps of EXPIRE_ROWS, each a short transaction. What is appended meanwhile stays.
    """
    end = _end_of(db, slot)
    which = "FROM log WHERE topic = ? AND partition = ? AND offset < ?"
    kept = f"SELECT offset {which} AND appended_at >= ? ORDER BY offset LIMIT 1"
    found = db.execute(kept, (*slot, end, before)).fetchone()
    limit = int(found[0]) if found else end
    oldest = db.execute(f"SELECT min(offset) {which}", (*slot, limit)).fetchone()[0]
    if oldest is None:
        return 0
    steps = range(oldest + EXPIRE_ROWS, limit + EXPIRE_ROWS, EXPIRE_ROWS)
    return sum(db.execute(f"DELETE {which}", (*slot, min(step, limit))).rowcount for step in steps)


def _end_of(db: sqlite3.Connection, slot: Slot) -> int:
    found = db.execute("SELECT next_offset FROM ends WHERE topic = ? AND partition = ?", slot).fetchone()
    return int(found[0]) if found else 0


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time makes the file (SQLite does not wait for others while it changes the journal mode)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def translated() -> Iterator[None]:
    """SQLite's transient errors as Unavailable, a file that is no database or a broken one as InvalidInput."""
    try:
        yield
    except sqlite3.OperationalError as error:
        cure = "free disk space, or wait for whoever holds the lock"
        raise Unavailable(f"the bus does not take this now: {error}; {cure}") from error
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise
        cure = "move it away or choose another DRIFTLINE_BUS"
        raise InvalidInput(f"the file is not a bus, or broken: {error}; {cure}") from error


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A write transaction: committed at the end of the block, rolled back if it raises."""
    with translated():
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
