"""The embedded bus: a durable log with consumer groups in one SQLite file, for any number of processes on this machine.

Appends are durable against `kill -9` and against power loss (`synchronous=FULL`: an image that was taken over stays).
What consumers write (positions, heartbeats) runs with `synchronous=NORMAL`: durable against `kill -9`; a power cut
may take back the last commits, so that records come again, which at-least-once allows.

A partition is leased to one member of a group (`streams.membership` decides to whom). A member whose process is dead
loses its partitions at once, one that is alive but silent after its session timeout; if it wakes up, its commits are
fenced.
"""

import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec

from detectors.errors import InvalidInput
from streams import topics as table
from streams.bus import MOST_POLLED_BYTES, Fenced, Headers, Record, within
from streams.membership import Lease, Member, Plan, Process, Slot, plan
from streams.sqlite_log import LAG, Entry, append, connect, expire, prepare, records_from, transaction, translated

CHECK_S = 0.2
HEARTBEAT_S = 1.0
SESSION_TIMEOUT_S = 60.0
PAUSE_S = 0.015
ONE_POSITION = "WHERE grp = ? AND topic = ? AND partition = ?"


def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition of a key: its CRC-32 modulo their number, the same in every process; without a key the first.

    >>> partition_of(b"tiles", 8)
    3
    """
    return zlib.crc32(key) % partitions if key else 0


class LocalBus:
    """A bus in the SQLite file at `path`, made if absent. Only producers and consumers hold connections.

    `clock` gives the time of appends in seconds since the epoch. Raises InvalidInput if the file is something else.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bus = LocalBus(Path(folder) / "bus.sqlite")
    ...     with closing(bus.producer()) as producer, closing(bus.consumer("readers", ["images"])) as consumer:
    ...         producer.send("images", key=b"tiles", value=b"pixels")
    ...         producer.flush()
    ...         records = consumer.poll(max_records=10, timeout_s=5.0)
    ...         consumer.commit({("images", records[0].partition): records[0].offset + 1})
    ...     records[0].value, bus.lag("readers", ["images"])
    (b'pixels', 0)
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        prepare(path)

    def producer(self) -> "LocalProducer":
        """A new producer."""
        return LocalProducer(connect(self._path, "FULL"), self._clock)

    def consumer(self, group: str, topics: Sequence[str], *, session_timeout_s: float | None = None) -> "LocalConsumer":
        """A new member of `group` on `topics`; raises NotFound for a topic that is not in `streams.topics`.

        `session_timeout_s` (default 60) is how long a living process may be silent (between polls) before others take its
        partitions; a dead one is noticed at once.
        """
        timeout_s = SESSION_TIMEOUT_S if session_timeout_s is None else session_timeout_s
        if timeout_s <= 0:
            raise InvalidInput(f"session_timeout_s is {timeout_s}; give more than 0, for instance 6")
        slots = frozenset((name, number) for name in topics for number in range(table.topic(name).partitions))
        return LocalConsumer(connect(self._path, "NORMAL"), group, slots, timeout_s)

    def lag(self, group: str, topics: Sequence[str]) -> int:
        """Messages in `topics` that `group` has not committed and retention has not removed."""
        with closing(connect(self._path, "NORMAL")) as db, translated():
            names = {table.topic(name).name for name in topics}
            return sum(int(db.execute(LAG, (group, name)).fetchone()[0]) for name in names)

    def expire(self, now: float) -> int:
        """Delete what is older at `now` than its topic's retention, read or not; returns how many messages went.

        Runs in short transactions, oldest first in each partition: appends go on between them.
        """
        with closing(connect(self._path, "NORMAL")) as db, translated():
            slots = [(row[0], row[1]) for row in db.execute("SELECT topic, partition FROM ends").fetchall()]
            known = [slot for slot in slots if slot[0] in table.TOPICS]
            return sum(expire(db, slot, now - table.topic(slot[0]).retention_s) for slot in known)


