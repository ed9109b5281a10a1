"""What other thresholds would have flagged, from the scores in the ledger."""

from collections.abc import Iterator

from sqlalchemy import Connection, and_, func, select

from streams.ledger_rows import Flags, ScoredPart
from streams.ledger_tables import EVENTS, SHADOWS, VERDICTS
from streams.messages import Review, ShadowVerdict, decode
from streams.reviews import standing


def flags_of(connection: Connection, line: str, version: int, *, threshold: float, since: float) -> Flags:
    """What a version flagged from `since` on and what a threshold would have: read in the index `verdicts_by_version` alone."""
    here = VERDICTS.c
    counts = select(
        func.count(), func.count().filter(here.flagged.is_(True)), func.count().filter(here.score > threshold)
    )
    query = counts.where(here.line == line, here.version == version, here.judged_at >= since)
    return Flags(*connection.execute(query).one())


def scored_parts(connection: Connection, line: str, version: int) -> list[ScoredPart]:
    """The reviewed parts that a version scored, by image, and what stands of them."""
    said: dict[str, list[Review]] = {}
    scores: dict[str, float] = {}
    for review, score in (*_judged(connection, line, version), *_shadowed(connection, line, version)):
        said.setdefault(review.image_id, []).append(review)
        scores[review.image_id] = score
    return [ScoredPart(image_id, scores[image_id], standing(said[image_id])) for image_id in sorted(said)]


def _judged(connection: Connection, line: str, version: int) -> Iterator[tuple[Review, float]]:
    """Reviews of what the version judged. Which version is asked here, lest the database begins with its millions of verdicts."""
    verdicts = VERDICTS.c
    query = select(EVENTS.c.body, verdicts.score, verdicts.version).join(
        VERDICTS, and_(verdicts.line == EVENTS.c.line, verdicts.image_id == EVENTS.c.image_id)
    )
    for row in connection.execute(query.where(EVENTS.c.kind == Review.topic, EVENTS.c.line == line)):
        if row.version == version:
            yield decode(row.body, Review), row.score


def _shadowed(connection: Connection, line: str, version: int) -> Iterator[tuple[Review, float]]:
    """Reviews of what the version scored beside the champion."""
    shadows = SHADOWS.c
    query = select(EVENTS.c.body, shadows.body.label("shadow")).join(
        SHADOWS,
        and_(shadows.line == EVENTS.c.line, shadows.version == version, shadows.image_id == EVENTS.c.image_id),
    )
    for row in connection.execute(query.where(EVENTS.c.kind == Review.topic, EVENTS.c.line == line)):
        yield decode(row.body, Review), decode(row.shadow, ShadowVerdict).score
