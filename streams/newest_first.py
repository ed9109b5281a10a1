"""Newest first after an outage: what has waited long steps aside onto the topic `backlog`, and is judged when nothing fresh is there.

A partition is read in order and has one position, so the backlog is not jumped over but moved: read, put onto the other topic, committed,
at the price of a message and not of a score. A move is made again after a crash, as anything is; the first verdict of an image stands.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from streams.bus import MOST_POLLED_BYTES, Consumer, Record
from streams.origin import Origin, placed
from streams.topics import BACKLOG
from streams.worker import Original

BACKLOG_GROUP = "scorer-backlog"
STEP_ASIDE_S = 10.0
"""How long an image of such a line has to have waited."""
SHARE_S = 5.0
"""What waits gets a batch so often, however busy the line is."""
LOOK_S = 1.0
BRIEF_S = 0.1


def aside(record: Record, now: float) -> Original | None:
    """The record as it goes onto the backlog, with its first place in the log; None while it has not waited long, and on the backlog.

    >>> old, new = (Record("images", 3, 17, b"tiles", (), b"pixels", at) for at in (1.5, 60.0))
    >>> aside(new, 62.0), aside(old, 62.0).headers
    (None, (('driftline-redrive-of', b'images/3/17'), ('driftline-first-appended-at', b'1.500000')))
    """
    if record.topic == BACKLOG or now - record.appended_at < STEP_ASIDE_S:
        return None
    place = Origin(record.topic, record.partition, record.offset, record.appended_at)
    return Original(BACKLOG, record.key, placed(record.headers, place), record.value)


class FreshFirst:
    """Two consumers as one: records of `waiting`, which reads the backlog, come only where `fresh` has none, or once in SHARE_S.

    Each gets a poll that waits a little once in LOOK_S at least: a member of a group needs it to take part in its division.
    """

    def __init__(self, fresh: Consumer, waiting: Consumer, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fresh = fresh
        self._waiting = waiting
        self._monotonic = monotonic
        self._more = False
        self._waiting_at = self._fresh_at = float("-inf")

    @property
    def owned(self) -> frozenset[tuple[str, int]]:
        """The partitions of both."""
        return self._fresh.owned | self._waiting.owned

    def poll(self, *, max_records: int, timeout_s: float, max_bytes: int = MOST_POLLED_BYTES) -> Sequence[Record]:
        """The next records of one of them."""
        brief_s, since_s = min(timeout_s, BRIEF_S), self._monotonic() - self._waiting_at
        if since_s < SHARE_S and (records := self._poll_fresh(max_records, self._brief_once(brief_s), max_bytes)):
            return records
        if self._more or since_s >= LOOK_S:
            records = self._waiting.poll(max_records=max_records, timeout_s=brief_s, max_bytes=max_bytes)
            self._waiting_at, self._more = self._monotonic(), bool(records)
            if records:
                return records
        return self._poll_fresh(max_records, timeout_s, max_bytes)

    def commit(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Make these the groups' positions; raises Fenced as either does."""
        for consumer, is_waiting in ((self._fresh, False), (self._waiting, True)):
            if mine := {slot: offset for slot, offset in offsets.items() if (slot[0] == BACKLOG) is is_waiting}:
                consumer.commit(mine)

    def rewind(self) -> None:
        """Go back to the committed offsets of both."""
        self._fresh.rewind()
        self._waiting.rewind()

    def close(self) -> None:
        """Leave both groups."""
        with ExitStack() as both:
            both.callback(self._waiting.close)
            both.callback(self._fresh.close)

    def _brief_once(self, brief_s: float) -> float:
        """No wait, but for once in LOOK_S."""
        return brief_s if self._monotonic() - self._fresh_at >= LOOK_S else 0.0

    def _poll_fresh(self, max_records: int, timeout_s: float, max_bytes: int) -> Sequence[Record]:
        records = self._fresh.poll(max_records=max_records, timeout_s=timeout_s, max_bytes=max_bytes)
        if timeout_s or records:
            self._fresh_at = self._monotonic()
        return records
