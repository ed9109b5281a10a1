"""What every bus promises, as a suite: a test class of a bus derives from `BusContract` and says how a bus is opened.

Other processes are real ones: `python -m tests.streams.bus_contract URL GROUP OUT SESSION_S NAP` is a member that
commits what it reads and writes one line a record to OUT before the commit.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from detectors.errors import InvalidInput, NotFound
from streams.bus import Bus, Consumer, Fenced, Record
from streams.buses import open_bus
from streams.topics import MOST_MESSAGE_BYTES

ROOT = Path(__file__).resolve().parents[2]
KEYS = [f"line-{number}".encode() for number in range(24)]
PATIENCE_S = 30.0
FENCED = "fenced"


def append(bus: Bus, values: Sequence[str], *, topic: str = "images") -> None:
    """Append values, spread over KEYS."""
    with closing(bus.producer()) as producer:
        for index, value in enumerate(values):
            producer.send(
                topic, key=KEYS[index % len(KEYS)], value=value.encode(), headers=(("n", str(index).encode()),)
            )
        producer.flush()


def drain(consumer: Consumer, count: int) -> list[Record]:
    """Poll until `count` records have come (or patience ends)."""
    records: list[Record] = []
    until(lambda: len(records) >= count, lambda: records.extend(consumer.poll(max_records=7, timeout_s=0.05)))
    return records


def until(reached: Callable[[], bool], step: Callable[[], object] = lambda: time.sleep(0.02)) -> None:
    """Step until a condition is reached; fails when patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > deadline:
            pytest.fail(f"not reached within {PATIENCE_S} s")
        step()


def positions(records: Sequence[Record]) -> dict[tuple[str, int], int]:
    """What to commit after `records`."""
    return {(record.topic, record.partition): record.offset + 1 for record in records}


def values_of(records: Sequence[Record]) -> list[str]:
    """The text of each record."""
    return [record.value.decode() for record in records]


class Member:
    """A consumer in a process of its own."""

    def __init__(self, url: str, group: str, out: Path, *, session_s: float, nap: bool) -> None:
        self.out = out
        command = [
            sys.executable,
            "-m",
            "tests.streams.bus_contract",
            url,
            group,
            str(out),
            str(session_s),
            "nap" * nap,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment)

    def values(self) -> list[str]:
        """What it has read so far."""
        return [json.loads(line)[1] for line in self.complete_lines()]

    def complete_lines(self) -> list[str]:
        """Its lines, without one that is being written."""
        text = self.out.read_text() if self.out.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def end(self) -> None:
        """Let it go, however it stands."""
        self.process.kill()
        self.process.wait()


def read_for_ever(consumer: Consumer, out: Path, *, nap: bool) -> None:
    """The body of a member process; with `nap` it stops itself once, records in hand, as if the machine were frozen."""
    while True:
        records = consumer.poll(max_records=5, timeout_s=0.2)
        note(out, [(record.partition, record.value.decode()) for record in records])
        if records and nap:
            nap = False
            os.kill(os.getpid(), signal.SIGSTOP)
        try:
            consumer.commit(positions(records))
        except Fenced:
            note(out, [(-1, FENCED)])


def note(out: Path, lines: Sequence[tuple[int, str]]) -> None:
    """Append lines to a member's file."""
    with out.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


