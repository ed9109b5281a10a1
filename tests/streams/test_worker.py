"""The worker's loop on the real embedded bus: order of effects, dead letters, waiting, fencing, stopping."""

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from detectors.errors import InvalidInput, Unavailable
from streams.bus import MOST_POLLED_BYTES, Bus, Consumer, Headers, Producer, Record, publish
from streams.local import LocalBus, partition_of
from streams.messages import DeadLetter, Message, Review, decode, encode
from streams.sqlite_log import append, connect, transaction
from streams.topics import check_size
from streams.worker import (
    KEPT_BYTES,
    KEPT_HEADER_BYTES,
    KEPT_REASON,
    Committed,
    Effects,
    Handed,
    Handler,
    Progress,
    Rested,
    Sink,
    Turn,
    Waiting,
    Worker,
    dead_letter,
)
from tests.streams.bus_contract import drain, until


def review(image_id: str, line: str = "tiles") -> Review:
    """An output message."""
    return Review(line=line, image_id=image_id, says="normal", note="", by="echo", at=0.0)


class Echo:
    """Answers each record with a review of that name, and fails on the records it was told to."""

    def __init__(self, faults: dict[str, Exception] | None = None) -> None:
        self.faults = faults or {}
        self.handled: list[str] = []

    def handle(self, records: Sequence[Record]) -> Effects:
        return Effects(messages=tuple(self.answer(record) for record in records))

    def answer(self, record: Record) -> Message:
        name = record.value.decode()
        if name in self.faults:
            raise self.faults[name]
        self.handled.append(name)
        return review(name)


class Away:
    """Whatever it stands in for is away for the first `times` calls."""

    def __init__(self, times: int) -> None:
        self.left = times

    def check(self) -> None:
        if self.left > 0:
            self.left -= 1
            raise Unavailable("the store does not answer; start it")


class AwayEcho(Echo):
    """An Echo whose store is away at first."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.store = Away(times)

    def handle(self, records: Sequence[Record]) -> Effects:
        self.store.check()
        return super().handle(records)


class Traced:
    """A consumer, a producer and a sink that note what is done to them; `flush` may be away at first."""

    def __init__(self, consumer: Consumer, producer: Producer, away: Away) -> None:
        self.events: list[str] = []
        self._consumer = consumer
        self._producer = producer
        self._away = away

    @property
    def owned(self) -> frozenset[tuple[str, int]]:
        return self._consumer.owned

    def poll(self, *, max_records: int, timeout_s: float, max_bytes: int = MOST_POLLED_BYTES) -> Sequence[Record]:
        return self._consumer.poll(max_records=max_records, timeout_s=timeout_s, max_bytes=max_bytes)

    def commit(self, offsets: Mapping[tuple[str, int], int]) -> None:
        self._consumer.commit(offsets)
        self.events.append("commit")

    def send(self, topic: str, *, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        self._producer.send(topic, key=key, value=value, headers=headers)
        self.events.append(f"send {topic}")

    def rewind(self) -> None:
        self._consumer.rewind()

    def flush(self) -> None:
        self._away.check()
        self._producer.flush()
        self.events.append("flush")

    def close(self) -> None:
        self._producer.close()


class NotedSink:
    """A sink that notes its flushes among the others' events, and may be away at first."""

    def __init__(self, events: list[str], away: Away) -> None:
        self._events = events
        self._away = away

    def flush(self) -> None:
        self._away.check()
        self._events.append("sink")


@pytest.fixture
def bus(tmp_path: Path) -> LocalBus:
    return LocalBus(tmp_path / "bus.sqlite")


def feed(bus: Bus, names: Sequence[str], headers: Headers = ()) -> None:
    """Append images of one line."""
    with closing(bus.producer()) as producer:
        for name in names:
            producer.send("images", key=b"tiles", value=name.encode(), headers=headers)
        producer.flush()


def made(bus: Bus, topic: str) -> list[Record]:
    """Everything in a topic."""
    with closing(bus.consumer("look", [topic])) as consumer:
        return drain(consumer, bus.lag("look", [topic]))


def answers(bus: Bus) -> list[str]:
    """The images that were answered, in order."""
    return [decode(record.value, Review).image_id for record in made(bus, "reviews")]


def letters(bus: Bus) -> list[DeadLetter]:
    """The dead letters."""
    return [decode(record.value, DeadLetter) for record in made(bus, "dead-letters")]


