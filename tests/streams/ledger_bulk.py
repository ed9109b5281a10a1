"""Large ledgers in little time, for plans and figures: verdicts go straight into the tables of the first revision, then it is opened.

So every large ledger here is one that was migrated, and its hours were counted by the migration.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

import psycopg
from sqlalchemy import Connection, make_url

from streams.ledger import Ledger
from streams.ledger_engine import open_engine
from streams.ledger_schema import FIRST, migrate
from streams.messages import (
    Collected,
    DeadLetter,
    DriftIncident,
    LineImage,
    Message,
    ModelPromoted,
    NearestNormal,
    Review,
    Signals,
    Verdict,
    encode,
)

LINES = tuple(f"press-{number}" for number in range(4))
VERSIONS = 5
BEGAN_AT = 1_700_000_000.0
CHUNK = 100_000
COLUMNS = ("line", "image_id", "version", "score", "flagged", "judged_at", "redelivered", "repeats", "body")
OTHERS = 500
"""A verdict in so many brings a review, a dead letter and a collected image; one in ten of those, an incident."""

Row = tuple[str, str, int, float, bool, float, int, int, bytes]


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A transaction on the bare tables."""
    with ExitStack() as stack:
        engine = open_engine(url)
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        stack.enter_context(connection.begin())
        yield connection


def make_large(url: str, verdicts: int) -> None:
    """An empty place becomes a ledger of the first revision with so many verdicts, one a second, over four lines."""
    with connected(url) as connection:
        migrate(connection, since=None, to=FIRST)
    fill(url, rows(verdicts))


def fill(url: str, found: Iterator[Row]) -> None:
    """These verdicts straight into their table, of whatever revision; no hour counts them."""
    if url.startswith("sqlite"):
        _into_sqlite(url.removeprefix("sqlite:///"), found)
    else:
        _into_postgresql(url, found)


def fill_beside(ledger: Ledger, verdicts: int) -> None:
    """What a line has beside verdicts: reviews, dead letters, collected images, incidents (a few open), promotions."""
    messages = _others(verdicts)
    while page := list(islice(messages, 1000)):
        ledger.record(page)


def settle(url: str) -> None:
    """What PostgreSQL does by itself within minutes of a large load: count its rows, so that plans are good."""
    if not url.startswith("sqlite"):
        with psycopg.connect(_native(url), autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")


def image_id(number: int) -> str:
    return f"image-{number:09}"


def rows(verdicts: int) -> Iterator[Row]:
    """The verdicts as rows; two in a hundred are flagged, scattered but always the same."""
    for number in range(verdicts):
        flagged = number * 2_654_435_761 % 2**32 < 0.02 * 2**32
        each = _verdict(number, 1 + number * VERSIONS // verdicts, flagged)
        yield (each.line, each.image_id, each.version, each.score, flagged, each.judged_at, 0, 0, encode(each))


def more_verdicts(after: int, count: int) -> Iterator[Verdict]:
    """The next verdicts of the lines, as messages."""
    return (_verdict(number, VERSIONS, number % 50 == 0) for number in range(after, after + count))


def _verdict(number: int, version: int, flagged: bool) -> Verdict:
    line, at = LINES[number % len(LINES)], BEGAN_AT + number
    key = f"images/{line}/2023/11/14/{number:064x}.png"
    box = (0.25, 0.25, 0.5, 0.5)
    return Verdict(
        line=line, image_id=image_id(number), version=version, score=2.5 if flagged else 1.0, threshold=2.0,
        threshold_revision=1, flagged=flagged, signals=Signals(peak=1.0, bulk=0.5, mean=100.0, contrast=20.0, sharpness=5.0),
        taken_at=at - 0.1, judged_at=at, latency_ms=100.0, image_key=key,
        nearest=NearestNormal(training_image_key=key, training_box=box, box=box, distance=1.0),
    )  # fmt: skip


def _others(verdicts: int) -> Iterator[Message]:
    for line in LINES:
        for version in range(1, VERSIONS + 1):
            yield ModelPromoted(
                line=line, version=version, previous=None, sequence=version, by="ana", why="", at=BEGAN_AT + version
            )
    for place, number in enumerate(range(0, verdicts, OTHERS)):
        number += place % len(LINES)
        line, at, name = LINES[number % len(LINES)], BEGAN_AT + number, image_id(number)
        image = LineImage(line=line, image_id=name, taken_at=at, digest="d", key=f"images/{name}.png", size_bytes=3)
        yield Review(line=line, image_id=name, says="normal", note="", by="ana", at=at)
        yield Collected(line=line, image=image, collected_at=at)
        yield DeadLetter(
            line=line, source_topic="images", source_partition=0, source_offset=number, error="ImageError", reason="",
            original=b"no image", headers=(("ce_id", name.encode()),), key=line.encode(), at=at,
        )  # fmt: skip
        if place % 10 == 0:
            still_open = number >= verdicts - 40 * OTHERS
            yield DriftIncident(
                line=line, incident_id=name, kind="covariate_drift", state="opened" if still_open else "closed", version=1,
                signal="bulk", test="page_hinkley", reference=1.0, observed=2.0, effect=2.5, since_image_id=name,
                alarm_image_id=name, after_images=10, at=at,
            )  # fmt: skip


def _into_sqlite(path: str, found: Iterator[Row]) -> None:
    insert = f"INSERT INTO verdicts ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    with ExitStack() as stack:
        connection = sqlite3.connect(path, isolation_level=None)
        stack.callback(connection.close)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        while page := list(islice(found, CHUNK)):
            connection.execute("BEGIN")
            connection.executemany(insert, page)
            connection.execute("COMMIT")


def _into_postgresql(url: str, found: Iterator[Row]) -> None:
    command = f"COPY verdicts ({', '.join(COLUMNS)}) FROM STDIN"
    with psycopg.connect(_native(url)) as connection, connection.cursor() as cursor, cursor.copy(command) as copy:
        for row in found:
            copy.write_row(row)


def _native(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