class BusContract:
    """The promises. `url` names a fresh, empty bus that other processes can open too.

    `session_s`: a short session timeout that it keeps.
    """

    session_s = 0.6

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        raise NotImplementedError

    @pytest.fixture
    def bus(self, url: str) -> Bus:
        return open_bus(url)

    @pytest.fixture
    def members(self, url: str, tmp_path: Path) -> Iterator[Callable[..., Member]]:
        with ExitStack() as stack:

            def start(*, session_s: float = self.session_s, nap: bool = False) -> Member:
                out = tmp_path / f"member-{time.monotonic_ns()}.jsonl"
                member = Member(url, "group", out, session_s=session_s, nap=nap)
                stack.callback(member.end)
                return member

            yield start

    def test_a_record_comes_as_it_was_sent(self, bus: Bus) -> None:
        headers = (("ce_id", b"\xff\x00"), ("ce_id", b"twice"), ("empty", b""))
        before = time.time()
        with closing(bus.producer()) as producer, closing(bus.consumer("group", ["images"])) as consumer:
            producer.send("images", key=b"press-4/door", value=bytes(range(256)), headers=headers)
            producer.flush()
            (record,) = drain(consumer, 1)
        assert (record.key, record.value, record.offset) == (b"press-4/door", bytes(range(256)), 0)
        assert record.headers == headers
        assert before - 1 <= record.appended_at <= time.time() + 1

    def test_a_record_without_a_key_comes_too(self, bus: Bus) -> None:
        with closing(bus.producer()) as producer, closing(bus.consumer("group", ["images"])) as consumer:
            producer.send("images", key=None, value=b"raw")
            producer.flush()
            assert [(record.key, record.value) for record in drain(consumer, 1)] == [(None, b"raw")]

    def test_records_of_a_key_share_a_partition_and_keep_their_order(self, bus: Bus) -> None:
        sent = [str(number) for number in range(200)]
        append(bus, sent[:90])
        append(bus, sent[90:])
        with closing(bus.consumer("group", ["images"])) as consumer:
            records = drain(consumer, 200)
        by_key: dict[bytes | None, list[Record]] = defaultdict(list)
        for record in records:
            by_key[record.key].append(record)
        assert sorted(values_of(records), key=int) == sent
        assert all(len({record.partition for record in group}) == 1 for group in by_key.values())
        for group in by_key.values():
            assert values_of(group) == sorted(values_of(group), key=int)

    def test_offsets_of_a_partition_have_no_gaps(self, bus: Bus) -> None:
        append(bus, [str(number) for number in range(100)])
        with closing(bus.consumer("group", ["images"])) as consumer:
            records = drain(consumer, 100)
        by_partition: dict[int, list[int]] = defaultdict(list)
        for record in records:
            by_partition[record.partition].append(record.offset)
        assert all(offsets == list(range(len(offsets))) for offsets in by_partition.values())

    def test_a_poll_returns_no_more_than_asked_and_nothing_after_the_timeout(self, bus: Bus) -> None:
        append(bus, [str(number) for number in range(30)])
        with closing(bus.consumer("group", ["images"])) as consumer:
            sizes = [len(consumer.poll(max_records=4, timeout_s=5.0)) for _ in range(8)]
            assert max(sizes) <= 4
            drained = sum(sizes)
            drain(consumer, 30 - drained)
            assert list(consumer.poll(max_records=4, timeout_s=0.0)) == []

    def test_a_poll_of_large_messages_is_cut_by_their_bytes(self, bus: Bus) -> None:
        sent = [(KEYS[number % 4], bytes([number]) * (3 << 20)) for number in range(12)]
        with closing(bus.producer()) as producer:
            for key, value in sent:
                producer.send("images", key=key, value=value)
            producer.flush()
        polls: list[Sequence[Record]] = []
        with closing(bus.consumer("group", ["images"])) as consumer:

            def take(max_bytes: int) -> None:
                if records := consumer.poll(max_records=50, timeout_s=0.5, max_bytes=max_bytes):
                    polls.append(records)

            take_some, take_one = partial(take, 7 << 20), partial(take, 1)
            until(lambda: sum(map(len, polls)) >= 6, take_some)
            consumer.rewind()
            polls.clear()
            until(lambda: sum(map(len, polls)) >= 6, take_some)
            assert {len(records) for records in polls} <= {1, 2}
            singles = len(polls)
            until(lambda: sum(map(len, polls)) >= len(sent), take_one)
            assert {len(records) for records in polls[singles:]} == {1}, "one that is larger comes alone"
            taken = [record for records in polls for record in records]
            for key in KEYS[:4]:
                assert [r.value for r in taken if r.key == key] == [value for other, value in sent if other == key]
            consumer.commit(positions(taken))
        assert bus.lag("group", ["images"]) == 0

    def test_a_partition_of_large_messages_starves_none(self, bus: Bus) -> None:
        append(bus, [str(number) for number in range(24)])
        with closing(bus.producer()) as producer:
            for _ in range(20):
                producer.send("images", key=KEYS[0], value=bytes(1 << 20))
            producer.flush()
        seen: list[set[int]] = []
        with closing(bus.consumer("group", ["images"])) as consumer:

            def turn() -> None:
                if records := consumer.poll(max_records=50, timeout_s=0.5, max_bytes=1 << 20):
                    seen.append({record.partition for record in records})

            until(lambda: len(set().union(*seen)) == 8, turn)
        assert len(seen) < 20, "before the large ones were all read"

    def test_groups_read_independently(self, bus: Bus) -> None:
        append(bus, ["a", "b", "c"])
        with closing(bus.consumer("one", ["images"])) as one:
            one.commit(positions(drain(one, 3)))
        assert (bus.lag("one", ["images"]), bus.lag("two", ["images"])) == (0, 3)
        with closing(bus.consumer("two", ["images"])) as two:
            assert sorted(values_of(drain(two, 3))) == ["a", "b", "c"]

    def test_a_consumer_reads_its_topics_and_no_others(self, bus: Bus) -> None:
        append(bus, ["i"], topic="images")
        append(bus, ["v"], topic="verdicts")
        append(bus, ["r"], topic="reviews")
        with closing(bus.consumer("group", ["images", "reviews"])) as consumer:
            assert {record.topic: record.value for record in drain(consumer, 2)} == {"images": b"i", "reviews": b"r"}
            assert list(consumer.poll(max_records=4, timeout_s=0.0)) == []

    def test_what_was_not_committed_comes_again_after_reopening(self, url: str, bus: Bus) -> None:
        append(bus, ["a"])
        with closing(bus.consumer("group", ["images"])) as consumer:
            consumer.commit(positions(drain(consumer, 1)))
            append(bus, ["b"])
            drain(consumer, 1)
        with closing(open_bus(url).consumer("group", ["images"])) as again:
            assert values_of(drain(again, 1)) == ["b"]

    def test_rewind_goes_back_to_the_committed_offsets(self, bus: Bus) -> None:
        append(bus, [str(number) for number in range(40)])
        with closing(bus.consumer("group", ["images"])) as consumer:
            first = drain(consumer, 40)
            done = [record for record in first if record.offset == 0]
            consumer.commit(positions(done))
            consumer.rewind()
            again = drain(consumer, 40 - len(done))
        assert sorted(values_of(again)) == sorted(values_of([record for record in first if record.offset > 0]))

    def test_lag_counts_what_is_not_committed(self, bus: Bus) -> None:
        append(bus, [str(number) for number in range(10)])
        with closing(bus.consumer("group", ["images"])) as consumer:
            records = drain(consumer, 10)
            assert bus.lag("group", ["images"]) == 10
            consumer.commit(positions(records))
        assert bus.lag("group", ["images"]) == 0
        assert bus.lag("group", ["images", "verdicts"]) == 0

    def test_unknown_topics_are_refused(self, bus: Bus) -> None:
        with closing(bus.producer()) as producer, pytest.raises(NotFound, match="imagse"):
            producer.send("imagse", key=b"k", value=b"")
        with pytest.raises(NotFound, match="imagse"):
            bus.consumer("group", ["imagse"])
        with pytest.raises(NotFound, match="imagse"):
            bus.lag("group", ["imagse"])

    def test_a_message_that_its_topic_cannot_hold_is_refused_before_it_is_sent(self, bus: Bus) -> None:
        with closing(bus.producer()) as producer:
            with pytest.raises(
                InvalidInput, match=r"20000000 bytes .*'images', the limit is 16777216; .* by reference"
            ):
                producer.send("images", key=b"k", value=bytes(20_000_000))
            producer.send("images", key=b"k", value=bytes(MOST_MESSAGE_BYTES))
            producer.flush()
        assert bus.lag("group", ["images"]) == 1

    def test_nonsense_is_refused(self, bus: Bus) -> None:
        with pytest.raises(InvalidInput, match="session_timeout_s is 0"):
            bus.consumer("group", ["images"], session_timeout_s=0)
        with closing(bus.consumer("group", ["images"])) as consumer, pytest.raises(InvalidInput, match="at least 1"):
            consumer.poll(max_records=0, timeout_s=0.0)

    def test_two_consumers_share_the_partitions(self, bus: Bus) -> None:
        with two_sharing(bus) as (one, two):
            append(bus, [str(number) for number in range(96)])
            mine, others = share_out(one, two, 96)
        assert mine | others == set(range(8))
        assert mine
        assert others

    def test_a_commit_for_a_partition_of_another_is_fenced(self, bus: Bus) -> None:
        append(bus, [str(number) for number in range(48)])
        with two_sharing(bus) as (one, two):
            theirs = drain(two, 1)
            mine = drain(one, 1)
            with pytest.raises(Fenced):
                one.commit({**positions(mine), **positions(theirs)})
            assert bus.lag("group", ["images"]) == 48
            again: list[Record] = []
            until(lambda: set(mine) <= set(again), lambda: again.extend(one.poll(max_records=7, timeout_s=0.05)))

    def test_what_is_in_hand_when_another_joins_stays_or_its_commit_is_fenced(self, bus: Bus) -> None:
        append(bus, [str(number) for number in range(48)])
        with closing(bus.consumer("group", ["images"])) as one:
            in_hand = drain(one, 48)
            taken: list[Record] = []
            with closing(bus.consumer("group", ["images"])) as two:
                for _ in range(10):
                    taken += [record for each in (two, one) for record in each.poll(max_records=5, timeout_s=0.1)]
                try:
                    one.commit(positions(in_hand))
                    assert not taken
                except Fenced:
                    two.rewind()
                    share_out(one, two, 48)
        assert bus.lag("group", ["images"]) == 0

    def test_a_group_of_processes_reads_everything_while_members_come_and_are_killed(
        self, bus: Bus, members: Callable[..., Member]
    ) -> None:
        sent: list[str] = []

        def feed() -> None:
            if bus.lag("group", ["images"]) > 100:
                return time.sleep(0.02)
            fresh = [str(len(sent) + number) for number in range(len(KEYS))]
            append(bus, fresh)
            return sent.extend(fresh)

        first, second = members(), members()
        until(lambda: bool(first.values()) and bool(second.values()), feed)
        first.process.kill()
        third = members()
        until(lambda: bool(third.values()), feed)
        until(lambda: bus.lag("group", ["images"]) == 0)
        assert {value for member in (first, second, third) for value in member.values()} >= set(sent)

    def test_a_stopped_process_loses_its_partitions_and_is_fenced_when_it_wakes(
        self, bus: Bus, members: Callable[..., Member]
    ) -> None:
        sleeper = members(nap=True)
        sent = [str(number) for number in range(100)]
        append(bus, sent)
        until(lambda: bool(sleeper.values()))
        in_hand = sleeper.values()
        with closing(bus.consumer("group", ["images"], session_timeout_s=self.session_s)) as heir:
            taken = work_off(bus, heir)
        assert set(in_hand) <= set(values_of(taken))
        assert set(values_of(taken)) == set(sent)
        sleeper.process.send_signal(signal.SIGCONT)
        append(bus, ["after"] * len(KEYS))
        until(lambda: bus.lag("group", ["images"]) == 0)
        assert sleeper.values() == [*in_hand, FENCED, *["after"] * len(KEYS)]


