"""The one loop of every worker: read -> handle -> flush sinks -> produce -> flush -> commit.

A record is committed only after everything that came of it is durable, so a death at any step brings it again and
loses nothing. Permanent faults become dead letters, one record each; transient ones (`Unavailable`) are waited out:
never dropped, never dead-lettered. This module holds the worker's only broad `except`.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

from detectors.encoding import check_line_name
from detectors.errors import InvalidInput, Unavailable
from streams.bus import Consumer, Fenced, Headers, Producer, Record, publish
from streams.messages import DeadLetter, Message, encode, headers_of
from streams.topics import check_size

POLL_TIMEOUT_S = 0.2
KEEP_ALIVE_S = 0.25
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
UNKNOWN_LINE = "unknown"
KEPT_BYTES = 22 << 20
KEPT_HEADER_BYTES = 256 << 10
KEPT_REASON = 2000
"""What a dead letter keeps at most of an original's value, of its headers, and of the reason: it has to fit its topic."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Original:
    """A message of anybody's, to be put back onto a topic as it is."""

    topic: str
    key: bytes | None
    headers: Headers
    value: bytes


@dataclass(frozen=True)
class Effects:
    """What came of some records: messages to publish, records given up (`dead_letter`), and originals to put back.

    >>> Effects().messages
    ()
    """

    messages: tuple[Message, ...] = ()
    dead: tuple[DeadLetter, ...] = ()
    back: tuple[Original, ...] = ()


class Handler(Protocol):
    """What a worker does with records; it publishes and commits nothing itself."""

    def handle(self, records: Sequence[Record]) -> Effects:
        """What comes of `records`, in order within each partition.

        Called again with the same records after a crash, a rewind or Unavailable. If it raises for a batch of
        several, it is called again record by record to find the one at fault: keep state by identity, or change it
        after all that can raise. Raise InvalidInput for a record that can never be processed, Unavailable where
        something is away.
        """


@runtime_checkable
class Attentive(Protocol):
    """A handler that wants to look around between polls (for new models, say)."""

    def idle(self, now: float) -> Effects | None:
        """Called after each poll, before its records are handled; what it returns is published. May raise Unavailable.

        Any other error stops the worker: there is no record to blame.
        """


class Sink(Protocol):
    """Something a handler wrote to that must be durable before the commit."""

    def flush(self) -> None:
        """Return when everything handed over is durable; raise Unavailable if it is not."""


@dataclass(frozen=True)
class Handed:
    """The bus handed over some records; their outcome follows."""

    records: int


@dataclass(frozen=True)
class Rested:
    """A whole turn in which there was nothing to do, and nothing away."""


@dataclass(frozen=True)
class Committed:
    """Some records are done: what came of them is durable, and so is the group's position behind them."""

    records: int
    effects: Effects


@dataclass(frozen=True)
class Waiting:
    """Something is away; the turn is taken again until it is back."""

    reason: str


Turn: TypeAlias = Handed | Rested | Committed | Waiting
Observer = Callable[[Turn], None]
"""Hears how a worker goes, in the worker's own thread: it must be quick and raise nothing."""


@dataclass(frozen=True)
class Progress:
    """How far a worker is, for its health: a worker is well if it has progressed lately or its `lag` is 0.

    `at`: time of the last commit, None before the first; `processed` counts records committed, `dead` the dead
    letters of them; `lag`: None where the worker was not told how to ask; `waiting_for`: what is away, None if
    nothing is.
    """

    at: float | None = None
    processed: int = 0
    dead: int = 0
    lag: int | None = None
    waiting_for: str | None = None


def dead_letter(record: Record, error: Exception, at: float) -> DeadLetter:
    """The dead letter of a record: original bytes and headers, where they lay, and why they could not be processed.

    It can always be written: what would not fit is cut, and of a key that is no line's name the line is `unknown`.

    >>> letter = dead_letter(Record("images", 0, 7, b"tiles", (), b"no image", 0.0), ValueError("no image"), 1.0)
    >>> letter.identity, letter.line, letter.error, letter.reason
    ('images/0/7', 'tiles', 'ValueError', 'no image')
    """
    return DeadLetter(
        line=_line_of(record.key),
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        error=type(error).__name__,
        reason=str(error)[:KEPT_REASON].encode(errors="replace").decode(),
        original=record.value[:KEPT_BYTES],
        headers=_kept(record.headers),
        key=None if record.key is None else record.key[:KEPT_HEADER_BYTES],
        at=at,
        cut_from_bytes=len(record.value) if len(record.value) > KEPT_BYTES else None,
        appended_at=record.appended_at,
    )


def _line_of(key: bytes | None) -> str:
    try:
        line = (key or b"").decode()
        check_line_name(line)
    except (UnicodeDecodeError, InvalidInput):
        return UNKNOWN_LINE
    return line


def _kept(headers: Headers) -> Headers:
    """The headers as they came, as many as there is room for; a name that is no UTF-8 with escapes, or it could not be told."""
    kept, size = [], 0
    for name, value in headers:
        size += len(name) + len(value)
        if size <= KEPT_HEADER_BYTES:
            kept.append((name.encode(errors="backslashreplace").decode(), value))
    return tuple(kept)


