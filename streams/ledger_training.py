"""What models learnt from, and what people said of it: the ledger's part in training."""

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, and_, func, select

from streams.ledger_rows import LearntFrom
from streams.ledger_tables import EVENTS, REQUESTS, TRAINING_IMAGES, VERDICTS
from streams.ledger_writing import insert_new
from streams.messages import Review, Verdict, decode
from streams.reviews import ReviewedPart, standing


def reviewed_parts(connection: Connection, line: str, versions: Sequence[int] | None) -> list[ReviewedPart]:
    """Every judged image of the line (or of some of its versions) that people said something of, by the time of the latest word."""
    together = and_(VERDICTS.c.line == EVENTS.c.line, VERDICTS.c.image_id == EVENTS.c.image_id)
    query = select(EVENTS.c.body, VERDICTS.c.body.label("verdict")).join(VERDICTS, together)
    if versions is not None:
        query = query.where(VERDICTS.c.version.in_(versions))
    rows = connection.execute(query.where(EVENTS.c.kind == Review.topic, EVENTS.c.line == line)).all()
    said: dict[str, list[Review]] = {}
    bodies: dict[str, bytes] = {}
    for row in rows:
        review = decode(row.body, Review)
        said.setdefault(review.image_id, []).append(review)
        bodies[review.image_id] = row.verdict
    parts = [
        ReviewedPart(decode(bodies[image_id], Verdict), standing(reviews), max(each.at for each in reviews))
        for image_id, reviews in said.items()
    ]
    return sorted(parts, key=lambda part: (part.at, part.verdict.image_id))


def reviewed_since(connection: Connection, line: str, since: float) -> int:
    """Of how many images people said something after `since`, whatever it was; counted in an index."""
    images = select(func.count(EVENTS.c.image_id.distinct()))
    return int(
        connection.execute(
            images.where(EVENTS.c.kind == Review.topic, EVENTS.c.line == line, EVENTS.c.at > since)
        ).scalar_one()
    )


def note_training_images(connection: Connection, line: str, request_id: str, images: Iterable[LearntFrom]) -> None:
    """Write down what became of each image of a request's training set; a repeated run's choice replaces the earlier one."""
    here = (TRAINING_IMAGES.c.line == line) & (TRAINING_IMAGES.c.request_id == request_id)
    connection.execute(TRAINING_IMAGES.delete().where(here))
    for each in images:
        row = {"line": line, "request_id": request_id, "image_key": each.image_key, "role": each.role, "why": each.why}
        insert_new(connection, TRAINING_IMAGES, row)


def training_images(connection: Connection, line: str, *, image_keys: Sequence[str]) -> list[LearntFrom]:
    """In which training sets these images are, with the version that came of each (None: none did), oldest first."""
    return _learnt_from(connection, line, TRAINING_IMAGES.c.image_key.in_(image_keys))


def training_set_of(connection: Connection, line: str, request_id: str) -> list[LearntFrom]:
    """What became of each image of a request's training set, by key."""
    return _learnt_from(connection, line, TRAINING_IMAGES.c.request_id == request_id)


def versions_learnt(connection: Connection, line: str) -> set[int]:
    """The versions of the line whose training images are noted."""
    noted = select(TRAINING_IMAGES.c.request_id).where(
        TRAINING_IMAGES.c.line == line, TRAINING_IMAGES.c.request_id == REQUESTS.c.request_id
    )
    query = select(REQUESTS.c.version).where(REQUESTS.c.line == line, REQUESTS.c.version.is_not(None), noted.exists())
    return set(connection.execute(query).scalars())


def _learnt_from(connection: Connection, line: str, which: ColumnElement[bool]) -> list[LearntFrom]:
    query = select(TRAINING_IMAGES, REQUESTS.c.version).join(
        REQUESTS, REQUESTS.c.request_id == TRAINING_IMAGES.c.request_id
    )
    query = query.where(TRAINING_IMAGES.c.line == line, which)
    rows = connection.execute(query.order_by(REQUESTS.c.requested_at, TRAINING_IMAGES.c.image_key)).all()
    return [
        LearntFrom(image_key=row.image_key, role=row.role, why=row.why, request_id=row.request_id, version=row.version)
        for row in rows
    ]
