"""The table of topics knows every wire type, and nothing else."""

from collections.abc import Iterator

import pytest

from detectors.errors import InvalidInput, NotFound
from streams.messages import WIRE_TYPES, Message
from streams.topics import MOST_LETTER_BYTES, MOST_MESSAGE_BYTES, TOPICS, check_size, topic


def descendants(kind: type[Message]) -> Iterator[type[Message]]:
    """Every subclass, however deep."""
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_message_type_is_a_wire_type() -> None:
    ours = {kind for kind in descendants(Message) if kind.__module__ == "streams.messages"}
    assert ours == set(WIRE_TYPES)


@pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)
def test_every_wire_type_has_a_topic_of_its_own(kind: type[Message]) -> None:
    assert topic(kind.topic).carries is kind
    assert topic(kind.topic).name == kind.topic


def test_no_two_types_share_a_topic_and_no_topic_is_without_a_type() -> None:
    assert len(TOPICS) == len(WIRE_TYPES) + 1, "images lie on two: as they come, and those that stepped aside"


@pytest.mark.parametrize("name", sorted(TOPICS))
def test_topics_are_kept_and_can_be_shared(name: str) -> None:
    assert topic(name).partitions >= 1
    assert topic(name).retention_s >= 7 * 86_400


def test_an_unknown_topic_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match=r"no topic 'imagse'; there are .*images"):
        topic("imagse")


@pytest.mark.parametrize("name", sorted(TOPICS))
def test_a_value_may_be_as_large_as_its_topic_says_and_no_larger(name: str) -> None:
    limit = topic(name).most_bytes
    assert limit == (MOST_LETTER_BYTES if name in ("dead-letters", "redrives") else MOST_MESSAGE_BYTES)
    check_size(name, bytes(limit))
    with pytest.raises(InvalidInput, match=rf"{limit + 1} bytes for topic '{name}', the limit is {limit}; .*store"):
        check_size(name, bytes(limit + 1))
