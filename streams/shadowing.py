"""A share of the live images is scored by the line's challenger too, after the champion's verdicts have gone.

Shadow work is done between batches, one batch's at most is kept for it, and what comes while the scorer is behind is not chosen: it never
makes a backlog. An image that was chosen and is lost in a crash is lost for the shadow alone.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from detectors.contract import Patches
from detectors.errors import Unavailable
from detectors.images import Image
from detectors.model import ImageScore
from detectors.objects import ObjectStore
from streams.bus import Record
from streams.heatmaps import keep_heatmap
from streams.loaded import Serving
from streams.messages import LineImage, ShadowVerdict, Verdict
from streams.serving import ServingModels

LAGGING_S = 5.0
"""An image that has waited so long on the bus says that the scorer is behind."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """An image that its champion judged, with what is left of that: enough to score it again."""

    image: LineImage
    pixels: Image
    verdict: Verdict
    champion: Serving
    patches_1HWD: Patches  # noqa: N815


def is_chosen(image_id: str, share: float) -> bool:
    """Whether an image is of the share that is shadowed: the same images on every scorer and after every restart.

    >>> is_chosen("part-1", 1.0), is_chosen("part-1", 0.0)
    (True, False)
    >>> sum(is_chosen(f"part-{number}", 0.25) for number in range(1000))
    256
    """
    digest = hashlib.sha256(image_id.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def is_behind(records: Sequence[Record], *, full: int, now: float) -> bool:
    """Whether a batch shows that more is waiting: it is as large as may be, or one of it has waited."""
    return len(records) >= full or any(now - record.appended_at > LAGGING_S for record in records)


class Shadows:
    """The images that wait for their line's challenger: those of one batch."""

    def __init__(self, store: ObjectStore, models: ServingModels, *, now: Callable[[], float]) -> None:
        self._store = store
        self._models = models
        self._now = now
        self._waiting: tuple[Seen, ...] = ()
        self._apart = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shadow")

    def wait(self, seen: Iterable[Seen]) -> None:
        """These wait now; those that waited before are given up."""
        self._waiting = tuple(seen)

    def score(self) -> tuple[ShadowVerdict, ...]:
        """What the challengers say of the images that waited. A challenger that cannot score is refused."""
        waiting, self._waiting = self._waiting, ()
        return tuple(verdict for seen in waiting if (verdict := self._scored(seen)) is not None)

    def close(self) -> None:
        """Stop scoring."""
        self._apart.shutdown(wait=True, cancel_futures=True)

    def _scored(self, seen: Seen) -> ShadowVerdict | None:
        line, challenger = seen.image.line, self._models.challenger_of(seen.image.line)
        if challenger is None or challenger.version == seen.verdict.version:
            return None
        working = self._apart.submit(
            self._verdict, seen, challenger
        )  # in a thread, so that no error of it reaches the champion
        fault = working.exception()
        if isinstance(fault, Unavailable):
            log.info("line %s: image %s is not shadowed: %s", line, seen.image.image_id, fault)
            return None
        if isinstance(fault, Exception):
            self._models.refuse_challenger(line, challenger.version, fault)
            return None
        return working.result()

    def _verdict(self, seen: Seen, challenger: Serving) -> ShadowVerdict:
        score = _score(seen, challenger)
        flagged = score.peak > challenger.operating_point.threshold
        disagrees = flagged != seen.verdict.flagged
        return ShadowVerdict(
            line=seen.image.line,
            image_id=seen.image.image_id,
            version=challenger.version,
            score=score.peak,
            threshold=challenger.operating_point.threshold,
            flagged=flagged,
            champion=seen.verdict.version,
            champion_score=seen.verdict.score,
            champion_flagged=seen.verdict.flagged,
            image_key=seen.image.key,
            judged_at=self._now(),
            heatmap_key=keep_heatmap(self._store, seen.image, challenger, seen.pixels, score) if disagrees else None,
        )


def _score(seen: Seen, challenger: Serving) -> ImageScore:
    """One pass through the backbone serves two models with equal specifications."""
    equal = challenger.model.extractor.spec == seen.champion.model.extractor.spec
    patches_1HWD = seen.patches_1HWD if equal else challenger.model.patches(seen.pixels)
    return challenger.model.score_patches(seen.pixels, patches_1HWD)
