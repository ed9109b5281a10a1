"""Gates of what a model is for: it finds defects, and no fewer than the champion does.

Two models are compared at the same false-alarm rate, the candidate's own on the same normal images, so that neither gains by flagging more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation import image_auroc
from detectors.model import ImageScore
from orchestration.evidence import STRENGTHS, Evidence, Images, Made, pictures
from orchestration.judgement import Judgement, of_number

DRAWN_AUROC_NEEDED = 0.70
RECALL_LOSS_ALLOWED = 0.10
RECALL_NEEDED = 0.25
ENOUGH_DEFECTS = 10
"""Fewer do not say that a model finds next to nothing."""
ENOUGH_NORMALS = 10
"""So many reviewed ones set the false-alarm rate alone: bad parts may be among the held-out images, which nobody has looked at."""

_ONE_SIDED = 1.645


@dataclass(frozen=True)
class Recall:
    """What of some defects a candidate finds: by its own threshold, at a false-alarm rate that both contenders keep, and what the champion
    finds there (None without one).
    """

    defects: int
    own: float
    matched: float
    of_champion: float | None

    @property
    def allowed_loss(self) -> float:
        """How much less than the champion is no worse: a fixed share, and the 95 % uncertainty of a difference of two shares of so few.

        Shares are those of one more found and one more missed (Agresti and Caffo 2000): without that, one image of one would be certain.
        """
        shares = [(share * self.defects + 1) / (self.defects + 2) for share in (self.matched, self.of_champion or 0.0)]
        variance = sum(share * (1 - share) for share in shares) / self.defects
        return RECALL_LOSS_ALLOWED + _ONE_SIDED * float(np.sqrt(variance))

    @property
    def least(self) -> float:
        """The recall that is needed at the matched rate."""
        return 0.0 if self.of_champion is None else max(0.0, self.of_champion - self.allowed_loss)

    @property
    def words(self) -> str:
        """The comparison in words."""
        if self.of_champion is None:
            return "no champion to compare with"
        lost = self.matched - self.of_champion
        return (
            f"recall {lost:+.2f} against the champion at a matched false-alarm rate, {-self.allowed_loss:+.2f} allowed"
        )


@dataclass(frozen=True)
class Floor:
    """What a candidate finds by its own threshold, whatever the champion does, and the least it must find."""

    found: float
    needed: float

    @property
    def words(self) -> str:
        """Both in words."""
        return f"{self.found:.2f} by its own threshold, at least {self.needed:.2f} needed"


def recall_of(evidence: Evidence, defects: Images, normals: Images) -> Recall:
    """What candidate and champion find of some defects, beside images that should be normal."""
    plain, scores = evidence.by_candidate.peaks(normals), evidence.by_candidate.peaks(defects)
    threshold = evidence.candidate.threshold.value
    rate = float((plain > threshold).mean())
    of_champion = None
    if evidence.by_champion is not None:
        of_champion = _at_rate(evidence.by_champion.peaks(normals), evidence.by_champion.peaks(defects), rate)
    return Recall(len(defects), float((scores > threshold).mean()), _at_rate(plain, scores, rate), of_champion)


def _at_rate(plain: NDArray[np.float64], defects: NDArray[np.float64], rate: float) -> float:
    """Share of the defects above the score that flags `rate` of the normal images."""
    return float((defects > np.quantile(plain, 1 - rate, method="higher")).mean())


def least_by_own_threshold(defects: int) -> float:
    """What a candidate must find of so many defects by its own threshold, less the 95 % uncertainty of that share.

    >>> least_by_own_threshold(3), round(least_by_own_threshold(40), 2)
    (0.0, 0.14)
    """
    if defects < ENOUGH_DEFECTS:
        return 0.0
    return max(0.0, RECALL_NEEDED - _ONE_SIDED * float(np.sqrt(RECALL_NEEDED * (1 - RECALL_NEEDED) / defects)))


def finds_known_defects(evidence: Evidence) -> Judgement:
    """Reviewed defects of the line as it is now are found: no fewer than by the champion, beyond what so few images can tell apart, and
    where there are enough of them not next to none. Without any, drawn and pasted ones estimate what would be found, and the words say so.
    """
    defects = evidence.golden.defects
    if not defects:
        return _by_estimate(evidence)
    golden = evidence.golden.normals
    normals = golden if len(golden) >= ENOUGH_NORMALS else evidence.normals
    recall = recall_of(evidence, defects, normals)
    found = f"{round(recall.own * len(defects))} of {len(defects)} reviewed defects of the line as it is now found"
    floor = Floor(recall.own, least_by_own_threshold(len(defects)))
    keys = [*normals, *defects]
    return _judged(recall, floor, f"{found}, {floor.words}; {recall.words}; {evidence.golden.words}", keys)


def _by_estimate(evidence: Evidence) -> Judgement:
    """The same by defects that we made: the floor is for those drawn at full strength, which are plainly visible."""
    drawn, pasted = evidence.drawn, evidence.pasted
    recall = recall_of(evidence, pictures({**drawn, **pasted}), evidence.recent)
    by_strength = {strength: _own(evidence, _of_strength(drawn, strength)) for strength in STRENGTHS}
    plain_to_see = len(_of_strength(drawn, STRENGTHS[-1]))
    floor = Floor(by_strength[STRENGTHS[-1]], least_by_own_threshold(max(ENOUGH_DEFECTS, plain_to_see)))
    words = (
        f"recall is an estimate, without a reviewed defect of the line as it is now: of {len(drawn)} drawn ones "
        f"{', '.join(f'{share:.2f} at strength {strength}' for strength, share in by_strength.items())}, of {len(pasted)} pasted ones "
        f"{_own(evidence, pasted):.2f}; {floor.words}; {recall.words}; {evidence.golden.words}"
    )
    return _judged(recall, floor, words, list(evidence.recent))


def _judged(recall: Recall, floor: Floor, words: str, keys: Sequence[str]) -> Judgement:
    """The number beside its limit is the comparison with the champion, or the floor where that fails or there is no champion."""
    holds, no_worse = floor.found >= floor.needed, recall.matched >= recall.least
    by_champion = recall.of_champion is not None and (holds or not no_worse)
    value, limit = (recall.matched, recall.least) if by_champion else (floor.found, floor.needed)
    return of_number("finds_known_defects", value, limit, words, passed=holds and no_worse, keys=keys)


def _of_strength(made: Mapping[str, Made], strength: float) -> Mapping[str, Made]:
    return {key: each for key, each in made.items() if each.strength == strength}


def _own(evidence: Evidence, made: Mapping[str, Made]) -> float:
    """Share of made defects that the candidate flags by its own threshold."""
    return float((evidence.by_candidate.peaks(pictures(made)) > evidence.candidate.threshold.value).mean())


def finds_drawn_defects(evidence: Evidence) -> Judgement:
    """Defects drawn into held-out images at graded strength raise the anomaly map where they are.

    Judged at their place (AUROC of the map's maximum under the defect, with against without it), so that a line whose images differ a lot
    is not mistaken for a blind model. Against a champion, image recall at a matched false-alarm rate may not fall by more than allowed.
    """
    drawn = evidence.drawn
    plain = dict(zip(evidence.recent, evidence.by_candidate.of(evidence.recent), strict=True))
    scored = evidence.by_candidate.of(pictures(drawn))
    before = [_under(plain[each.plain], each.mask_HW) for each in drawn.values()]
    after = [_under(score, each.mask_HW) for score, each in zip(scored, drawn.values(), strict=True)]
    auroc = image_auroc(np.repeat([False, True], len(drawn)), np.array([*before, *after])) or 0.0
    recall = recall_of(evidence, pictures(drawn), evidence.recent)
    passed = auroc >= DRAWN_AUROC_NEEDED and recall.matched >= recall.least
    words = f"AUROC {auroc:.2f} at the places of {len(drawn)} drawn defects, at least {DRAWN_AUROC_NEEDED} needed; {recall.words}"
    return of_number("finds_drawn_defects", auroc, DRAWN_AUROC_NEEDED, words, passed=passed, keys=evidence.recent)


def _under(score: ImageScore, mask_HW: NDArray[np.bool_]) -> float:
    """The highest value of the anomaly map at the patches that a mask touches."""
    rows, columns = score.map_HW.shape
    inside = np.argwhere(mask_HW)
    row = inside[:, 0] * rows // mask_HW.shape[0]
    column = inside[:, 1] * columns // mask_HW.shape[1]
    return float(score.map_HW[row, column].max())
