"""Search among everything that was judged: any image, newest first, a page at a time.

Time, version and flag are asked of an index. No index leads to a score, to what people said, or to the images whose id begins in some way:
where those named so are few, they are sorted; else a page looks at a bounded number of images and says how far back it came.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from detectors.errors import InvalidInput
from streams.ledger_hours import HOUR_S, hour_of
from streams.ledger_summary import lines_in
from streams.ledger_tables import COLLECTED, EVENTS, VERDICT_HOURS, VERDICTS
from streams.messages import DeadLetter, Review, Verdict, decode
from streams.reviews import SAYS, standing

UNREVIEWED = "none"
"""What `says` of a search asks for where nobody said anything."""
ID_LIMIT = 1000
INDEXED = 300_000
"""Images a page looks at in an index alone."""
READ = 20_000
"""Images a page reads to look at them."""
NAMED = 4000
"""Images named by their id or by reviews that are sorted at once."""
REVIEWED_AT_ONCE = 500
"""Reviewed images of which is looked at once what stands."""
_LAST_CHARACTER = "\U0010ffff"


class Place(NamedTuple):
    """Where a page ends: the next one begins with what comes before it in (when judged, line, image)."""

    judged_at: float
    line: str
    image_id: str


@dataclass(frozen=True)
class Search:
    """What is looked for. `lines`: of these, of all where there are none named; `image_id`: the beginning of an id, or with `whole` all of
    it; judged from `since` on and before `until` (epoch seconds); a score from `lowest` to `highest`; `says`: what stands of the
    reviews (defect, normal, unsure), or `UNREVIEWED`. None: whatever it is.

    Raises InvalidInput for what nothing can match.
    """

    lines: tuple[str, ...] = ()
    image_id: str = ""
    whole: bool = False
    since: float = -math.inf
    until: float = math.inf
    lowest: float = -math.inf
    highest: float = math.inf
    flagged: bool | None = None
    says: str | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        if not self.since < self.until:
            raise InvalidInput("the time ends before it begins; give an end after the beginning")
        if not self.lowest <= self.highest:
            raise InvalidInput(f"no score lies between {self.lowest:g} and {self.highest:g}; give the lower one first")
        if self.says not in (None, UNREVIEWED, *SAYS):
            raise InvalidInput(f"nobody says {self.says!r}; there are {', '.join(SAYS)} and {UNREVIEWED}")
        _check_id(self.image_id)

    @property
    def by_score(self) -> bool:
        """Whether not every score will do."""
        return self.lowest > -math.inf or self.highest < math.inf


@dataclass(frozen=True)
class FoundImage:
    """A judged image and what stands of its reviews; None where there is none."""

    verdict: Verdict
    says: str | None


@dataclass(frozen=True)
class FoundPage:
    """Images newest first. `following`: where the next page begins, None where there is no more; `looked_back_to` (epoch seconds): older
    images have not been looked at yet, though the page is not full.
    """

    images: tuple[FoundImage, ...]
    following: Place | None
    looked_back_to: float | None = None


@dataclass(frozen=True)
class _Way:
    """How a search is answered: `named`, images by line that are sorted; else line by line (and `versions` by line, where that helps)
    back to `floor`. `at` and `flagged`: the columns, or expressions where the indexes that begin with them must not lead.
    """

    lines: Sequence[str]
    named: Mapping[str, Sequence[str]] | None = None
    versions: Mapping[str, Sequence[int | None]] = field(default_factory=dict)
    floor: float = -math.inf
    at: ColumnElement[float] = VERDICTS.c.judged_at
    flagged: ColumnElement[bool] = VERDICTS.c.flagged


def search(connection: Connection, wanted: Search, *, before: Place | None, limit: int) -> FoundPage:
    """The images a search finds from before `before` on, at most `limit`."""
    way = _way(connection, wanted, before)
    found: list[FoundImage] = []
    place = before
    at_once = REVIEWED_AT_ONCE if wanted.says in SAYS else limit + 1
    while len(found) <= limit:
        rows = _rows(connection, wanted, way, place, at_once)
        found += [each for each in _told(connection, rows) if _stands(each, wanted.says)]
        if len(rows) < at_once:
            break
        place = _place(rows[-1])
    if len(found) > limit:
        last = found[limit - 1].verdict
        return FoundPage(tuple(found[:limit]), Place(last.judged_at, last.line, last.image_id))
    if way.floor <= wanted.since:
        return FoundPage(tuple(found), None)
    return FoundPage(tuple(found), Place(way.floor, "", ""), looked_back_to=way.floor)


def unjudged_lines(connection: Connection, lines: Sequence[str], image_id: str) -> list[str]:
    """The lines that collected an image of this very id, or could not process it, and never judged it; by name."""
    _check_id(image_id)
    collected = select(COLLECTED.c.line).where(COLLECTED.c.image_id == image_id, COLLECTED.c.line.in_(lines))
    dead = select(EVENTS.c.line, EVENTS.c.kind).where(EVENTS.c.image_id == image_id, EVENTS.c.line.in_(lines))
    known = set(connection.execute(collected).scalars())
    known |= {row.line for row in connection.execute(dead) if row.kind == DeadLetter.topic}
    judged = select(VERDICTS.c.line).where(VERDICTS.c.image_id == image_id, VERDICTS.c.line.in_(sorted(known)))
    return sorted(known - set(connection.execute(judged).scalars()))


def _check_id(image_id: str) -> None:
    if len(image_id) > ID_LIMIT:
        raise InvalidInput(f"an id of {len(image_id):,} characters; look for its first {ID_LIMIT:,} or fewer")
    if image_id.encode(errors="ignore").decode() != image_id:
        raise InvalidInput("this id is not text; copy it again")
    if "\0" in image_id:
        raise InvalidInput("no id has the character NUL; look for the part before it")


def _way(connection: Connection, wanted: Search, before: Place | None) -> _Way:
    lines = wanted.lines or lines_in(connection)
    named = _named(connection, lines, wanted)
    if named is not None:
        flagged: ColumnElement[bool] = func.coalesce(VERDICTS.c.flagged, VERDICTS.c.flagged)
        return _Way(lines, named, at=VERDICTS.c.judged_at + 0.0, flagged=flagged)
    versions = {line: _versions(connection, line, wanted) for line in lines}
    budget = _budget(wanted)
    top = min(wanted.until, math.inf if before is None else before.judged_at)
    floor = -math.inf if budget is None else _floor(connection, lines, wanted, top=top, budget=budget)
    return _Way(lines, None, versions, floor)


def _budget(wanted: Search) -> int | None:
    """How many images a page may look at; None where an index leads to what is looked for."""
    if wanted.image_id or wanted.says is not None:
        return READ
    return INDEXED if wanted.by_score or (wanted.version is not None and wanted.flagged is not None) else None


def _named(connection: Connection, lines: Sequence[str], wanted: Search) -> dict[str, Sequence[str]] | None:
    """The images that the search names, by line; None where it names none, or too many."""
    if not wanted.image_id and wanted.says not in SAYS:
        return None
    found: dict[str, Sequence[str]] = {}
    left = NAMED
    for line in lines:
        rows = connection.execute(_naming(wanted, line).limit(left + 1)).scalars().all()
        left -= len(rows)
        if left < 0:
            return None
        found[line] = rows if wanted.image_id else _standing_so(rows, wanted.says)
    return found


def _naming(wanted: Search, line: str) -> Select[Any]:
    """The ids that begin so, or else the reviews of a line."""
    if wanted.image_id:
        return select(VERDICTS.c.image_id).where(VERDICTS.c.line == line, *_of_id(wanted, VERDICTS.c.image_id))
    return select(EVENTS.c.body).where(EVENTS.c.kind == Review.topic, EVENTS.c.line == line)


def _standing_so(bodies: Iterable[bytes], says: str | None) -> list[str]:
    said: dict[str, list[Review]] = {}
    for body in bodies:
        review = decode(body, Review)
        said.setdefault(review.image_id, []).append(review)
    return [image_id for image_id, reviews in said.items() if standing(reviews) == says]


def _of_id(wanted: Search, image_id: ColumnElement[str]) -> Iterator[ColumnElement[bool]]:
    if wanted.whole and wanted.image_id:
        yield image_id == wanted.image_id
    elif wanted.image_id:
        yield image_id >= wanted.image_id
        yield image_id < wanted.image_id + _LAST_CHARACTER


def _versions(connection: Connection, line: str, wanted: Search) -> list[int | None]:
    """The versions to ask one by one: the index that knows scores is sorted by time within each. None: whichever."""
    if wanted.version is not None or not wanted.by_score:
        return [wanted.version]
    found: list[int | None] = []
    of_line = select(func.min(VERDICTS.c.version)).where(VERDICTS.c.line == line)
    version = connection.execute(of_line).scalar()
    while version is not None:
        found.append(version)
        version = connection.execute(of_line.where(VERDICTS.c.version > version)).scalar()
    return found


def _floor(connection: Connection, lines: Sequence[str], wanted: Search, *, top: float, budget: int) -> float:
    """How far back from `top` so many images reach, to a whole hour, at least one; -inf where all of them."""
    hours = VERDICT_HOURS.c
    ends = [_first_and_last_hour(connection, line) for line in lines]
    first, last = min((each[0] for each in ends), default=math.inf), max((each[1] for each in ends), default=-math.inf)
    start = last if top > last else hour_of(math.nextafter(top, -math.inf))
    images = select(func.sum(hours.flagged if wanted.flagged else hours.judged)).where(hours.line.in_(lines))
    floor, span = start, HOUR_S
    while floor > max(first, wanted.since):
        reached = images.where(hours.start_at >= start - span, hours.start_at <= start)
        if (connection.execute(reached).scalar() or 0) > budget:
            return floor
        floor, span = start - span, 2 * span
    return -math.inf


def _first_and_last_hour(connection: Connection, line: str) -> tuple[float, float]:
    start_at = VERDICT_HOURS.c.start_at
    query = select(func.min(start_at), func.max(start_at)).where(VERDICT_HOURS.c.line == line)
    first, last = connection.execute(query).one()
    return (math.inf, -math.inf) if first is None else (first, last)


def _rows(
    connection: Connection, wanted: Search, way: _Way, before: Place | None, limit: int
) -> list[Row[tuple[float, str, str, bytes]]]:
    """The next rows that may match, newest first."""
    found: list[Row[tuple[float, str, str, bytes]]] = []
    for query in _queries(wanted, way, before):
        found += connection.execute(query.limit(limit)).all()
    return sorted(found, key=_place, reverse=True)[:limit]


def _queries(wanted: Search, way: _Way, before: Place | None) -> Iterator[Select[tuple[float, str, str, bytes]]]:
    """One query a line, or a line and version."""
    verdicts = VERDICTS.c
    columns = select(verdicts.judged_at, verdicts.line, verdicts.image_id, verdicts.body)
    columns = columns.order_by(way.at.desc(), verdicts.image_id.desc())
    for line in way.lines:
        here = columns.where(verdicts.line == line, *_matches(wanted, way), *_before(way.at, before, line))
        if way.named is not None:
            yield here.where(verdicts.image_id.in_(way.named[line]))
            continue
        for version in way.versions[line]:
            yield here if version is None else here.where(verdicts.version == version)


def _matches(wanted: Search, way: _Way) -> Iterator[ColumnElement[bool]]:
    verdicts, since = VERDICTS.c, max(wanted.since, way.floor)
    yield from _of_id(wanted, verdicts.image_id + "")  # an expression: the index by id is not sorted by time
    if since > -math.inf:
        yield way.at >= since
    if wanted.until < math.inf:
        yield way.at < wanted.until
    if wanted.lowest > -math.inf:
        yield verdicts.score >= wanted.lowest
    if wanted.highest < math.inf:
        yield verdicts.score <= wanted.highest
    if wanted.flagged is not None:
        yield way.flagged.is_(wanted.flagged)
    if way.named is not None and wanted.version is not None:
        yield verdicts.version + 0 == wanted.version
    if wanted.says is not None:
        yield _said(wanted.says)


def _said(says: str) -> ColumnElement[bool]:
    """Whether anybody said anything of the image, or nobody. Asked of the image, not of the kind: the index by image must lead."""
    of_image = (EVENTS.c.line == VERDICTS.c.line) & (EVENTS.c.image_id == VERDICTS.c.image_id)
    said = select(EVENTS.c.identity).where(of_image, (EVENTS.c.kind + "") == Review.topic).exists()
    return ~said if says == UNREVIEWED else said


def _before(at: ColumnElement[float], place: Place | None, line: str) -> Iterator[ColumnElement[bool]]:
    """What comes after a place in the order newest first, of one line."""
    if place is None:
        return
    yield at < place.judged_at if line > place.line else at <= place.judged_at
    if line == place.line:
        # Not as a pair: the id is in no index by time, and is to be fetched only where times are equal.
        yield (at < place.judged_at) | (VERDICTS.c.image_id < place.image_id)


def _told(connection: Connection, rows: Sequence[Row[tuple[float, str, str, bytes]]]) -> Iterator[FoundImage]:
    """The rows with what stands of their reviews."""
    said: dict[tuple[str, str], list[Review]] = {}
    for line in {row.line for row in rows}:
        images = [row.image_id for row in rows if row.line == line]
        for review in _reviews(connection, line, images):
            said.setdefault((line, review.image_id), []).append(review)
    for row in rows:
        reviews = said.get((row.line, row.image_id))
        yield FoundImage(decode(row.body, Verdict), None if reviews is None else standing(reviews))


def _reviews(connection: Connection, line: str, images: Iterable[str]) -> Iterator[Review]:
    query = select(EVENTS.c.kind, EVENTS.c.body).where(EVENTS.c.line == line, EVENTS.c.image_id.in_(list(images)))
    for row in connection.execute(query):
        if row.kind == Review.topic:
            yield decode(row.body, Review)


def _stands(image: FoundImage, says: str | None) -> bool:
    return says in (None, image.says) or (says == UNREVIEWED and image.says is None)


def _place(row: Row[tuple[float, str, str, bytes]]) -> Place:
    return Place(row.judged_at, row.line, row.image_id)