def _prove(effects: Effects, source: str) -> None:
    """Raise what publishing would raise, while the records at fault are still known."""
    for message in (*effects.messages, *effects.dead):
        check_size(message.topic, encode(message))
        headers_of(message, source=source, at=0.0)
    for original in effects.back:
        check_size(original.topic, original.value)


class Worker:
    """Runs a handler on a consumer's records until told to stop.

    `source` names this worker in the messages it sends (`ce_source`); `sinks` are flushed before anything is
    published; `lag` asks the bus how much is left (for `progress`); `observers` hear of every turn; `clock` gives
    seconds since the epoch. `run` closes consumer and producer.
    """

    def __init__(
        self,
        consumer: Consumer,
        producer: Producer,
        handler: Handler,
        *,
        source: str,
        sinks: Sequence[Sink] = (),
        max_records: int = 16,
        lag: Callable[[], int] | None = None,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._handler = handler
        self._source = source
        self._sinks = tuple(sinks)
        self._max_records = max_records
        self._lag = lag
        self._observers = tuple(observers)
        self._clock = clock
        self._progress = Progress()
        self._uncommitted = False

    @property
    def progress(self) -> Progress:
        """How far this worker is; may be read from another thread."""
        return replace(self._progress, lag=self._lag() if self._lag else None)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; the batch in hand is finished and committed, then both ends are closed."""
        waits = 0
        try:
            while not stop.is_set():
                try:
                    self.step()
                    waits = 0
                except Fenced as error:
                    _log.warning("%s: %s", self._source, error)
                except Unavailable as error:
                    self._wait(stop, error, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**waits))
                    waits = min(waits + 1, 16)
        finally:
            self._close()

    def step(self) -> int:
        """One turn: poll, handle, flush, publish, commit; returns how many records were committed.

        Raises Unavailable or Fenced with nothing committed: the next turn goes back to the committed offsets first.
        """
        self._go_back()
        self._uncommitted = True
        records = self._consumer.poll(max_records=self._max_records, timeout_s=POLL_TIMEOUT_S)
        if isinstance(self._handler, Attentive):
            self._deliver(self._handler.idle(self._clock()) or Effects())
        if not records:
            self._uncommitted = False
            self._progress = replace(self._progress, waiting_for=None)
            self._tell(Rested())
            return 0
        self._tell(Handed(len(records)))
        effects = self._outcome(records)
        for sink in self._sinks:
            sink.flush()
        self._deliver(effects)
        self._consumer.commit({(record.topic, record.partition): record.offset + 1 for record in records})
        self._uncommitted = False
        self._count(len(records), len(effects.dead))
        self._tell(Committed(len(records), effects))
        return len(records)

    def _go_back(self) -> None:
        """After a turn that failed: read again, but first get rid of what is still unsent, lest it piles up."""
        if self._uncommitted:
            self._consumer.rewind()
            self._producer.flush()
            self._uncommitted = False

    def _outcome(self, records: Sequence[Record]) -> Effects:
        """What the handler makes of a batch; where that fails, of each record alone; else a dead letter."""
        try:
            effects = self._handler.handle(records)
            _prove(effects, self._source)
            return effects
        except (Unavailable, Fenced):
            raise
        except Exception as error:  # noqa: BLE001  the worker's one broad except: no record may stop the others
            if len(records) == 1:
                return Effects(dead=self._give_up(records[0], error))
        singles = [self._outcome((record,)) for record in records]
        return Effects(
            tuple(message for effects in singles for message in effects.messages),
            tuple(letter for effects in singles for letter in effects.dead),
            tuple(original for effects in singles for original in effects.back),
        )

    def _give_up(self, record: Record, error: Exception) -> tuple[DeadLetter, ...]:
        """The record's dead letter; none for a dead letter, which is kept already and would come back here for ever."""
        letter = dead_letter(record, error, self._clock())
        _log.warning("%s: dead letter %s: %s: %s", self._source, letter.identity, letter.error, letter.reason)
        return () if record.topic == DeadLetter.topic else (letter,)

    def _deliver(self, effects: Effects) -> None:
        at = self._clock()
        for message in (*effects.messages, *effects.dead):
            publish(self._producer, message, source=self._source, at=at)
        for each in effects.back:
            self._producer.send(each.topic, key=each.key, value=each.value, headers=each.headers)
        self._producer.flush()

    def _count(self, processed: int, dead: int) -> None:
        before = self._progress
        self._progress = Progress(self._clock(), before.processed + processed, before.dead + dead)

    def _tell(self, turn: Turn) -> None:
        for observer in self._observers:
            observer(turn)

    def _wait(self, stop: threading.Event, error: Unavailable, delay_s: float) -> None:
        """Wait before another try; poll (and go back) meanwhile, so that the group does not think this worker dead."""
        _log.warning("%s: waiting %.1f s: %s", self._source, delay_s, error)
        self._progress = replace(self._progress, waiting_for=str(error))
        self._tell(Waiting(str(error)))
        end = time.monotonic() + delay_s
        while (left := end - time.monotonic()) > 0 and not stop.wait(min(KEEP_ALIVE_S, left)):
            with suppress(Unavailable):
                self._uncommitted = True
                self._consumer.poll(max_records=1, timeout_s=0.0)
                self._consumer.rewind()

    def _close(self) -> None:
        """Leave in order. What cannot be sent now belongs to records that are not committed: it comes again."""
        with suppress(Unavailable):
            self._consumer.close()
        with suppress(Unavailable):
            self._producer.close()
