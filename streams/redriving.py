"""Dead letters that go back: which are open, who put one back, and the message that is sent.

That a letter was put back is one row of the ledger's events, written with the audit entry and the outbox in one transaction: of
two people, or of a command that is killed and typed again, one does it. From the outbox the recorder sends it, at least once;
the message keeps its identity (`streams.origin`), so that an image has one verdict however often it is sent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.orm import aliased

from detectors.errors import InvalidInput, NotFound
from streams.ledger import AuditEntry, Ledger
from streams.ledger_tables import AUDIT, EVENTS
from streams.ledger_writing import insert_new, put_in_outbox
from streams.messages import DeadLetter, Message, Redrive, decode, encode
from streams.origin import Origin, placed
from streams.worker import Original


@dataclass(frozen=True)
class LetterPlace:
    """A dead letter by where it came from, when it was set aside (epoch seconds), and who put it back (None: it is open)."""

    line: str
    identity: str
    at: float
    back: Redrive | None


def letter_of(ledger: Ledger, identity: str) -> DeadLetter:
    """The dead letter of that identity (`images/3/17`); raises NotFound."""
    letter: DeadLetter | None = ledger.dead_letter(identity)
    if letter is None:
        raise NotFound(f"no dead letter {identity!r}; `driftline dead-letters list` names them")
    return letter


def redrive_of(ledger: Ledger, letter: DeadLetter) -> Redrive | None:
    """Who put the letter's message back, and when; None while it is open."""
    with ledger.transaction(writes=False) as connection:
        return _redrive(connection, letter)


def open_letters(ledger: Ledger, *, error: str | None = None) -> Iterator[DeadLetter]:
    """Every letter that nobody put back, oldest first, one at a time (they may be large); those of one type of error only."""
    done = aliased(EVENTS)
    back = select(done.c.identity).where(done.c.kind == Redrive.topic, done.c.identity == EVENTS.c.identity)
    query = select(EVENTS.c.subject).where(EVENTS.c.kind == DeadLetter.topic, ~back.exists())
    with ledger.transaction(writes=False) as connection:
        identities = connection.execute(query.order_by(EVENTS.c.at, EVENTS.c.identity)).scalars().all()
    for identity in identities:
        letter = letter_of(ledger, identity)
        if error in (None, letter.error):
            yield letter


def latest_letters(ledger: Ledger, limit: int) -> list[LetterPlace]:
    """Where the latest dead letters lie, newest first, and what became of them; their bodies, which may be large, are left alone."""
    done = aliased(EVENTS)
    same = (done.c.kind == Redrive.topic) & (done.c.identity == EVENTS.c.identity)
    query = select(EVENTS.c.line, EVENTS.c.subject, EVENTS.c.at, done.c.body).outerjoin(done, same)
    query = query.where(EVENTS.c.kind == DeadLetter.topic).order_by(EVENTS.c.at.desc(), EVENTS.c.identity).limit(limit)
    with ledger.transaction(writes=False) as connection:
        rows = connection.execute(query).all()
    return [LetterPlace(line, identity, at, body and decode(body, Redrive)) for line, identity, at, body in rows]


def letter_at(ledger: Ledger, line: str, identity: str) -> DeadLetter:
    """The dead letter of a line and identity, found by its key; raises NotFound."""
    here = (EVENTS.c.kind == DeadLetter.topic) & (EVENTS.c.identity == f"{line}|{identity}")
    with ledger.transaction(writes=False) as connection:
        body = connection.execute(select(EVENTS.c.body).where(here)).scalar()
    if body is None:
        raise NotFound(f"no dead letter {identity!r} of line {line!r}; reload the page")
    return decode(body, DeadLetter)


def count_letters(ledger: Ledger) -> int:
    """How many dead letters there are, put back or not; counted in an index."""
    with ledger.transaction(writes=False) as connection:
        query = select(func.count()).where(EVENTS.c.kind == DeadLetter.topic)
        return int(connection.execute(query).scalar_one())


def note_redrives(ledger: Ledger, redrives: Sequence[tuple[AuditEntry, Redrive]]) -> None:
    """The letters are put back: their rows, audit entries and outbox, all or nothing; InvalidInput where one was before."""
    with ledger.transaction() as connection:
        for entry, redrive in redrives:
            if not insert_new(connection, EVENTS, _row(redrive)):
                raise InvalidInput(
                    f"dead letter {redrive.identity} was {told(_redrive(connection, redrive))}; if it failed again there is a "
                    f"new dead letter: put back that one"
                )
            said = {"at": entry.at, "who": entry.who, "role": entry.role, "action": entry.action}
            connection.execute(insert(AUDIT).values(**said, line=entry.line, detail=entry.detail))
            put_in_outbox(connection, (redrive,))


def told(redrive: Redrive | None) -> str:
    """The state of a letter in words.

    >>> told(None)
    'open'
    """
    if redrive is None:
        return "open"
    return f"redriven by {redrive.by} at {datetime.fromtimestamp(redrive.at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def put_back(letter: DeadLetter, redrive: Redrive) -> Original:
    """The message as it goes back: key, headers and bytes as they came (or the repaired body), and its first place.

    >>> letter = DeadLetter(line="tiles", source_topic="images", source_partition=3, source_offset=17, error="E", reason="",
    ...                     original=b"pixels", headers=(), key=b"tiles", at=2.0, appended_at=1.5)
    >>> redrive = Redrive(line="tiles", source_topic="images", source_partition=3, source_offset=17, by="ana", at=9.0)
    >>> put_back(letter, redrive).headers
    (('driftline-redrive-of', b'images/3/17'), ('driftline-first-appended-at', b'1.500000'))
    """
    value = letter.original if redrive.repaired is None else redrive.repaired
    first = letter.at if letter.appended_at is None else letter.appended_at
    place = Origin(letter.source_topic, letter.source_partition, letter.source_offset, first)
    return Original(letter.source_topic, letter.key, placed(letter.headers, place), value)


def _redrive(connection: Connection, of: Message) -> Redrive | None:
    here = (EVENTS.c.kind == Redrive.topic) & (EVENTS.c.identity == _event_identity(of))
    body = connection.execute(select(EVENTS.c.body).where(here)).scalar()
    return None if body is None else decode(body, Redrive)


def _row(redrive: Redrive) -> dict[str, object]:
    return {
        "kind": redrive.topic,
        "identity": _event_identity(redrive),
        "line": redrive.line,
        "subject": redrive.identity,
        "at": redrive.at,
        "body": encode(redrive),
    }


def _event_identity(message: Message) -> str:
    """A letter and its redrive have the same."""
    return f"{message.line}|{message.identity}"