def work(
    bus: Bus, handler: Handler, sinks: Sequence[Sink] = (), *, done: Callable[[Worker], bool] | None = None
) -> Progress:
    """Run a worker until nothing is left (or `done`), stop it in order, and return how far it came."""
    worker = Worker(
        bus.consumer("workers", ["images"]),
        bus.producer(),
        handler,
        source="/test",
        sinks=sinks,
        max_records=5,
        lag=lambda: bus.lag("workers", ["images"]),
        clock=lambda: 42.0,
    )
    run(worker, done or (lambda worker: worker.progress.lag == 0))
    return worker.progress


def run(worker: Worker, done: Callable[[Worker], bool]) -> None:
    """Run a worker in a thread until `done`, then stop it; fails if it died."""
    stop = threading.Event()
    died: list[BaseException] = []

    def body() -> None:
        try:
            worker.run(stop)
        except BaseException as error:
            died.append(error)
            raise

    thread = threading.Thread(target=body)
    thread.start()
    try:
        until(lambda: bool(died) or done(worker))
    finally:
        stop.set()
        thread.join()
    assert not died


def test_each_record_is_answered_in_order(bus: LocalBus) -> None:
    names = [str(number) for number in range(23)]
    feed(bus, names)
    progress = work(bus, Echo())
    assert answers(bus) == names
    assert progress == Progress(at=42.0, processed=23, dead=0, lag=0, waiting_for=None)


def test_messages_carry_the_worker_as_their_source(bus: LocalBus) -> None:
    feed(bus, ["a"])
    work(bus, Echo())
    (record,) = made(bus, "reviews")
    assert (record.key, record.header("ce_source"), record.header("ce_time")) == (b"tiles", "/test", "42.000000")


def traced(bus: LocalBus, *, producer_away: int = 0, sink_away: int = 0) -> list[str]:
    """The events of a worker on two records."""
    feed(bus, ["a", "b"])
    trace = Traced(bus.consumer("workers", ["images"]), bus.producer(), Away(producer_away))
    sink = NotedSink(trace.events, Away(sink_away))
    worker = Worker(trace, trace, Echo(), source="/test", sinks=[sink])
    run(worker, lambda _: "commit" in trace.events)
    return trace.events


def test_sinks_are_durable_before_messages_and_messages_before_the_commit(bus: LocalBus) -> None:
    assert traced(bus) == ["sink", "send reviews", "send reviews", "flush", "commit"]


def test_a_sink_that_is_away_holds_back_messages_and_commit(bus: LocalBus) -> None:
    events = traced(bus, sink_away=2)
    assert [event for event in events if event != "flush"] == ["sink", "send reviews", "send reviews", "commit"]


def test_a_bus_that_is_away_holds_back_the_commit_and_sends_do_not_pile_up(bus: LocalBus) -> None:
    events = traced(bus, producer_away=3)
    assert events.count("send reviews") == 4  # once before the outage and once after, however long it was
    assert events.index("flush") < events.index("commit")
    assert set(answers(bus)) == {"a", "b"}


@pytest.mark.parametrize(
    "fault", [InvalidInput("2 bytes are no image; send one"), ZeroDivisionError("division by zero")]
)
@pytest.mark.parametrize("poison", ["0", "7", "22"])
def test_a_poison_record_becomes_a_dead_letter_and_its_neighbours_pass(
    bus: LocalBus, poison: str, fault: Exception
) -> None:
    names = [str(number) for number in range(23)]
    feed(bus, names, headers=(("ce_id", b"\xff"), ("x", b"")))
    progress = work(bus, Echo({poison: fault}))
    assert answers(bus) == [name for name in names if name != poison]
    (letter,) = letters(bus)
    assert (letter.error, letter.reason, letter.at) == (type(fault).__name__, str(fault), 42.0)
    assert (letter.source_topic, letter.source_offset, letter.key) == ("images", int(poison), b"tiles")
    assert (letter.original, letter.headers) == (poison.encode(), (("ce_id", b"\xff"), ("x", b"")))
    assert (progress.processed, progress.dead, progress.lag) == (23, 1, 0)


def test_a_message_that_cannot_be_written_is_the_fault_of_its_record(bus: LocalBus) -> None:
    class Surrogates(Echo):
        def answer(self, record: Record) -> Message:
            return review("\ud800") if record.value == b"b" else super().answer(record)

    feed(bus, ["a", "b", "c"])
    work(bus, Surrogates())
    assert answers(bus) == ["a", "c"]
    assert [(letter.original, letter.error) for letter in letters(bus)] == [(b"b", "UnicodeEncodeError")]


def test_an_error_text_that_cannot_be_written_is_written_with_a_substitute(bus: LocalBus) -> None:
    feed(bus, ["a"])
    work(bus, Echo({"a": InvalidInput("no file \udcff.png")}))
    assert [letter.reason for letter in letters(bus)] == ["no file ?.png"]