class LocalProducer:
    """Buffers messages and appends them in one transaction per flush.

    A flush that raises Unavailable keeps its messages: flush again, or send again (a duplicate with an equal identity).
    """

    def __init__(self, db: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock
        self._pending: list[Entry] = []

    def send(self, topic: str, *, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        """Buffer a message; raises NotFound for an unknown topic, InvalidInput for a value too large for it. Nothing is
        promised before `flush` returns.
        """
        table.check_size(topic, value)
        slot = (topic, partition_of(key, table.topic(topic).partitions))
        self._pending.append((slot, key, msgspec.msgpack.encode(headers), value))

    def flush(self) -> None:
        """Append what was sent, durably. Raises Unavailable (disk full, locked) with nothing appended."""
        if not self._pending:
            return
        with transaction(self._db):
            append(self._db, self._pending, at=self._clock())
        self._pending.clear()

    def close(self) -> None:
        """Flush and let go (also where the flush raises)."""
        with closing(self._db):
            self.flush()


class LocalConsumer:
    """A member of a group, used by one thread; `poll` keeps it alive. A new group starts at the earliest record.

    A partition that goes to another member goes with its committed position: nothing is skipped, and what was read
    here and not committed comes again there.
    """

    def __init__(self, db: sqlite3.Connection, group: str, slots: frozenset[Slot], session_timeout_s: float) -> None:
        topics = frozenset(topic for topic, _ in slots)
        self._me = Member(uuid.uuid4().hex, topics, Process.this(), 0.0, session_timeout_s)
        self._db = db
        self._group = group
        self._slots = slots
        self._leases: dict[Slot, Lease] = {}
        self._next: dict[Slot, int] = {}
        self._leaving: frozenset[Slot] = frozenset()
        self._turn = 0
        self._checked_at = self._beat_at = float("-inf")
        self._nothing_at: int | None = None
        with transaction(db):
            rows = [(group, *slot) for slot in sorted(slots)]
            db.executemany("INSERT OR IGNORE INTO positions VALUES (?, ?, ?, 0, NULL, 0)", rows)

    @property
    def owned(self) -> frozenset[Slot]:
        """The partitions that are this member's now, as it last saw."""
        return frozenset(self._next.keys() - self._leaving)

    def poll(self, *, max_records: int, timeout_s: float, max_bytes: int = MOST_POLLED_BYTES) -> Sequence[Record]:
        """The next records of the owned partitions, in order within each; empty after `timeout_s` without one."""
        if max_records < 1:
            raise InvalidInput(f"max_records is {max_records}; ask for at least 1")
        deadline = time.monotonic() + timeout_s
        with translated():
            while True:
                self._keep_membership()
                records = self._read(max_records, max_bytes)
                left = deadline - time.monotonic()
                if records or left <= 0:
                    return records
                time.sleep(min(PAUSE_S, left))

    def commit(self, offsets: Mapping[Slot, int]) -> None:
        """Make `{(topic, partition): next offset}` the group's position, all or nothing.

        Raises Fenced where a partition is no longer this member's: it is then rewound, and goes on with what it still
        owns.
        """
        try:
            with transaction(self._db):
                for slot, offset in offsets.items():
                    self._move(slot, offset)
        except Fenced:
            self._checked_at = float("-inf")
            self.rewind()
            raise
        for slot, offset in offsets.items():
            self._leases[slot] = Lease(self._me.name, self._leases[slot].epoch, offset)
            self._next[slot] = max(self._next[slot], offset)

    def rewind(self) -> None:
        """Go back to the committed offsets: what was read and not committed comes again."""
        self._next = {slot: lease.committed for slot, lease in self._leases.items()}
        self._nothing_at = None

    def close(self) -> None:
        """Leave the group at once: others take over without waiting."""
        with closing(self._db), transaction(self._db):
            self._bury([self._me.name])

    def _move(self, slot: Slot, offset: int) -> None:
        epoch = self._leases[slot].epoch if slot in self._leases else -1
        update = f"UPDATE positions SET committed = ? {ONE_POSITION} AND owner = ? AND epoch = ?"
        if self._db.execute(update, (offset, self._group, *slot, self._me.name, epoch)).rowcount != 1:
            partition = f"{slot[0]}/{slot[1]} of group {self._group}"
            raise Fenced(f"{partition} is no longer this consumer's; drop its records and poll on")

    def _read(self, max_records: int, max_bytes: int) -> list[Record]:
        """Records of owned partitions, beginning with another one each time, so that a busy partition starves none."""
        version = int(self._db.execute("PRAGMA data_version").fetchone()[0])
        if version == self._nothing_at:
            return []
        self._turn += 1
        with closing(self._ahead(max_records)) as ahead:
            records = within(islice(ahead, max_records), max_bytes)
        self._next.update({(record.topic, record.partition): record.offset + 1 for record in records})
        self._nothing_at = None if records else version
        return records

    def _ahead(self, max_records: int) -> Generator[Record]:
        """What lies ahead in the owned partitions, at most `max_records` of each, read as it is asked for."""
        slots = sorted(self._next.keys() - self._leaving)
        for index in range(len(slots)):
            slot = slots[(self._turn + index) % len(slots)]
            yield from records_from(self._db, slot, self._next[slot], max_records)

    def _keep_membership(self) -> None:
        """Look at the group every CHECK_S (sooner under a short session timeout), and write only what has to change."""
        now = time.monotonic()
        timeout_s = self._me.session_timeout_s
        if now - self._checked_at < min(CHECK_S, timeout_s / 8):
            return
        leases, members, todo = self._look(now)
        due = now - self._beat_at >= min(HEARTBEAT_S, timeout_s / 4)
        if due or not todo.is_empty or self._me.name not in members:
            with transaction(self._db):
                *_, todo = self._look(now)
                self._carry_out(todo, now)
                leases = self._current_leases()
            self._beat_at = now
        self._adopt(leases, todo.leaving)
        self._checked_at = now

    def _look(self, now: float) -> tuple[dict[Slot, Lease], set[str], Plan]:
        leases = self._current_leases()
        query = """SELECT member, topics, boot, namespace, pid, started, seen_at, session_timeout_s
                   FROM members WHERE grp = ?"""
        rows = self._db.execute(query, (self._group,)).fetchall()
        members = [Member(row[0], frozenset(row[1].split()), Process(*row[2:6]), *row[6:]) for row in rows]
        busy = frozenset(slot for slot, lease in self._leases.items() if self._next[slot] != lease.committed)
        return leases, {member.name for member in members}, plan(leases, members, self._me, busy=busy, now=now)

    def _current_leases(self) -> dict[Slot, Lease]:
        query = "SELECT topic, partition, owner, epoch, committed FROM positions WHERE grp = ?"
        rows = self._db.execute(query, (self._group,)).fetchall()
        return {(row[0], row[1]): Lease(*row[2:]) for row in rows if (row[0], row[1]) in self._slots}

    def _carry_out(self, todo: Plan, now: float) -> None:
        """Change the tables as planned, and beat."""
        self._bury(todo.dead)
        for slot in todo.give:
            self._db.execute(f"UPDATE positions SET owner = NULL {ONE_POSITION}", (self._group, *slot))
        for slot in todo.take:
            update = f"UPDATE positions SET owner = ?, epoch = epoch + 1 {ONE_POSITION}"
            self._db.execute(update, (self._me.name, self._group, *slot))
        it = self._me.process
        row = (self._group, self._me.name, " ".join(self._me.topics), it.boot, it.namespace, it.pid, it.started, now)
        insert = "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(insert, (*row, self._me.session_timeout_s))

    def _bury(self, members: Iterable[str]) -> None:
        for name in members:
            self._db.execute("DELETE FROM members WHERE grp = ? AND member = ?", (self._group, name))
            self._db.execute("UPDATE positions SET owner = NULL WHERE grp = ? AND owner = ?", (self._group, name))

    def _adopt(self, leases: Mapping[Slot, Lease], leaving: frozenset[Slot]) -> None:
        """Take over what the table says is ours; what was lost in between starts again from its committed offset."""
        mine = {slot: lease for slot, lease in leases.items() if lease.owner == self._me.name}
        before = {slot: lease.epoch for slot, lease in self._leases.items()}
        after = {slot: lease.epoch for slot, lease in mine.items()}
        if before != after or leaving != self._leaving:
            self._nothing_at = None
        same = {slot for slot, epoch in after.items() if before.get(slot) == epoch}
        self._next = {slot: self._next[slot] if slot in same else lease.committed for slot, lease in mine.items()}
        self._leases = mine
        self._leaving = leaving
