"""What the search page asks of the ledger, and everything it found, to be exported. Knows no Streamlit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from detectors.errors import InvalidInput
from streams.ledger import Ledger
from streams.ledger_search import UNREVIEWED, FoundImage, FoundPage, Search
from streams.reviews import DEFECT, NORMAL, UNSURE

PAGE_IMAGES = 24
PAGE_EXPORTED = 1000
STEPS_EXPORTED = 50
FLAGGED = {"": None, "flagged": True, "not flagged": False}
"""What is asked of the flag, by the word of the picker."""
SAYS = {"": None, "defect": DEFECT, "normal": NORMAL, "unsure": UNSURE, "nothing yet": UNREVIEWED}
"""What is asked of the reviews, by the word of the picker."""


@dataclass(frozen=True)
class Fields:
    """What a person filled in; times without a zone are the viewer's."""

    image_id: str = ""
    whole: bool = False
    since: datetime | None = None
    until: datetime | None = None
    lowest: float | None = None
    highest: float | None = None
    flagged: str = ""
    says: str = ""
    version: int | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing narrows the search."""
        return replace(self, image_id=self.image_id.strip(), whole=False) == Fields()


@dataclass(frozen=True)
class Matches:
    """All that a search finds, newest first. `cut`: there is more; `looked_back_to`: from here on (epoch seconds) nothing was looked at."""

    images: tuple[FoundImage, ...]
    cut: bool
    looked_back_to: float | None = None


def asked(lines: tuple[str, ...], fields: Fields, zone: tzinfo) -> Search:
    """The search that a person means; raises InvalidInput, in words, for what nothing can match."""
    lowest, highest = _score(fields.lowest, -math.inf), _score(fields.highest, math.inf)
    return Search(
        lines=lines,
        image_id=fields.image_id.strip(),
        whole=fields.whole,
        since=_moment(fields.since, zone, -math.inf),
        until=_moment(fields.until, zone, math.inf),
        lowest=lowest,
        highest=highest,
        flagged=FLAGGED[fields.flagged],
        says=SAYS[fields.says],
        version=fields.version,
    )


def all_matches(ledger: Ledger, wanted: Search, *, limit: int) -> Matches:
    """What a search finds, at most `limit` images, read a page at a time and a bounded number of pages."""
    images: list[FoundImage] = []
    page = FoundPage((), None)
    for page in _pages(ledger, wanted, limit=min(limit, PAGE_EXPORTED)):
        images += page.images
        if len(images) >= limit:
            break
    cut = len(images) > limit or page.following is not None
    looked_back_to = None if page.following is None or len(images) >= limit else page.following.judged_at
    return Matches(tuple(images[:limit]), cut, looked_back_to)


def _pages(ledger: Ledger, wanted: Search, *, limit: int) -> Iterator[FoundPage]:
    page = ledger.search(wanted, limit=limit)
    yield page
    for _ in range(STEPS_EXPORTED):
        if page.following is None:
            return
        page = ledger.search(wanted, before=page.following, limit=limit)
        yield page


def _moment(at: datetime | None, zone: tzinfo, otherwise: float) -> float:
    return otherwise if at is None else at.replace(tzinfo=at.tzinfo or zone).timestamp()


def _score(value: float | None, otherwise: float) -> float:
    if value is None:
        return otherwise
    if not math.isfinite(value):
        raise InvalidInput(f"{value} is no score; give a number")
    return value