def foreign(bus: LocalBus, path: Path, *, key: bytes, headers: Headers, value: bytes) -> None:
    """A record as another program may have put it into the log, past our producer."""
    slot = ("images", partition_of(key, 8))
    with closing(connect(path, "FULL")) as db, transaction(db):
        append(db, [(slot, key, msgspec.msgpack.encode(headers), value)], at=3.5)


@pytest.mark.parametrize(("size", "cut_from"), [(20_000_000, None), (40_000_000, 40_000_000)])
def test_a_message_too_large_for_us_becomes_a_dead_letter_as_whole_as_fits(
    bus: LocalBus, tmp_path: Path, size: int, cut_from: int | None
) -> None:
    class Measuring(Echo):
        def answer(self, record: Record) -> Message:
            check_size(record.topic, record.value)
            return super().answer(record)

    foreign(bus, tmp_path / "bus.sqlite", key=b"tiles", headers=(), value=bytes(size))
    feed(bus, ["after"])
    work(bus, Measuring())
    assert answers(bus) == ["after"]
    (letter,) = letters(bus)
    assert str(size) in letter.reason
    assert letter.original == bytes(size if cut_from is None else KEPT_BYTES)
    assert (letter.cut_from_bytes, letter.appended_at) == (cut_from, 3.5)


@pytest.mark.parametrize("key", [b"\xff", b"a\0b", b"k" * 3_000_000, b"../etc"])
def test_a_key_that_names_no_line_and_headers_beyond_measure_still_make_a_dead_letter(
    bus: LocalBus, tmp_path: Path, key: bytes
) -> None:
    headers = (("a", b"1"), ("large", bytes(3_000_000)), ("b", b"2"))
    foreign(bus, tmp_path / "bus.sqlite", key=key, headers=headers, value=b"poison")
    work(bus, Echo({"poison": InvalidInput("x" * 3_000_000)}))
    (letter,) = letters(bus)
    assert (letter.line, letter.key, len(letter.reason)) == ("unknown", key[:KEPT_HEADER_BYTES], KEPT_REASON)
    assert letter.headers[0] == ("a", b"1")
    assert sum(len(value) for _, value in letter.headers) <= KEPT_HEADER_BYTES


def test_a_header_whose_name_is_no_utf_8_is_kept_with_escapes() -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    letter = dead_letter(Record("images", 0, 0, b"tiles", ((name, b"\xff"),), b"", 0.0), InvalidInput("no"), 1.0)
    assert letter.headers == (("caf\\udce9", b"\xff"),)
    assert decode(encode(letter), DeadLetter) == letter


def test_what_comes_of_a_record_must_fit_its_topic(bus: LocalBus) -> None:
    class Verbose(Echo):
        def answer(self, record: Record) -> Message:
            return review("x" * 17_000_000) if record.value == b"b" else super().answer(record)

    feed(bus, ["a", "b", "c"])
    work(bus, Verbose())
    assert answers(bus) == ["a", "c"]
    assert [(letter.original, letter.error) for letter in letters(bus)] == [(b"b", "InvalidInput")]


def test_dead_letters_of_the_handler_are_published(bus: LocalBus) -> None:
    class Refusing(Echo):
        def handle(self, records: Sequence[Record]) -> Effects:
            return Effects(dead=tuple(letter_of(record) for record in records))

    feed(bus, ["a", "b"])
    assert work(bus, Refusing()).dead == 2
    assert [letter.identity for letter in letters(bus)] == ["images/3/0", "images/3/1"]


def letter_of(record: Record) -> DeadLetter:
    """A dead letter as a handler may make it."""
    return DeadLetter(
        line="tiles", source_topic=record.topic, source_partition=record.partition, source_offset=record.offset,
        error="E", reason="r", original=record.value, headers=record.headers, key=record.key, at=0.0,
    )  # fmt: skip


def test_a_dead_letter_that_cannot_be_processed_does_not_breed(bus: LocalBus) -> None:
    with closing(bus.producer()) as producer:
        producer.send("dead-letters", key=b"tiles", value=b"a")
    worker = Worker(
        bus.consumer("workers", ["dead-letters"]), bus.producer(), Echo({"a": InvalidInput("no")}), source="/test"
    )
    run(worker, lambda worker: worker.progress.processed == 1)
    assert [record.value for record in made(bus, "dead-letters")] == [b"a"]


