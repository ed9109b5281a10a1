"""The one table of topics: partitions, retention, and which message each carries. Every topic is keyed by line."""

from dataclasses import dataclass

from detectors.errors import NotFound
from streams.messages import WIRE_TYPES, Message

DAY_S = 86_400
MOST_MESSAGE_BYTES = 16 << 20
"""The largest value of a message. Larger images go by reference (the claim check)."""


@dataclass(frozen=True)
class Topic:
    """A topic of the bus and how it is kept."""

    name: str
    carries: type[Message]
    partitions: int
    retention_s: int


_PARTITIONS = {"images": 8, "verdicts": 8}
_RETENTION_S = {"images": 7 * DAY_S, "verdicts": 30 * DAY_S}

TOPICS: dict[str, Topic] = {
    kind.topic: Topic(kind.topic, kind, _PARTITIONS.get(kind.topic, 4), _RETENTION_S.get(kind.topic, 365 * DAY_S))
    for kind in WIRE_TYPES
}


def topic(name: str) -> Topic:
    """The topic of that name.

    >>> topic("images").partitions
    8
    """
    try:
        return TOPICS[name]
    except KeyError:
        raise NotFound(f"no topic {name!r}; there are {', '.join(sorted(TOPICS))}") from None
