"""The embedded bus keeps the contract, and what is its own: the file, expiry, URLs, transient errors, who gets what."""

import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.errors import InvalidInput, Unavailable
from streams.bus import Bus
from streams.local import LocalBus
from streams.membership import Lease, Member, Process, Slot, plan
from streams.sqlite_log import LAG, RECORDS
from streams.topics import topic
from tests.streams.bus_contract import KEYS, BusContract, append, drain, positions, share_out, until, values_of
from tests.streams.bus_contract import Member as MemberProcess

PAGE_BYTES = 4096
HERE = Process.this()


class TestLocalBus(BusContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'deep' / 'bus.sqlite'}"

    def test_a_partition_in_hand_is_not_given_away_before_it_is_committed(self, bus: Bus) -> None:
        append(bus, [str(number) for number in range(48)])
        with closing(bus.consumer("group", ["images"])) as one:
            records = drain(one, 48)
            with closing(bus.consumer("group", ["images"])) as two:
                for _ in range(20):
                    assert list(two.poll(max_records=5, timeout_s=0.02)) == []
                    assert list(one.poll(max_records=5, timeout_s=0.0)) == []
                one.commit(positions(records))
                append(bus, [str(number) for number in range(48, 96)])
                mine, others = share_out(one, two, 48)
        assert others
        assert not mine & others

    def test_partitions_of_a_killed_process_move_before_its_session_ends(
        self, url: str, bus: Bus, members: Callable[..., MemberProcess]
    ) -> None:
        victim = members(session_s=600.0)
        append(bus, ["a"] * len(KEYS))
        until(lambda: len(victim.values()) == len(KEYS) and bus.lag("group", ["images"]) == 0)
        victim.process.kill()  # and not waited for: a zombie is dead too
        append(bus, ["b"] * len(KEYS))
        with closing(bus.consumer("group", ["images"], session_timeout_s=600.0)) as heir:
            assert values_of(drain(heir, len(KEYS))) == ["b"] * len(KEYS)


