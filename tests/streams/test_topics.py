"""The table of topics knows every wire type, and nothing else."""

from collections.abc import Iterator

import pytest

from detectors.errors import NotFound
from streams.messages import WIRE_TYPES, Message
from streams.topics import TOPICS, topic


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
    assert len(TOPICS) == len(WIRE_TYPES)


@pytest.mark.parametrize("name", sorted(TOPICS))
def test_topics_are_kept_and_can_be_shared(name: str) -> None:
    assert topic(name).partitions >= 1
    assert topic(name).retention_s >= 7 * 86_400


def test_an_unknown_topic_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match=r"no topic 'imagse'; there are .*images"):
        topic("imagse")
