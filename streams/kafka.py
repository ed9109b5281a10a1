"""The bus on Apache Kafka: consumer groups with cooperative rebalancing, idempotent producers, every delivery checked.

Heartbeats run beside the work, so a member with slow batches keeps its partitions; one that is killed or stopped loses them after
its session timeout, and what it would commit then is fenced: by the broker if it was put out of the group, by this module if a
partition went elsewhere while its records were in hand.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from kafka import KafkaConsumer as Client
from kafka import KafkaProducer as Sender
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.consumer.fetcher import ConsumerRecord
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import CoordinatorNotAvailableError, KafkaError, RebalanceInProgressError
from kafka.structs import OffsetAndMetadata

from detectors.errors import InvalidInput, Unavailable
from streams import topics as table
from streams.bus import MOST_POLLED_BYTES, Fenced, Headers, Record, within
from streams.kafka_address import KafkaAddress
from streams.kafka_client import OPEN_S, admin_of, listening, options_of, translated
from streams.kafka_tolerance import header_name, tolerate_header_names
from streams.kafka_topics import ROOM_BYTES, prepare_topics

Slot = tuple[str, int]

DELIVERY_S = 10.0
"""How long a flush tries before it says that the brokers are away."""
LEAVE_S = 3.0
LONGEST_BATCH_S = 600.0
"""A member that does not poll for so long is stuck, not slow: the group goes on without it."""
MOST_FETCHED_BYTES = 32 << 20
"""What a broker may send ahead of the work; beyond that, images wait on the brokers."""
FEW_BYTES = 64 << 10
TAKE_PART_S = 0.1
"""How long a poll lasts that is there for the group rather than for records."""


class KafkaBus:
    """The bus at an address. Opening it asks nothing of the brokers; producers, consumers and `lag` do.

    They raise InvalidInput where the brokers refuse us (password, rights, a topic that cannot hold our messages), Unavailable
    where none answers.

    >>> KafkaBus(KafkaAddress.parse("kafka://broker:9092")).expire(0.0)
    0
    """

    def __init__(self, address: KafkaAddress) -> None:
        self._address = address
        self._prepared = False

    def producer(self) -> "KafkaProducer":
        """A new producer."""
        self._prepare()
        return KafkaProducer(self._address)

    def consumer(self, group: str, topics: Sequence[str], *, session_timeout_s: float | None = None) -> "KafkaConsumer":
        """A new member of `group` on `topics`; raises NotFound for a topic that is not in `streams.topics`.

        `session_timeout_s` (default: the address's) is how long it may be silent before others take its partitions; it is not
        silent while it works.
        """
        timeout_s = self._address.session_timeout_s if session_timeout_s is None else session_timeout_s
        if timeout_s <= 0:
            raise InvalidInput(f"session_timeout_s is {timeout_s}; give more than 0, for instance 6")
        names = [table.topic(name).name for name in topics]
        self._prepare()
        return KafkaConsumer(self._address, group, names, timeout_s)

    def lag(self, group: str, topics: Sequence[str]) -> int:
        """Messages in `topics` that `group` has not committed and retention has not removed."""
        names = [self._address.prefix + table.topic(name).name for name in topics]
        self._prepare()
        with admin_of(self._address) as admin:
            described = admin.describe_topics(names)
            parts = [
                TopicPartition(each["name"], part["partition_index"])
                for each in described
                for part in each["partitions"]
            ]
            try:
                committed = admin.list_group_offsets({self._address.prefix + group: parts})[
                    self._address.prefix + group
                ]
            except (
                CoordinatorNotAvailableError
            ):  # no group was ever here: Kafka makes its place for them at the first one
                committed = {}
            # asked after the offsets: what is committed meanwhile makes the lag too large rather than negative
            ends = admin.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.LATEST))
            starts = admin.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.EARLIEST))
        return sum(
            ends[part].offset - max(starts[part].offset, committed[part].offset if part in committed else 0)
            for part in parts
        )

    def expire(self, now: float) -> int:
        """Nothing: Kafka deletes by itself what is older than its topic's retention."""
        return 0

    def _prepare(self) -> None:
        if not self._prepared:
            prepare_topics(self._address)
            self._prepared = True


class KafkaProducer:
    """Sends what is flushed, idempotently and to all in-sync replicas, and checks each delivery.

    A flush that raises keeps its messages from the first that did not arrive on: flush again, or send again (a duplicate with an equal
    identity). It goes on with a new client, so that nothing of the old one arrives late and out of order.
    """

    def __init__(self, address: KafkaAddress) -> None:
        self._address = address
        self._pending: list[tuple[str, bytes | None, bytes, Headers]] = []
        self._sender: Sender | None = None
        with translated(address):
            self._open()

    def send(self, topic: str, *, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        """Buffer a message; raises NotFound for an unknown topic, InvalidInput for a value too large for it. Nothing is promised
        before `flush` returns.
        """
        table.check_size(topic, value)
        self._pending.append((self._address.prefix + table.topic(topic).name, key, value, headers))

    def flush(self) -> None:
        """Return when every message sent so far is on all in-sync replicas; raises Unavailable if one may not be."""
        if not self._pending:
            return
        delivered = 0
        try:
            with translated(self._address):
                sender = self._open()
                arriving = [
                    sender.send(topic, key=key, value=value, headers=list(headers))
                    for topic, key, value, headers in self._pending
                ]
                for each in arriving:
                    each.get(timeout=2 * DELIVERY_S)
                    delivered += 1
        except BaseException:
            self._let_go()
            raise
        finally:
            del self._pending[:delivered]

    def close(self) -> None:
        """Flush and let go (also where the flush raises)."""
        try:
            self.flush()
        finally:
            self._let_go()

    def _open(self) -> Sender:
        if self._sender is None:
            with listening(self._address):
                self._sender = Sender(
                    **options_of(self._address),
                    metrics_enabled=False,
                    acks="all",
                    enable_idempotence=True,
                    allow_auto_create_topics=False,
                    delivery_timeout_ms=int(1000 * DELIVERY_S),
                    max_block_ms=int(1000 * DELIVERY_S),
                    max_request_size=max(each.most_bytes for each in table.TOPICS.values()) + ROOM_BYTES,
                    batch_size=FEW_BYTES,
                )
        return self._sender

    def _let_go(self) -> None:
        if self._sender is not None:
            with suppress(KafkaError):
                self._sender.close(timeout=0)
            self._sender = None


class KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """A member of a group, used by one thread. A new group starts at the earliest record."""

    def __init__(self, address: KafkaAddress, group: str, topics: Sequence[str], session_timeout_s: float) -> None:
        tolerate_header_names()
        self._address = address
        self._in_hand: dict[Slot, tuple[int, int]] = {}
        self._gone: set[Slot] = set()
        self._ahead: list[Record] = []  # read and not given away yet, since the poll was full of bytes
        session_ms = int(1000 * session_timeout_s)
        member = f"{address.prefix}{group}-{address.member}" if address.member else None
        with translated(address), listening(address):
            self._client = Client(
                **options_of(address),
                metrics_enabled=False,
                group_id=address.prefix + group,
                group_instance_id=member,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                partition_assignment_strategy=[CooperativeStickyAssignor],
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=min(1000, session_ms // 4),
                max_poll_interval_ms=int(1000 * LONGEST_BATCH_S),
                fetch_max_bytes=MOST_FETCHED_BYTES,
                max_partition_fetch_bytes=MOST_FETCHED_BYTES // 4,
            )
            self._meet([address.prefix + name for name in topics])
        self._client.subscribe([address.prefix + name for name in topics], listener=self)

    @property
    def owned(self) -> frozenset[Slot]:
        """The partitions that are this member's now."""
        return frozenset(self._slot(part) for part in self._client.assignment())

    def poll(self, *, max_records: int, timeout_s: float, max_bytes: int = MOST_POLLED_BYTES) -> Sequence[Record]:
        """The next records of the owned partitions, in order within each; empty after `timeout_s` without one."""
        if max_records < 1:
            raise InvalidInput(f"max_records is {max_records}; ask for at least 1")
        # While something lies here one more is read for each that goes: the client must be polled, and memory must not grow.
        asked = (min(timeout_s, TAKE_PART_S), 1) if self._ahead else (timeout_s, max_records)
        found = self._poll(*asked)
        self._ahead += [self._record(each) for records in found.values() for each in records]
        taken = within(self._ahead[:max_records], max_bytes)
        del self._ahead[: len(taken)]
        for record in taken:
            slot = record.topic, record.partition
            first, _ = self._in_hand.get(slot, (record.offset, 0))
            self._in_hand[slot] = first, record.offset + 1
        return taken

    def commit(self, offsets: Mapping[Slot, int]) -> None:
        """Make `{(topic, partition): next offset}` the group's position.

        Raises Fenced where a partition was not this member's all the time since its records were read: all are rewound.
        """
        try:
            self._commit(offsets)
        except Fenced:
            self.rewind()
            raise
        for slot, offset in offsets.items():
            _, end = self._in_hand.pop(slot, (0, 0))
            if offset < end:
                self._in_hand[slot] = offset, end

    def rewind(self) -> None:
        """Go back to the committed offsets: what was read and not committed comes again."""
        unread = {(record.topic, record.partition): record.offset for record in reversed(self._ahead)}
        for slot, first in (unread | {slot: first for slot, (first, _) in self._in_hand.items()}).items():
            self._client.seek(self._part(slot), first)
        self._ahead.clear()
        self._in_hand.clear()
        self._gone.clear()

    def close(self) -> None:
        """Leave the group at once: others take over without waiting."""
        with translated(self._address):
            self._client.close(timeout_ms=int(1000 * LEAVE_S))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by the client between polls: what was in hand of these partitions is another's now."""
        slots = {self._slot(part) for part in revoked}
        self._ahead = [record for record in self._ahead if (record.topic, record.partition) not in slots]
        gone = self._in_hand.keys() & slots
        self._gone |= gone
        for slot in gone:
            del self._in_hand[slot]

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by the client between polls: they are read from the group's position on."""

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Called by the client after this member was put out of the group."""
        self.on_partitions_revoked(lost)

    def _record(self, found: ConsumerRecord) -> Record:
        return Record(
            found.topic[len(self._address.prefix) :], found.partition, found.offset, found.key,
            tuple((header_name(name), value or b"") for name, value in found.headers), found.value or b"", found.timestamp / 1000,
        )  # fmt: skip

    def _commit(self, offsets: Mapping[Slot, int]) -> None:
        """Commit; while the group is being divided anew, wait for it: what stays ours may be committed afterwards."""
        places = {self._part(slot): OffsetAndMetadata(offset, "", -1) for slot, offset in offsets.items()}
        give_up = time.monotonic() + DELIVERY_S
        while True:
            if lost := offsets.keys() - (self.owned - self._gone):
                raise Fenced(f"{sorted(lost)} went to another consumer; drop their records and poll on")
            try:
                with translated(self._address):
                    self._client.commit(places, timeout_ms=int(1000 * DELIVERY_S))
                return
            except Fenced as error:
                if not isinstance(error.__cause__, RebalanceInProgressError) or time.monotonic() > give_up:
                    raise
                self._take_part()

    def _take_part(self) -> None:
        """Take part in the division of the group, reading nothing."""
        before = self._client.assignment()
        self._client.pause(*before)
        fresh = self._poll(TAKE_PART_S, 1)
        for part, records in fresh.items():
            self._client.seek(part, records[0].offset)
        self._client.resume(*(before & self._client.assignment()))

    def _poll(self, timeout_s: float, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        coordinator = self._client._coordinator
        if coordinator.rebalance_in_progress():
            # kafka-python 3.0.12 forgets a join that was under way when a poll ended, if what had asked for it is settled meanwhile:
            # the member would wait for its end, outside the group, for ever
            coordinator.request_rejoin()
        with translated(self._address):
            return dict(self._client.poll(timeout_ms=int(1000 * timeout_s), max_records=max_records))

    def _meet(self, topics: Sequence[str]) -> None:
        """Wait until the client knows the partitions: one that joins before, and is made leader, gives nobody any, for minutes."""
        give_up = time.monotonic() + OPEN_S
        while unknown := [topic for topic in topics if not self._client.partitions_for_topic(topic)]:
            if time.monotonic() > give_up:
                raise Unavailable(f"{self._address}: the brokers do not know {', '.join(unknown)} yet; try again")
            time.sleep(0.05)

    def _slot(self, part: TopicPartition) -> Slot:
        return part.topic[len(self._address.prefix) :], part.partition

    def _part(self, slot: Slot) -> TopicPartition:
        return TopicPartition(self._address.prefix + slot[0], slot[1])