@contextmanager
def disk_full_at(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond `size_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_unavailable_and_the_next_flush_delivers_once(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "bus.sqlite")
    with closing(bus.producer()) as producer, closing(bus.consumer("group", ["images"])) as consumer:
        producer.send("images", key=b"tiles", value=bytes(1_000_000))
        with disk_full_at(500_000), pytest.raises(Unavailable, match="free disk space"):
            producer.flush()
        assert bus.lag("group", ["images"]) == 0
        producer.flush()
        assert [record.offset for record in drain(consumer, 1)] == [0]
        assert bus.lag("group", ["images"]) == 1


def test_a_lock_that_is_let_go_is_waited_for(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "bus.sqlite")
    with closing(sqlite3.connect(tmp_path / "bus.sqlite", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        release.start()
        append(bus, ["a"])
        release.join()
    assert bus.lag("group", ["images"]) == 1


@pytest.mark.parametrize("content", [b"not a database " * 100, b"\xff\xd8\xff\xe0" * 1000])
def test_another_file_is_refused_and_left_as_it_was(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bus.sqlite"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="not a bus"):
        LocalBus(path)
    assert path.read_bytes() == content


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    LocalBus(tmp_path / "bus.sqlite")
    with closing(sqlite3.connect(tmp_path / "bus.sqlite")) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(InvalidInput, match="has format 99"):
        LocalBus(tmp_path / "bus.sqlite")


class TestExpiry:
    """What is older than its topic's retention goes, read or not; offsets go on."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def bus(self, tmp_path: Path, now: list[float]) -> LocalBus:
        return LocalBus(tmp_path / "bus.sqlite", clock=lambda: now[0])

    def test_only_what_is_too_old_goes(self, bus: LocalBus, now: list[float]) -> None:
        append(bus, [f"old-{number}" for number in range(60)])
        now[0] = 1000.0
        append(bus, ["young"] * 24)
        assert bus.expire(topic("images").retention_s + 0.0) == 0
        assert bus.expire(topic("images").retention_s + 1.0) == 60
        assert bus.lag("group", ["images"]) == 24
        with closing(bus.consumer("group", ["images"])) as consumer:
            assert values_of(drain(consumer, 24)) == ["young"] * 24

    def test_a_clock_set_back_keeps_the_order_and_makes_nothing_go_early(self, bus: LocalBus, now: list[float]) -> None:
        retention_s = topic("images").retention_s
        with closing(bus.producer()) as producer, closing(bus.consumer("group", ["images"])) as consumer:
            for value, at in ((b"before", 4000.0), (b"after", 400.0)):
                now[0] = at
                producer.send("images", key=b"tiles", value=value)
                producer.flush()
            assert bus.expire(retention_s + 500.0) == 0, "the one after the change waits for the one before"
            assert values_of(drain(consumer, 2)) == ["before", "after"]
        assert bus.expire(retention_s + 4001.0) == 2

    def test_topics_expire_by_their_own_retention(self, bus: LocalBus) -> None:
        append(bus, ["i"], topic="images")
        append(bus, ["r"], topic="reviews")
        assert bus.expire(topic("images").retention_s + 1.0) == 1
        assert (bus.lag("group", ["images"]), bus.lag("group", ["reviews"])) == (0, 1)

    def test_offsets_go_on_after_everything_has_gone(self, bus: LocalBus) -> None:
        with closing(bus.producer()) as producer, closing(bus.consumer("group", ["images"])) as consumer:
            for _ in range(1200):  # more than one step of deletion
                producer.send("images", key=b"tiles", value=b"")
            producer.flush()
            consumer.commit(positions(drain(consumer, 1200)))
            assert bus.expire(topic("images").retention_s + 1.0) == 1200
            producer.send("images", key=b"tiles", value=b"next")
            producer.flush()
            assert bus.lag("group", ["images"]) == 1
            assert [(record.offset, record.value) for record in drain(consumer, 1)] == [(1200, b"next")]

    def test_a_group_that_was_away_goes_on_with_what_is_left(self, bus: LocalBus, now: list[float]) -> None:
        append(bus, ["a"] * 24)
        now[0] = 1000.0
        append(bus, ["b"] * 24)
        bus.expire(topic("images").retention_s + 1.0)
        with closing(bus.consumer("late", ["images"])) as consumer:
            records = drain(consumer, 24)
            consumer.commit(positions(records))
        assert values_of(records) == ["b"] * 24
        assert bus.lag("late", ["images"]) == 0


@pytest.mark.parametrize(("query", "arguments"), [(RECORDS, ("images", 0, 0, 10)), (LAG, ("group", "images"))])
def test_reading_searches_the_log_and_never_scans_it(tmp_path: Path, query: str, arguments: tuple[object, ...]) -> None:
    LocalBus(tmp_path / "bus.sqlite")
    with closing(sqlite3.connect(tmp_path / "bus.sqlite")) as db:
        steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", arguments)]
    assert any("SEARCH" in step for step in steps)
    assert not [step for step in steps if step.startswith(("SCAN l", "USE TEMP"))]


def test_an_idle_consumer_writes_little(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "bus.sqlite")
    with closing(bus.consumer("group", ["images", "verdicts", "promotions"])) as consumer:
        consumer.poll(max_records=1, timeout_s=0.0)
        before = (tmp_path / "bus.sqlite-wal").stat().st_size
        consumer.poll(max_records=1, timeout_s=1.5)
        written = (tmp_path / "bus.sqlite-wal").stat().st_size - before
    assert 0 < written <= 4 * PAGE_BYTES


MemberNames = st.lists(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=9, unique=True)


def member(name: str) -> Member:
    """A living member that was just seen."""
    return Member(name, frozenset({"images"}), HERE, 0.0, 6.0)


def settle(owners: dict[Slot, str | None], names: list[str]) -> int:
    """Let each member in turn carry out its plan until none has one; returns how many partitions changed hands."""
    members = [member(name) for name in names]
    moves = 0
    for _ in range(20):
        before = dict(owners)
        for me in members:
            leases = {slot: Lease(owner, 0, 0) for slot, owner in owners.items()}
            todo = plan(leases, members, me, busy=frozenset(), now=1.0)
            owners.update(dict.fromkeys(todo.give, None))
            owners.update(dict.fromkeys(todo.take, me.name))
            moves += len(todo.take)
        if owners == before:
            return moves
    pytest.fail("the members never come to rest")


@settings(deadline=None, max_examples=40)
@given(names=MemberNames, joining=st.booleans())
def test_members_come_to_equal_shares_with_few_moves(names: list[str], joining: bool) -> None:
    owners: dict[Slot, str | None] = {("images", number): None for number in range(8)}
    settle(owners, names)
    after = [*names, "zz-new"] if joining else names[1:] or ["zz-new"]
    left = sum(owner not in after for owner in owners.values())
    moves = settle(owners, after)
    held = [list(owners.values()).count(name) for name in after]
    assert sum(held) == 8
    assert max(held) - min(held) <= 1
    assert moves == (8 // len(after) if joining else left)


def test_a_busy_surplus_stays_until_it_is_idle() -> None:
    slots = [("images", number) for number in range(8)]
    leases = {slot: Lease("a", 1, 0) for slot in slots}
    todo = plan(leases, [member("a"), member("b")], member("a"), busy=frozenset(slots[:6]), now=1.0)
    assert set(todo.give) == set(slots[6:])
    assert len(todo.leaving) == 2
    assert todo.leaving <= set(slots[:6])


@pytest.mark.parametrize(
    ("changed", "gone"),
    [
        (lambda it: it, False),
        (lambda it: Process(it.boot, it.namespace, it.pid, "1"), True),
        (lambda it: Process(it.boot, it.namespace, 2**22 + 1, it.started), True),
        (lambda it: Process("before the reboot", it.namespace, it.pid, it.started), True),
        (lambda it: Process(it.boot, "another container", 2**22 + 1, "1"), False),
    ],
)
def test_who_is_dead(changed: Callable[[Process], Process], gone: bool) -> None:
    assert Member("m", frozenset(), changed(HERE), 0.0, 6.0).is_gone(HERE, 5.0) is gone
    assert Member("m", frozenset(), changed(HERE), 0.0, 6.0).is_gone(HERE, 7.0)
