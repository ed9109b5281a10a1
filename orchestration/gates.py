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
from detectors.model import Model
from detectors.synthetic import KINDS, draw_defect
from streams.ledger import GateResult

BAD_SHARE_ALLOWED = 0.10
REFERENCE_SHIFT_ALLOWED = 1.5
MS_ALLOWED = 1_000.0
BYTES_ALLOWED = 64 * 2**20
DRAWN_AUROC_NEEDED = 0.70
RECALL_LOSS_ALLOWED = 0.15
STRENGTHS = (0.5, 0.8, 1.0)
ROBUST_SD = 1.4826


@dataclass(frozen=True)
class Evidence:
    """What the gates judge: the candidate, the champion (None at a cold start), held-out images, and the artefact's files."""

    candidate: Model
    champion: Model | None
    held_out: Sequence[Image]
    files: Mapping[str, bytes]


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
    """The drift reference describes held-out images too: their median bulk lies near the reference's median, in robust sd."""
    reference = np.asarray(evidence.candidate.reference.bulk)
    bulk = np.array([score.bulk for score in evidence.candidate.score(evidence.held_out)])
    middle = float(np.median(reference))
    spread = ROBUST_SD * float(np.median(np.abs(reference - middle)))
    shift = abs(float(np.median(bulk)) - middle) / max(spread, 1e-6 * max(1.0, abs(middle)))
    words = f"median bulk of held-out images {shift:.2f} robust sd from the reference, at most {REFERENCE_SHIFT_ALLOWED} allowed"
    return GateResult(
        name="reference_holds",
        passed=shift <= REFERENCE_SHIFT_ALLOWED,
        value=shift,
        limit=REFERENCE_SHIFT_ALLOWED,
        words=words,
    )


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
    """Defects drawn into held-out images at graded strength score above the images without them.

    Against a champion, recall at a matched false-alarm rate (the candidate's own on the same images) may not fall by more than allowed.
    """
    drawn = drawn_defects(evidence.held_out)
    plain, with_defect = _peaks(evidence.candidate, evidence.held_out), _peaks(evidence.candidate, drawn)
    labels = np.r_[np.zeros(len(plain), bool), np.ones(len(with_defect), bool)]
    auroc = image_auroc(labels, np.r_[plain, with_defect]) or 0.0
    words = f"AUROC {auroc:.2f} on {len(drawn)} drawn defects, at least {DRAWN_AUROC_NEEDED} needed"
    passed = auroc >= DRAWN_AUROC_NEEDED
    if evidence.champion is not None:
        loss = _recall_loss(evidence, plain, with_defect, drawn)
        passed = passed and loss <= RECALL_LOSS_ALLOWED
        words += f"; recall {-loss:+.2f} against the champion at a matched false-alarm rate, {-RECALL_LOSS_ALLOWED:+.2f} allowed"
    return GateResult(name="finds_drawn_defects", passed=passed, value=auroc, limit=DRAWN_AUROC_NEEDED, words=words)


GATES = (threshold_holds, reference_holds, latency_and_size, finds_drawn_defects)


def drawn_defects(images: Sequence[Image]) -> list[Image]:
    """One defect drawn into each image, kinds and strengths in turn, the same for everybody who asks."""
    rng = np.random.default_rng(0)
    return [
        draw_defect(image, kind=KINDS[i % len(KINDS)], strength=STRENGTHS[i % len(STRENGTHS)], rng=rng)[0]
        for i, image in enumerate(images)
    ]


def _recall_loss(
    evidence: Evidence, plain: NDArray[np.float64], with_defect: NDArray[np.float64], drawn: Sequence[Image]
) -> float:
    """How much less of the drawn defects the candidate finds than the champion, both at the candidate's false-alarm rate."""
    if evidence.champion is None:
        return 0.0
    threshold = evidence.candidate.threshold.value
    rate = float((plain > threshold).mean())
    champion_plain, champion_drawn = _peaks(evidence.champion, evidence.held_out), _peaks(evidence.champion, drawn)
    matched = float(np.quantile(champion_plain, 1 - rate, method="higher"))
    return float((champion_drawn > matched).mean() - (with_defect > threshold).mean())


def _peaks(model: Model, images: Sequence[Image]) -> NDArray[np.float64]:
    return np.array([score.peak for score in model.score(images)])


def _ms(model: Model, image: Image) -> float:
    """One whole pass; the image is turned upside down so that no remembered features help."""
    start = time.perf_counter()
    model.score([image[::-1].copy()])
    return 1000 * (time.perf_counter() - start)