def side_by_side(reached: Callable[[], bool], *turns: Callable[[], object]) -> None:
    """Repeat each turn in a thread of its own, as members in processes of their own would, until a condition is reached."""
    stop = threading.Event()

    def repeat(turn: Callable[[], object]) -> None:
        while not stop.is_set():
            turn()

    with ThreadPoolExecutor(len(turns)) as threads:
        running = [threads.submit(repeat, turn) for turn in turns]
        try:
            until(lambda: reached() or any(each.done() for each in running))
        finally:
            stop.set()
    for each in running:
        each.result()


@contextmanager
def two_sharing(bus: Bus) -> Iterator[tuple[Consumer, Consumer]]:
    """Two members of one group after they have balanced."""
    with closing(bus.consumer("group", ["images"])) as one, closing(bus.consumer("group", ["images"])) as two:

        def look(consumer: Consumer) -> None:
            consumer.poll(max_records=1, timeout_s=0.1)
            consumer.rewind()

        side_by_side(lambda: len(one.owned) == len(two.owned) == 4, partial(look, one), partial(look, two))
        yield one, two


def share_out(one: Consumer, two: Consumer, count: int) -> tuple[set[int], set[int]]:
    """Let both read and commit until `count` records were committed; returns the partitions of each."""
    seen: tuple[set[int], set[int]] = (set(), set())
    read: list[Record] = []

    def turn(consumer: Consumer, partitions: set[int]) -> None:
        records = consumer.poll(max_records=5, timeout_s=0.05)
        with suppress(Fenced):
            consumer.commit(positions(records))
            partitions.update(record.partition for record in records)
            read.extend(records)

    side_by_side(lambda: len(read) >= count, partial(turn, one, seen[0]), partial(turn, two, seen[1]))
    assert len(read) == count
    return seen


def work_off(bus: Bus, consumer: Consumer) -> list[Record]:
    """Read and commit until the group has no lag."""
    taken: list[Record] = []

    def turn() -> None:
        records = consumer.poll(max_records=50, timeout_s=0.05)
        consumer.commit(positions(records))
        taken.extend(records)

    until(lambda: bus.lag("group", ["images"]) == 0, turn)
    return taken


if __name__ == "__main__":
    _, _url, _group, _out, _session_s, _nap = sys.argv
    _consumer = open_bus(_url).consumer(_group, ["images"], session_timeout_s=float(_session_s))
    read_for_ever(_consumer, Path(_out), nap=bool(_nap))