def test_what_is_away_is_waited_for_and_nothing_is_dropped(bus: LocalBus) -> None:
    names = [str(number) for number in range(12)]
    feed(bus, names)
    handler = AwayEcho(times=3)
    progress = work(bus, handler)
    assert answers(bus) == names
    assert letters(bus) == []
    assert progress.waiting_for is None


def test_progress_says_what_is_waited_for(bus: LocalBus) -> None:
    feed(bus, ["a"])
    progress = work(bus, AwayEcho(times=10**9), done=lambda worker: worker.progress.waiting_for is not None)
    assert progress == Progress(at=None, processed=0, lag=1, waiting_for="the store does not answer; start it")


def test_observers_hear_of_every_turn(bus: LocalBus) -> None:
    turns: list[Turn] = []
    feed(bus, ["a", "b"])
    worker = Worker(
        bus.consumer("workers", ["images"]), bus.producer(), AwayEcho(times=1), source="/test", observers=[turns.append]
    )
    run(worker, lambda _: turns[-1:] == [Rested()] and len(turns) > 3)
    heard = [turn for turn in turns if turn != Rested()]
    effects = Effects(messages=(review("a"), review("b")))
    away = Waiting("the store does not answer; start it")
    assert heard == [Handed(2), away, Handed(2), Committed(2, effects)]


def test_a_waiting_worker_keeps_its_partitions(bus: LocalBus) -> None:
    with closing(bus.producer()) as producer:
        for number in range(96):
            producer.send("images", key=f"line-{number}".encode(), value=b"")
    worker = Worker(
        bus.consumer("workers", ["images"], session_timeout_s=1.0),
        bus.producer(),
        AwayEcho(10**9),
        source="/test",
        max_records=1,
    )
    seen: set[int] = set()
    ends_at: list[float] = []

    def look(worker: Worker) -> bool:
        if worker.progress.waiting_for is not None:  # so it was there first
            ends_at[:] = ends_at or [time.monotonic() + 3.4]
            seen.update(record.partition for record in other.poll(max_records=100, timeout_s=0.05))
        return bool(ends_at) and time.monotonic() > ends_at[0]

    with closing(bus.consumer("workers", ["images"], session_timeout_s=1.0)) as other:
        run(worker, look)
    assert len(seen) == 4


def test_a_fenced_worker_drops_its_batch_and_goes_on(bus: LocalBus, tmp_path: Path) -> None:
    class Overslept(Echo):
        """During its first batch somebody else gets the partitions."""

        def handle(self, records: Sequence[Record]) -> Effects:
            if not self.handled:
                with closing(sqlite3.connect(tmp_path / "bus.sqlite")) as db, db:
                    db.execute("UPDATE positions SET owner = 'somebody', epoch = epoch + 1")
            return super().handle(records)

    feed(bus, ["a", "b", "c"])
    progress = work(bus, Overslept())
    assert answers(bus) == ["a", "b", "c", "a", "b", "c"]
    assert progress.processed == 3


def test_an_attentive_handler_looks_around_also_without_records(bus: LocalBus) -> None:
    class Attentive(Echo):
        def __init__(self) -> None:
            super().__init__()
            self.looked_at: list[float] = []

        def idle(self, now: float) -> Effects | None:
            self.looked_at.append(now)
            return Effects(messages=(review("news"),)) if len(self.looked_at) == 1 else None

    handler = Attentive()
    work(bus, handler, done=lambda _: len(handler.looked_at) >= 3)
    assert answers(bus) == ["news"]
    assert set(handler.looked_at) == {42.0}


def test_a_stop_finishes_the_batch_and_leaves_the_group(bus: LocalBus, tmp_path: Path) -> None:
    stop = threading.Event()

    class Stopping(Echo):
        def handle(self, records: Sequence[Record]) -> Effects:
            stop.set()
            return super().handle(records)

    feed(bus, [str(number) for number in range(12)])
    worker = Worker(bus.consumer("workers", ["images"]), bus.producer(), Stopping(), source="/test", max_records=5)
    worker.run(stop)
    assert answers(bus) == ["0", "1", "2", "3", "4"]
    assert bus.lag("workers", ["images"]) == 7
    with closing(sqlite3.connect(tmp_path / "bus.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM members WHERE grp = 'workers'").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM positions WHERE grp = 'workers' AND owner IS NOT NULL").fetchone() == (
            0,
        )


def test_publish_and_the_worker_agree_on_headers(bus: LocalBus) -> None:
    with closing(bus.producer()) as producer:
        publish(producer, review("a"), source="/test", at=42.0)
    feed(bus, ["a"])
    work(bus, Echo())
    by_hand, by_worker = made(bus, "reviews")
    assert (by_hand.headers, by_hand.value) == (by_worker.headers, by_worker.value)
