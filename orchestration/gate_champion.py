"""Gates beside the champion: the candidate is another model, judges alike what did not change, and costs hardly more."""

import time
from collections.abc import Iterable

import numpy as np
from scipy.stats import binom, spearmanr

from detectors.artifact import MANIFEST, TENSORS
from detectors.images import Image
from detectors.manifest import Manifest, read_manifest
from detectors.model import Model
from orchestration.evidence import Evidence
from orchestration.judgement import Judgement, of_number

SHARE_ALLOWED = 0.10
RANK_NEEDED = 0.3
TIMES_ALLOWED = 3.0
MS_ALLOWED, MS_ALWAYS_ALLOWED = 1_000.0, 50.0
BYTES_ALLOWED, BYTES_ALWAYS_ALLOWED = 64 * 2**20, 8 * 2**20
TIMED_IMAGES = 5


def differs_from_champion(evidence: Evidence) -> Judgement:
    """Something would change: another detector, other features, another bank or another threshold than the champion was made with.

    Both are compared as they were made: a threshold that a person set since is beside the version, and no reason for a new one. A champion
    that an earlier attempt at the same request published, before it was killed, is the candidate itself.
    """
    if not evidence.champion_files:
        return of_number("differs_from_champion", 1, 1, evidence.without_champion, passed=True)
    ours, theirs = (read_manifest(files[MANIFEST]) for files in (evidence.files, evidence.champion_files))
    if ours.request_id is not None and ours.request_id == theirs.request_id:
        words = "the champion came of this very request, whose earlier attempt was cut off"
        return of_number("differs_from_champion", 1, 1, words, passed=True)
    changed = _changed(ours, theirs)
    words = (
        f"{', '.join(changed)} differ from the champion's"
        if changed
        else "the same detector, features, bank and threshold as the champion: nothing would change; ask again when there are other images"
    )
    return of_number("differs_from_champion", len(changed), 1, words, passed=bool(changed))


def _changed(ours: Manifest, theirs: Manifest) -> list[str]:
    pairs = {
        "detector": (ours.detector, theirs.detector),
        "parameters": (ours.parameters, theirs.parameters),
        "features": (ours.features, theirs.features),
        "bank": (ours.files[TENSORS], theirs.files[TENSORS]),
        "threshold": (ours.threshold.value, theirs.threshold.value),
    }
    return [name for name, (one, other) in pairs.items() if one != other]


def agrees_where_nothing_changed(evidence: Evidence) -> Judgement:
    """Where the line did not change, the candidate flags the images that the champion flags, and ranks them alike.

    A reviewed normal counts where only the candidate flags it: not to flag it is right. Allowed are so many as a tenth of the images, at
    most, gives by chance in 99 of 100. Ranks are compared where both look at the same features with the same detector; allowed is what so
    few images can tell apart.
    """
    if evidence.by_champion is None or evidence.champion is None:
        return _unasked(evidence.without_champion)
    if evidence.change:
        return _unasked(f"{evidence.change}: what the champion says of it is no measure")
    normals = evidence.normals
    theirs, ours = evidence.by_champion.peaks(normals), evidence.by_candidate.peaks(normals)
    flagged, flags = theirs > evidence.champion.threshold.value, ours > evidence.candidate.threshold.value
    known_normal = np.array([key in evidence.golden.normals for key in normals])
    differ, limit = int(np.where(known_normal, flags & ~flagged, flags != flagged).sum()), _limit(len(normals))
    words = f"{differ} of {len(normals)} normal images judged otherwise than by the champion, at most {limit} allowed"
    alike, of_ranks = _ranks(evidence, theirs, ours)
    passed = differ <= limit and alike
    return of_number("agrees_where_nothing_changed", differ, limit, f"{words}{of_ranks}", passed=passed, keys=normals)


def _unasked(why: str) -> Judgement:
    return of_number("agrees_where_nothing_changed", 0, 0, f"not asked: {why}", passed=True)


def _limit(images: int) -> int:
    return int(binom.ppf(0.99, images, SHARE_ALLOWED))


def _ranks(evidence: Evidence, theirs: Iterable[float], ours: Iterable[float]) -> tuple[bool, str]:
    """Whether both rank the images alike, and in words; nothing where their scores are not of one kind."""
    if evidence.champion is None or _kind(evidence.champion) != _kind(evidence.candidate) or len(evidence.normals) < 3:
        return True, ""
    agreement = float(spearmanr(list(theirs), list(ours)).statistic)
    needed = RANK_NEEDED - 2 / float(np.sqrt(len(evidence.normals) - 1))
    words = f"; rank agreement {agreement:+.2f}, at least {needed:+.2f} needed"
    return agreement >= needed, words


def _kind(model: Model) -> tuple[str, str]:
    return model.detector.name, model.extractor.spec.digest


def latency_and_size(evidence: Evidence) -> Judgement:
    """Scoring one image takes, and the artefact weighs, no more than allowed, nor than a few times what the champion does.

    The median of some images counts, both models timed in turn; what is small anyway is never too much.
    """
    images = list(evidence.recent.values())[:TIMED_IMAGES]
    ms, of_champion = _timed(evidence, images)
    size, size_before = _bytes(evidence.files.values()), _bytes(evidence.champion_files.values())
    most_ms = _most(MS_ALLOWED, MS_ALWAYS_ALLOWED, of_champion)
    most_bytes = _most(BYTES_ALLOWED, BYTES_ALWAYS_ALLOWED, size_before or None)
    words = (
        f"{ms:.0f} ms an image (limit {most_ms:.0f}{_beside(of_champion, 'ms')}), "
        f"{size / 2**20:.1f} MB (limit {most_bytes / 2**20:.0f}{_beside(size_before / 2**20 or None, 'MB')})"
    )
    passed = ms <= most_ms and size <= most_bytes
    keys = list(evidence.recent)[:TIMED_IMAGES]
    return of_number("latency_and_size", ms, most_ms, words, passed=passed, keys=keys)


def _most(allowed: float, always: float, of_champion: float | None) -> float:
    return allowed if of_champion is None else min(allowed, max(always, TIMES_ALLOWED * of_champion))


def _beside(of_champion: float | None, unit: str) -> str:
    return "" if of_champion is None else f", the champion's is {of_champion:.0f} {unit}"


def _timed(evidence: Evidence, images: list[Image]) -> tuple[float, float | None]:
    """Milliseconds an image, of the candidate and of the champion. Each image is turned, each time otherwise, so that no remembered
    features help.
    """
    ours, theirs = [], []
    for image in images:
        ours.append(_ms(evidence.candidate, image[::-1]))
        if evidence.champion is not None:
            theirs.append(_ms(evidence.champion, image[:, ::-1]))
    return float(np.median(ours)), float(np.median(theirs)) if theirs else None


def _ms(model: Model, image: Image) -> float:
    start = time.perf_counter()
    model.score([image.copy()])
    return 1000 * (time.perf_counter() - start)


def _bytes(files: Iterable[bytes]) -> int:
    return sum(map(len, files))
