"""Another threshold for a version: what it would have flagged, and which one the reviews speak for.

Nothing is scored again: the ledger keeps every score, whatever the threshold was then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from streams.ledger import Ledger
from streams.ledger_rows import ScoredPart
from streams.reviews import DEFECT, NORMAL

DAY_S = 86_400.0
LEAST_REVIEWED = 5
"""Reviewed defects, and reviewed normals, without which nothing is suggested."""

A_MISS_COSTS = 10
"""A defect that is missed weighs as much as so many normal parts that are flagged."""


@dataclass(frozen=True)
class Found:
    """What a threshold does to reviewed parts."""

    defects: int
    found: int
    normals: int
    flagged: int

    def __str__(self) -> str:
        return f"finds {self.found} of {self.defects} reviewed defects, flags {self.flagged} of {self.normals} reviewed normals"

    @property
    def cost(self) -> int:
        """In normal parts flagged."""
        return A_MISS_COSTS * (self.defects - self.found) + self.flagged


@dataclass(frozen=True)
class Preview:
    """What a threshold would have done: to all that the version judged in the last 24 h, of which `flagged` were then and `above` would
    have been, and to the parts that were reviewed.
    """

    threshold: float
    judged: int
    flagged: int
    above: int
    reviewed: Found

    @property
    def share(self) -> float | None:
        """Of the images judged, the share that would have been flagged; None where there were none."""
        return self.above / self.judged if self.judged else None

    @property
    def words(self) -> str:
        """The same for people.

        >>> Preview(0.4, judged=1203, flagged=40, above=12, reviewed=Found(0, 0, 0, 0)).words
        'would have flagged 12 instead of 40 of 1,203 over the last 24 h (1.0 %)'
        """
        if self.share is None:
            day = "judged nothing over the last 24 h"
        else:
            day = (
                f"would have flagged {self.above:,} instead of {self.flagged:,} of {self.judged:,} over the last 24 h "
                f"({self.share:.1%})"
            ).replace("%", " %")
        return f"{day}; {self.reviewed}" if self.reviewed.defects + self.reviewed.normals else day


@dataclass(frozen=True)
class Suggestion:
    """The threshold that the reviews speak for, None where they speak for none, and why in words."""

    threshold: float | None
    words: str


def preview(ledger: Ledger, line: str, version: int, threshold: float, *, now: float) -> Preview:
    """What `threshold` would have flagged in the 24 h before `now`, and does to reviewed parts."""
    flags = ledger.flags(line, version, threshold=threshold, since=now - DAY_S)
    return Preview(
        threshold, flags.judged, flags.flagged, flags.above, found(ledger.scored_parts(line, version), threshold)
    )


def found(parts: Sequence[ScoredPart], threshold: float) -> Found:
    """What a threshold does to reviewed parts; those about which people are unsure do not count.

    >>> print(found([ScoredPart("a", 3.0, "defect"), ScoredPart("b", 1.0, "normal")], 2.0))
    finds 1 of 1 reviewed defects, flags 0 of 1 reviewed normals
    """
    defects = [part.score > threshold for part in parts if part.says == DEFECT]
    normals = [part.score > threshold for part in parts if part.says == NORMAL]
    return Found(len(defects), sum(defects), len(normals), sum(normals))


def suggest(parts: Sequence[ScoredPart], in_force: float) -> Suggestion:
    """The threshold that costs least on the reviewed parts of a version, where that is less than what the one in force costs.

    A missed defect costs as much as ten flagged normals, so a single defect that no threshold tells from the normals does not drag
    the threshold down to where everything is flagged. Of thresholds that cost the same, the one that misses fewest defects; it lies
    midway between the scores on either side.
    """
    now = found(parts, in_force)
    if min(now.defects, now.normals) < LEAST_REVIEWED:
        return Suggestion(
            None,
            f"no suggestion: of the parts this version scored {now.defects} are reviewed as defects and {now.normals} as normal, "
            f"{LEAST_REVIEWED} of each are needed; review more, unflagged ones too",
        )
    gaps = _gaps(sorted({part.score for part in parts if part.says in (DEFECT, NORMAL)}))
    low, high = min(gaps, key=lambda gap: _rank(found(parts, gap[0])))
    best = found(parts, low)
    if best.cost >= now.cost:
        return Suggestion(None, f"the threshold in force does as well as any on the reviewed parts: it {now}")
    threshold = _between(low, high)
    return Suggestion(threshold, f"{threshold} {best}; {in_force:g}, in force, {now}")


def _gaps(scores: Sequence[float]) -> list[tuple[float, float]]:
    """Between which scores a threshold may lie: below all, between two neighbours, above all."""
    span = max(scores[-1] - scores[0], scores[-1]) / 100
    return list(pairwise([max(0.0, scores[0] - span), *scores, scores[-1] + span]))


def _rank(result: Found) -> tuple[int, int]:
    return result.cost, result.defects - result.found


def _between(low: float, high: float) -> float:
    """A short number in the middle: scores of `low` are not above it, those of `high` are.

    >>> _between(0.41237, 0.43519)
    0.424
    """
    middle = (low + high) / 2
    shorter = (float(f"{middle:.{digits}g}") for digits in range(3, 17))
    return next((each for each in shorter if low <= each < high), low)
