"""The one table of topics: partitions, retention, and which message each carries. Every topic is keyed by line."""

from dataclasses import dataclass, replace

from detectors.errors import InvalidInput, NotFound
from streams.messages import WIRE_TYPES, LineImage, Message

DAY_S = 86_400
MOST_MESSAGE_BYTES = 16 << 20
"""The largest value of a message. Larger images go by reference (the claim check)."""
MOST_LETTER_BYTES = 32 << 20
"""The same where an original comes along as text (JSON makes a third more of it): dead letters, redrives."""


@dataclass(frozen=True)
class Topic:
    """A topic of the bus and how it is kept; `most_bytes`: the largest value of its messages."""

    name: str
    carries: type[Message]
    partitions: int
    retention_s: int
    most_bytes: int


_PARTITIONS = {"images": 8, "verdicts": 8}
_RETENTION_S = {"images": 7 * DAY_S, "verdicts": 30 * DAY_S}
_MOST_BYTES = {"dead-letters": MOST_LETTER_BYTES, "redrives": MOST_LETTER_BYTES}

TOPICS: dict[str, Topic] = {
    kind.topic: Topic(
        kind.topic,
        kind,
        _PARTITIONS.get(kind.topic, 4),
        _RETENTION_S.get(kind.topic, 365 * DAY_S),
        _MOST_BYTES.get(kind.topic, MOST_MESSAGE_BYTES),
    )
    for kind in WIRE_TYPES
}

BACKLOG = "backlog"
"""Images that stepped aside for newer ones (`streams.newest_first`)."""
TOPICS[BACKLOG] = replace(TOPICS["images"], name=BACKLOG)

RECORDED = tuple(name for name in TOPICS if TOPICS[name].carries is not LineImage)
"""What goes into the ledger: everything but images."""


def topic(name: str) -> Topic:
    """The topic of that name.

    >>> topic("images").partitions
    8
    """
    try:
        return TOPICS[name]
    except KeyError:
        raise NotFound(f"no topic {name!r}; there are {', '.join(sorted(TOPICS))}") from None


def check_size(name: str, value: bytes) -> None:
    """Raise InvalidInput for a value that is larger than the topic's messages may be, NotFound for an unknown topic.

    >>> check_size("images", bytes(20_000_000))
    Traceback (most recent call last):
    detectors.errors.InvalidInput: a message of 20000000 bytes for topic 'images', the limit is 16777216; send an image by
    reference: put it into the store and send its key, as `driftline camera send` does
    """
    if len(value) > (most := topic(name).most_bytes):
        raise InvalidInput(
            f"a message of {len(value)} bytes for topic {name!r}, the limit is {most}; send an image by reference: "
            f"put it into the store and send its key, as `driftline camera send` does"
        )
