"""What people's words on a part come to.

A later word of a person replaces their earlier one. One person who says defect is enough to keep a part out of every training set;
normal stands where nobody says defect.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from streams.messages import Review, Verdict

DEFECT = "defect"
NORMAL = "normal"
UNSURE = "unsure"
SAYS = (DEFECT, NORMAL, UNSURE)


@dataclass(frozen=True)
class ReviewedPart:
    """A judged image that people said something of: what stands, and when the latest word was said."""

    verdict: Verdict
    says: str
    at: float


def standing(reviews: Iterable[Review]) -> str:
    """What stands of the reviews of one image, in any order; unsure without any.

    >>> def said(by: str, says: str, at: float) -> Review:
    ...     return Review(line="tiles", image_id="a", says=says, note="", by=by, at=at)
    >>> standing([said("ana", "defect", 1.0), said("bo", "normal", 2.0)])
    'defect'
    >>> standing([said("ana", "defect", 1.0), said("bo", "normal", 2.0), said("ana", "normal", 3.0)])
    'normal'
    """
    latest = {review.by: review.says for review in sorted(reviews, key=lambda each: (each.at, each.identity))}
    words = set(latest.values())
    return next((each for each in (DEFECT, NORMAL) if each in words), UNSURE)
