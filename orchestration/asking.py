"""One look at every line for what asks for a new model when nothing has drifted: reviews and schedules (`streams.causes`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from detectors.errors import DriftlineError, Unavailable
from detectors.registry import Registry
from streams.causes import (
    REVIEWS,
    Champion,
    Standing,
    by_reviews,
    by_schedule,
    file_request,
    heard_from,
    standing_since,
)
from streams.ledger import Ledger, RequestRow
from streams.lines_in_force import LinesInForce
from streams.messages import RetrainRequest
from streams.settings import LineConfig, line_config


@dataclass(frozen=True)
class Asked:
    """What a look came to: `cursor` goes to the next one, `in_words` onto Dagster's page."""

    cursor: str
    in_words: str
    requests: tuple[RetrainRequest, ...] = ()


def ask(ledger: Ledger, registry: Registry, in_force: LinesInForce, cursor: str | None, *, at: float) -> Asked:
    """File what reviews and schedules ask for at `at`; a line whose model cannot be read is said and stops no other.

    `cursor`: that of the look before, None for the first. Raises Unavailable where the ledger or the store is away.
    """
    lines = in_force.lines
    standing = standing_since(_standing_before(cursor), lines, at=at)
    said = [] if in_force.fault is None else [in_force.fault]
    filed: list[RetrainRequest] = []
    for line in ledger.line_names():
        try:
            filed += _ask(ledger, registry, line, line_config(lines, line), standing, at=at)
        except Unavailable:
            raise
        except DriftlineError as error:
            said.append(f"line {line}: {error}")
    said += [f"asked for {each.line}: {each.cause}" for each in filed]
    return Asked(
        msgspec.json.encode(standing).decode(), "; ".join(said) or "nothing asks for a new model", tuple(filed)
    )


def _ask(
    ledger: Ledger, registry: Registry, line: str, config: LineConfig, standing: Mapping[str, Standing], *, at: float
) -> list[RetrainRequest]:
    """The request of the line that was filed now, if any."""
    for request, why in _wanted(ledger, registry, line, config, standing, at=at):
        if file_request(ledger, request, why):
            return [request]
    return []


def _wanted(
    ledger: Ledger, registry: Registry, line: str, config: LineConfig, standing: Mapping[str, Standing], *, at: float
) -> Iterator[tuple[RetrainRequest, str]]:
    """What the line asks for, with the reason for the audit trail; the registry is asked only where something may come of it."""
    rows = ledger.requests(line)
    if any(row.ended_at is None for row in rows):
        return
    answered_at = _reviews_asked_at(rows)
    reviewed = config.review_images and ledger.reviewed_since(line, answered_at) >= config.review_images
    if not reviewed and line not in standing:
        return
    champion = _champion(registry, line)
    if champion is None:
        return
    if reviewed and ledger.reviewed_since(line, heard_from(champion, answered_at)) >= config.review_images:
        request = by_reviews(line, config, champion, ledger.reviewed(line), answered_at=answered_at, at=at)
        if request is not None:
            yield request, f"{config.review_images} parts or more reviewed since version {champion.version} was made"
    if line in standing:
        request = by_schedule(line, champion, standing[line], at=at)
        if request is not None:
            yield request, f"schedule {standing[line].schedule}"


def _reviews_asked_at(rows: Sequence[RequestRow]) -> float:
    """When reviews asked last, whatever came of it."""
    return max((row.request.requested_at for row in rows if row.request.cause == REVIEWS), default=0.0)


def _champion(registry: Registry, line: str) -> Champion | None:
    version = registry.pointers(line).champion
    return None if version is None else Champion(version, registry.manifest(line, version).created_at)


def _standing_before(cursor: str | None) -> dict[str, Standing]:
    """The schedules of the look before; none where another program wrote the cursor."""
    try:
        return msgspec.json.decode(cursor or "{}", type=dict[str, Standing])
    except msgspec.DecodeError:
        return {}
