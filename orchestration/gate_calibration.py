"""Gates of what was calibrated in the fit: the threshold and the drift reference, on images that the candidate has not learnt."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from detectors.artifact import MANIFEST
from detectors.errors import InvalidInput
from detectors.manifest import read_manifest
from orchestration.evidence import Evidence, Images, Scores
from orchestration.judgement import Judgement, of_number
from streams.calibrating import SMALLEST_REFERENCE
from streams.stored_calibration import in_words, restored

BAD_SHARE_ALLOWED = 0.10
REFERENCE_SHIFT_ALLOWED = 1.0
MEDIAN_ERROR = 1.25
ROBUST_SD = 1.4826


def threshold_holds(evidence: Evidence) -> Judgement:
    """The candidate's threshold flags no more of the held-out images than its stated rate and a bad part allow, nor of reviewed normals.

    The limit is the 99 % quantile of a binomial with the upper end of the stated interval plus a tenth for unlabelled defects. People
    review what was flagged, so of the reviewed normals as many may be flagged as the champion flags, and an equal share of chance.
    """
    flagged, images = _flagged(evidence.by_candidate, evidence.recent), len(evidence.recent)
    limit = _limit(evidence, images)
    words = f"{flagged} of {images} held-out images flagged, at most {limit} allowed"
    keys = [*evidence.recent, *evidence.golden.normals]
    if not evidence.golden.normals:
        return of_number("threshold_holds", flagged, limit, words, passed=flagged <= limit, keys=keys)
    of_golden, allowed, more = _on_golden(evidence)
    passed = flagged <= limit and of_golden <= allowed
    if flagged <= limit and not passed:
        flagged, limit = of_golden, allowed
    return of_number("threshold_holds", flagged, limit, f"{words}; {more}", passed=passed, keys=keys)


def _on_golden(evidence: Evidence) -> tuple[int, int, str]:
    """How many of the reviewed normals are flagged, how many may be, and both in words."""
    normals = evidence.golden.normals
    flagged, allowed = _flagged(evidence.by_candidate, normals), _limit(evidence, len(normals))
    beside = ""
    if evidence.by_champion is not None:
        of_champion = _flagged(evidence.by_champion, normals)
        allowed = max(allowed, int(binom.ppf(0.99, len(normals), (of_champion + 1) / (len(normals) + 2))))
        beside = f" (the champion flags {of_champion})"
    words = f"{flagged} of {len(normals)} reviewed normals flagged{beside}, at most {allowed} allowed; {evidence.golden.words}"
    return flagged, allowed, words


def _flagged(scores: Scores, images: Images) -> int:
    return int((scores.peaks(images) > scores.model.threshold.value).sum())


def _limit(evidence: Evidence, images: int) -> int:
    share = min(0.5, evidence.candidate.threshold.high + BAD_SHARE_ALLOWED)
    return int(binom.ppf(0.99, images, share))


def reference_holds(evidence: Evidence) -> Judgement:
    """The drift reference describes held-out images too: their median bulk lies near the reference's, in robust sd.

    Allowed are one robust sd and twice the standard error of a difference of two medians of so many images.
    """
    reference = np.asarray(evidence.candidate.reference.bulk)
    if not len(reference):
        raise InvalidInput("the candidate's drift reference is empty; fit it on more images")
    bulk = np.array([score.bulk for score in evidence.by_candidate.of(evidence.recent)])
    middle, spread = _robust(reference)
    shift = abs(float(np.median(bulk)) - middle) / spread
    limit = REFERENCE_SHIFT_ALLOWED + 2 * MEDIAN_ERROR * float(np.sqrt(1 / len(bulk) + 1 / len(reference)))
    words = (
        f"median bulk of {len(bulk)} held-out images {shift:.2f} robust sd from the reference ({len(reference)} images), "
        f"at most {limit:.2f} allowed"
    )
    return of_number("reference_holds", shift, limit, words, passed=shift <= limit, keys=evidence.recent)


def _robust(values: NDArray[np.float64]) -> tuple[float, float]:
    middle = float(np.median(values))
    spread = ROBUST_SD * float(np.median(np.abs(values - middle)))
    return middle, max(spread, 1e-6 * max(1.0, abs(middle)))


def drift_can_be_watched(evidence: Evidence) -> Judgement:
    """The candidate's reference carries a drift watch, and the thresholds of its alarms lie beside it and fit it."""
    manifest = read_manifest(evidence.files[MANIFEST])
    images = len(manifest.reference.bulk)
    passed = images >= SMALLEST_REFERENCE and restored(manifest.calibration, manifest.reference) is not None
    words = f"{in_words(manifest.calibration, manifest.reference)}; at least {SMALLEST_REFERENCE} images and stored thresholds needed"
    return of_number("drift_can_be_watched", images, SMALLEST_REFERENCE, words, passed=passed)
