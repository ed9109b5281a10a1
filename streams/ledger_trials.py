"""What challengers said beside the champion, and how a version judged: the ledger's part in trials."""

from sqlalchemy import Connection, func, select

from streams.ledger_tables import SHADOWS, VERDICTS
from streams.messages import ShadowVerdict, decode


def shadows_of(connection: Connection, line: str, version: int, *, since: float) -> list[ShadowVerdict]:
    """What a version said of images beside the champion from `since` on, oldest first."""
    query = select(SHADOWS.c.body).where(SHADOWS.c.line == line, SHADOWS.c.version == version)
    query = query.where(SHADOWS.c.judged_at >= since).order_by(SHADOWS.c.judged_at, SHADOWS.c.image_id)
    return [decode(body, ShadowVerdict) for body in connection.execute(query).scalars()]


def flag_share(connection: Connection, line: str, version: int, *, before: float, images: int) -> float | None:
    """The share of its latest `images` before a moment that a version flagged; None where it had judged none."""
    query = select(VERDICTS.c.flagged).where(VERDICTS.c.line == line, VERDICTS.c.version == version)
    query = query.where(VERDICTS.c.judged_at < before).order_by(VERDICTS.c.judged_at.desc()).limit(images)
    flags = connection.execute(query).scalars().all()
    return sum(flags) / len(flags) if flags else None


def judged_since(connection: Connection, line: str, version: int, since: float) -> tuple[int, float | None]:
    """How many images a version has judged after a moment, and when the last of them."""
    query = select(func.count(), func.max(VERDICTS.c.judged_at)).where(VERDICTS.c.line == line)
    count, last = connection.execute(query.where(VERDICTS.c.version == version, VERDICTS.c.judged_at > since)).one()
    return int(count), last
