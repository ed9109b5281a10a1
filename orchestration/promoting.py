"""Tells the line of a promotion that a run made."""

from detectors.errors import NotFound
from detectors.registry import Pointers
from streams.bus import Bus, publish
from streams.messages import ModelPromoted, RetrainRequest

SOURCE = "/driftline/orchestration"


def announce(bus: Bus, pointers: Pointers, request: RetrainRequest, *, why: str, at: float) -> ModelPromoted:
    """Tell the bus of the promotion that led to `pointers`, on request; raises NotFound where nothing serves."""
    if pointers.champion is None:
        raise NotFound(f"line {request.line!r} has no champion to announce; promote a version first")
    promoted = ModelPromoted(
        line=request.line,
        version=pointers.champion,
        previous=pointers.previous,
        sequence=pointers.sequence,
        by="driftline",
        why=why,
        at=at,
        request_id=request.request_id,
    )
    producer = bus.producer()
    publish(producer, promoted, source=SOURCE, at=promoted.at)
    producer.close()
    return promoted
