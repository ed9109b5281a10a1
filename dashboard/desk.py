"""The reviewer's desk: which image lies on it, what waits behind it, what was said before. Knows no Streamlit."""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.ledger import Ledger
from streams.messages import Review, Verdict

WAITING_SHOWN = 24


@dataclass(frozen=True)
class Reviewed:
    """The last word on an image: what was said, by whom, `at` (epoch seconds), and how many reviews the image has."""

    image_id: str
    says: str
    note: str
    by: str
    at: float
    times: int


@dataclass(frozen=True)
class ReviewDesk:
    """`verdict` is the image to judge now (None: nothing waits), `following` the next one, `said` the last word on it.

    `waiting` counts images nobody has judged, up to WAITING_SHOWN; `more` says that there are more.
    """

    verdict: Verdict | None
    following: Verdict | None
    said: Reviewed | None
    waiting: int
    more: bool


def review_desk(ledger: Ledger, line: str, *, chosen: str | None, skipped: Sequence[str]) -> ReviewDesk:
    """The desk of a line: the `chosen` image, else the newest flagged one neither reviewed nor `skipped`."""
    found = ledger.flagged(line, limit=WAITING_SHOWN + 1 + len(skipped), unreviewed_only=True)
    waiting = [verdict for verdict in found if verdict.image_id not in set(skipped)]
    current = ledger.verdict(line, chosen) if chosen is not None else None
    current = current or next(iter(waiting), None)
    if current is None:
        return ReviewDesk(None, None, None, 0, False)
    following = next((verdict for verdict in waiting if verdict.image_id != current.image_id), None)
    said = _last_words(ledger.reviews(line, current.image_id))
    more = len(waiting) > WAITING_SHOWN
    return ReviewDesk(current, following, said[0] if said else None, min(len(waiting), WAITING_SHOWN), more)


def reviewed(ledger: Ledger, line: str) -> list[Reviewed]:
    """The last word on each image of the line that anybody reviewed, newest first."""
    return _last_words(ledger.reviews(line))


def _last_words(reviews: Sequence[Review]) -> list[Reviewed]:
    """One entry an image, newest first."""
    times: dict[str, int] = {}
    last: dict[str, Review] = {}
    for review in sorted(reviews, key=lambda review: review.at):
        times[review.image_id] = times.get(review.image_id, 0) + 1
        last[review.image_id] = review
    newest_first = sorted(last.values(), key=lambda review: review.at, reverse=True)
    return [
        Reviewed(each.image_id, each.says, each.note, each.by, each.at, times[each.image_id]) for each in newest_first
    ]
