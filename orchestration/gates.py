"""What a candidate must show before it may serve. A gate that cannot be evaluated fails.

All gates look at the same frozen images: the ones of the training set that were held out of the fit.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from detectors.evaluation import image_auroc
from detectors.images import Image
from detectors.model import ImageScore, Model
from detectors.synthetic import KINDS, draw_defect
from streams.ledger import GateResult

BAD_SHARE_ALLOWED = 0.10
REFERENCE_SHIFT_ALLOWED = 1.0
MEDIAN_ERROR = 1.25
MS_ALLOWED = 1_000.0
BYTES_ALLOWED = 64 * 2**20
DRAWN_AUROC_NEEDED = 0.70
RECALL_LOSS_ALLOWED = 0.10
STRENGTHS = (0.5, 0.8, 1.0)
ROBUST_SD = 1.4826


@dataclass(frozen=True)
class Evidence:
    """What the gates judge: the candidate, the champion (None at a cold start), held-out images, the artefact's files, and what else is the
    matter with the line (`beside`: kinds of open incidents that its images may be spoilt by).
    """

    candidate: Model
    champion: Model | None
    held_out: Sequence[Image]
    files: Mapping[str, bytes]
    beside: tuple[str, ...] = ()


def threshold_holds(evidence: Evidence) -> GateResult:
    """The candidate's threshold flags no more of the held-out images than its stated rate and a bad part allow.

    The limit is the 99 % quantile of a binomial with the upper end of the stated interval plus a tenth for unlabelled defects.
    """
    peaks = _peaks(evidence.candidate, evidence.held_out)
    flagged = int((peaks > evidence.candidate.threshold.value).sum())
    share = min(0.5, evidence.candidate.threshold.high + BAD_SHARE_ALLOWED)
    limit = int(binom.ppf(0.99, len(peaks), share))
    words = f"{flagged} of {len(peaks)} held-out images flagged, at most {limit} allowed"
    return GateResult(name="threshold_holds", passed=flagged <= limit, value=flagged, limit=limit, words=words)


def reference_holds(evidence: Evidence) -> GateResult:
    """The drift reference describes held-out images too: their median bulk lies near the reference's, in robust sd.

    Allowed are one robust sd and twice the standard error of a difference of two medians of so many images.
    """
    reference = np.asarray(evidence.candidate.reference.bulk)
    bulk = np.array([score.bulk for score in evidence.candidate.score(evidence.held_out)])
    middle = float(np.median(reference))
    spread = ROBUST_SD * float(np.median(np.abs(reference - middle)))
    shift = abs(float(np.median(bulk)) - middle) / max(spread, 1e-6 * max(1.0, abs(middle)))
    limit = REFERENCE_SHIFT_ALLOWED + 2 * MEDIAN_ERROR * float(np.sqrt(1 / len(bulk) + 1 / len(reference)))
    words = f"median bulk of held-out images {shift:.2f} robust sd from the reference, at most {limit:.2f} allowed"
    return GateResult(name="reference_holds", passed=shift <= limit, value=shift, limit=limit, words=words)


def latency_and_size(evidence: Evidence) -> GateResult:
    """Scoring one image takes, and the artefact weighs, no more than allowed (the median of five images counts)."""
    ms = [_ms(evidence.candidate, image) for image in evidence.held_out[:5]]
    size = sum(map(len, evidence.files.values()))
    median = float(np.median(ms))
    passed = median <= MS_ALLOWED and size <= BYTES_ALLOWED
    words = (
        f"{median:.0f} ms an image (limit {MS_ALLOWED:.0f}), {size / 2**20:.1f} MB (limit {BYTES_ALLOWED / 2**20:.0f})"
    )
    return GateResult(name="latency_and_size", passed=passed, value=median, limit=MS_ALLOWED, words=words)


def finds_drawn_defects(evidence: Evidence) -> GateResult:
    """Defects drawn into held-out images at graded strength raise the anomaly map where they are.

    Judged at their place (AUROC of the map's maximum under the defect, with against without it), so that a line whose
    images differ a lot is not mistaken for a blind model. Against a champion, image recall at a matched false-alarm
    rate (the candidate's own on the same images) may not fall by more than allowed, beyond what so few images can
    tell apart.
    """
    drawn = drawn_defects(evidence.held_out)
    plain = evidence.candidate.score(evidence.held_out)
    scored = evidence.candidate.score([image for image, _ in drawn])
    before = [_under(plain[i % len(plain)], mask) for i, (_, mask) in enumerate(drawn)]
    after = [_under(score, mask) for score, (_, mask) in zip(scored, drawn, strict=True)]
    labels = np.repeat([False, True], len(drawn))
    auroc = image_auroc(labels, np.array([*before, *after])) or 0.0
    words = f"AUROC {auroc:.2f} at the places of {len(drawn)} drawn defects, at least {DRAWN_AUROC_NEEDED} needed"
    passed = auroc >= DRAWN_AUROC_NEEDED
    if evidence.champion is not None:
        lost, allowed = _recall_lost(evidence, evidence.champion, plain, scored, [image for image, _ in drawn])
        passed = passed and lost <= allowed
        words += f"; recall {-lost:+.2f} against the champion at a matched false-alarm rate, {-allowed:+.2f} allowed"
    return GateResult(name="finds_drawn_defects", passed=passed, value=auroc, limit=DRAWN_AUROC_NEEDED, words=words)


def line_is_sound(evidence: Evidence) -> GateResult:
    """No surge of defects came up while the candidate was made: it would have learnt that bad parts are normal.

    A surge beside a change of light shows only after a hundred images or so, when a request may be under way already.
    """
    found = ", ".join(evidence.beside)
    words = (
        f"{found} is open: say of the drift that it is expected, or ask by hand"
        if found
        else "nothing but the line's drift is open"
    )
    return GateResult(name="line_is_sound", passed=not found, value=len(evidence.beside), limit=0, words=words)


GATES = (threshold_holds, reference_holds, latency_and_size, finds_drawn_defects, line_is_sound)


def drawn_defects(images: Sequence[Image]) -> list[tuple[Image, NDArray[np.bool_]]]:
    """Every image once a strength, with one defect drawn into it, and where; kinds in turn, the same for everybody who asks."""
    rng = np.random.default_rng(0)
    return [
        draw_defect(image, kind=KINDS[(i + turn) % len(KINDS)], strength=strength, rng=rng)
        for turn, strength in enumerate(STRENGTHS)
        for i, image in enumerate(images)
    ]


def _under(score: ImageScore, mask_HW: NDArray[np.bool_]) -> float:
    """The highest value of the anomaly map at the patches that a mask touches."""
    rows, columns = score.map_HW.shape
    inside = np.argwhere(mask_HW)
    row = inside[:, 0] * rows // mask_HW.shape[0]
    column = inside[:, 1] * columns // mask_HW.shape[1]
    return float(score.map_HW[row, column].max())


def _recall_lost(
    evidence: Evidence,
    champion: Model,
    plain: Sequence[ImageScore],
    scored: Sequence[ImageScore],
    drawn: Sequence[Image],
) -> tuple[float, float]:
    """How much less of the drawn defects the candidate finds than the champion, both at the candidate's false-alarm rate, and how much
    less is allowed: a fixed share and the 95 % uncertainty of a difference of two shares.
    """
    candidate_plain = np.array([score.peak for score in plain])
    rate = float((candidate_plain > evidence.candidate.threshold.value).mean())
    before = _recall(_peaks(champion, evidence.held_out), _peaks(champion, drawn), rate)
    after = _recall(candidate_plain, np.array([score.peak for score in scored]), rate)
    uncertainty = 1.645 * np.sqrt((before * (1 - before) + after * (1 - after)) / len(drawn))
    return before - after, RECALL_LOSS_ALLOWED + float(uncertainty)


def _recall(plain: NDArray[np.float64], drawn: NDArray[np.float64], rate: float) -> float:
    """Share of the drawn defects above the score that flags `rate` of the images without them."""
    return float((drawn > np.quantile(plain, 1 - rate, method="higher")).mean())


def _peaks(model: Model, images: Sequence[Image]) -> NDArray[np.float64]:
    return np.array([score.peak for score in model.score(images)])


def _ms(model: Model, image: Image) -> float:
    """One whole pass; the image is turned upside down so that no remembered features help."""
    start = time.perf_counter()
    model.score([image[::-1].copy()])
    return 1000 * (time.perf_counter() - start)
