"""The bus as the workers see it: what a producer and a consumer promise, whichever log stands behind them.

Delivery is at least once. A consumer commits only what was flushed before; a consumer that lost a partition learns it from `Fenced`
on commit and must drop what it was doing: another one has it, or it comes again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from detectors.errors import DriftlineError
from streams.messages import Message, encode, headers_of

Headers = tuple[tuple[str, bytes], ...]

MOST_POLLED_BYTES = 32 << 20
"""What a poll gives at most: a batch of the largest messages must not take the memory of hundreds."""


class Fenced(DriftlineError):
    """The commit came from a consumer that no longer owns the partition: nothing was committed."""


@dataclass(frozen=True)
class Record:
    """One message as it lies in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: Headers
    value: bytes
    appended_at: float

    @property
    def size_bytes(self) -> int:
        """Of key, headers and value."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + headers + len(self.value)

    def header(self, name: str) -> str | None:
        """The text of a header, None if absent or not UTF-8.

        >>> Record("images", 0, 7, b"tiles", (("ce_id", b"a"),), b"", 0.0).header("ce_id")
        'a'
        """
        for candidate, value in self.headers:
            if candidate == name:
                try:
                    return value.decode()
                except UnicodeDecodeError:
                    return None
        return None


class Producer(Protocol):
    """Appends messages. `send` may buffer; only `flush` promises."""

    def send(self, topic: str, *, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        """Hand a message over. Nothing is promised before `flush` returns."""

    def flush(self) -> None:
        """Return when every message sent so far is durable; raise Unavailable if one is not."""

    def close(self) -> None:
        """Flush and let go."""


class Consumer(Protocol):
    """Reads the partitions it owns within a consumer group, in order per partition, from the last committed offset."""

    @property
    def owned(self) -> frozenset[tuple[str, int]]:
        """The partitions, (topic, number), from which the next poll may read."""

    def poll(self, *, max_records: int, timeout_s: float, max_bytes: int = MOST_POLLED_BYTES) -> Sequence[Record]:
        """The next records of the owned partitions, at most `max_records` and `max_bytes` (a larger one comes alone); empty after
        `timeout_s` without one.

        Also keeps this consumer's membership alive. Records come again only after `rewind` or a change of owner.
        """

    def commit(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Make `{(topic, partition): next offset}` the group's position; raises Fenced if a partition is owned by another."""

    def rewind(self) -> None:
        """Go back to the committed offsets: what was read and not committed comes again."""

    def close(self) -> None:
        """Leave the group at once, so that others take over without waiting for the session to expire."""


class Bus(Protocol):
    """A place with topics: opens producers and consumers."""

    def producer(self) -> Producer:
        """A new producer."""

    def consumer(self, group: str, topics: Sequence[str], *, session_timeout_s: float | None = None) -> Consumer:
        """A new member of `group` on `topics`. `session_timeout_s`: how long it may be silent before others take its partitions; None:
        what suits this bus.
        """

    def lag(self, group: str, topics: Sequence[str]) -> int:
        """Messages in `topics` that `group` has not committed."""

    def expire(self, now: float) -> int:
        """Delete messages older than their topic's retention, where the log does not do so by itself; how many went."""


def within(records: Iterable[Record], max_bytes: int) -> list[Record]:
    """The first of `records`, as many as hold `max_bytes` together, but always one.

    >>> three = [Record("images", 0, number, None, (), bytes(100), 0.0) for number in range(3)]
    >>> [len(within(three, max_bytes)) for max_bytes in (1, 200, 1000)]
    [1, 2, 3]
    """
    taken: list[Record] = []
    for record in records:
        max_bytes -= record.size_bytes
        if taken and max_bytes < 0:
            break
        taken.append(record)
    return taken


def publish(producer: Producer, message: Message, *, source: str, at: float) -> None:
    """Send a message to its topic, keyed by its line, with its CloudEvents headers. Durable after `producer.flush()`."""
    producer.send(
        message.topic,
        key=message.line.encode(),
        value=encode(message),
        headers=headers_of(message, source=source, at=at),
    )
