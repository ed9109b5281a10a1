"""A line of textured parts for tests of the gates: what is judged, reviewed and learnt goes through a real ledger and a folder store."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from detectors.artifact import Provenance
from detectors.extractors import ExtractorCache
from detectors.images import Image, encode_png
from detectors.objects import ObjectStore
from detectors.store import FolderStore
from detectors.synthetic import draw_defect
from orchestration.evidence import Evidence
from orchestration.fitting import fit_line, pack_version
from orchestration.gathering import Contenders, Sources, gather
from orchestration.second_look import Clock
from orchestration.training import load
from orchestration.training_set import TrainingSet
from streams.ledger import Ledger
from streams.messages import DriftIncident, RetrainRequest, Review, Signals, Verdict
from streams.settings import LineConfig
from tests.streams.scoring_line import texture

LINE = "press-4/door"
CONFIG = LineConfig(image_size=64, bank=400, detector="patchcore")
HELD_OUT = range(900, 910)
CHANGED_AT = 1000.0


def part(number: int, *, light: float = 1.0, defect: str | None = None) -> Image:
    """Part `number` in a light; `defect`: plainly visible, of a kind that `detectors.synthetic` draws."""
    image: Image = np.clip(light * texture(number), 0, 255).astype(np.uint8)
    if defect is None:
        return image
    return draw_defect(image, kind=defect, strength=1.0, rng=np.random.default_rng(number))[0]


def verdict_of(image_key: str, *, at: float, version: int = 1, flagged: bool = False) -> Verdict:
    """A verdict on the image under a key, whose image id is the key."""
    signals = Signals(peak=1.0, bulk=1.0, mean=1.0, contrast=1.0, sharpness=1.0)
    return Verdict(
        line=LINE, image_id=image_key, version=version, score=1.0, threshold=2.0, threshold_revision=1, flagged=flagged,
        signals=signals, taken_at=at, judged_at=at, latency_ms=1.0, image_key=image_key,
    )  # fmt: skip


def incident(kind: str, *, since: str, at: float, state: str = "opened", sequence: int = 0) -> DriftIncident:
    """An incident whose change is at image `since`."""
    return DriftIncident(
        line=LINE, incident_id=kind, kind=kind, state=state, version=1, signal="bulk", test="page_hinkley", reference=1.0,
        observed=2.0, effect=3.0, since_image_id=since, alarm_image_id=since, after_images=9, at=at, sequence=sequence,
    )  # fmt: skip


def request(*, cause: str = "manual", mode: str = "blind", incident_id: str | None = None) -> RetrainRequest:
    """A request of the line, filed after all that happened."""
    return RetrainRequest(
        line=LINE, request_id="r", cause=cause, mode=mode, image_keys=("a",), parent_version=1, alarm_at=CHANGED_AT + 20,
        requested_at=CHANGED_AT + 2000, incident_id=incident_id,
    )  # fmt: skip


@dataclass(frozen=True)
class GateLine:
    """The line's installation in a folder."""

    home: Path
    extractors: ExtractorCache

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger.open(f"sqlite:///{self.home}/ledger.sqlite")

    @cached_property
    def store(self) -> ObjectStore:
        return FolderStore(self.home / "objects")

    def keep(self, image: Image, name: str) -> str:
        """Put an image into the store; its key."""
        key = f"images/test/2026/01/01/{name}.png"
        self.store.put(key, encode_png(image))
        return key

    def reviewed(self, image: Image, name: str, says: str, *, at: float, flagged: bool = False) -> str:
        """An image that was judged at `at` and reviewed after; its key."""
        key = self.keep(image, name)
        review = Review(line=LINE, image_id=key, says=says, note="", by="ana", at=at + 1)
        self.ledger.record([verdict_of(key, at=at, flagged=flagged), review])
        return key

    def held_out(self, *, light: float = 1.0) -> tuple[str, ...]:
        """Keys of images that the candidate is proved by."""
        return tuple(self.keep(part(number, light=light), f"held-out-{number}") for number in HELD_OUT)

    def evidence(
        self,
        contenders: Contenders,
        asked: RetrainRequest,
        *,
        fit: Sequence[str] = (),
        held_out: Sequence[str] | None = None,
    ) -> Evidence:
        """What the gates would judge a candidate of this request by."""
        keys = self.held_out() if held_out is None else tuple(held_out)
        training_set = TrainingSet(line=LINE, request_id="r", fit=tuple(fit), held_out=keys, left_out={})
        return gather(Sources(self.ledger, self.store, Clock()), asked, training_set, contenders)

    def packed(self, images: Sequence[Image], config: LineConfig = CONFIG, *, of: str = "r") -> dict[str, bytes]:
        """A candidate that the configuration makes of the images, packed as a run does; `of`: its request."""
        keys = [f"k{number}" for number in range(len(images))]
        provenance = Provenance(LINE, "blind", "manual", None, of, created_at=1.0, code_version="1", metrics={})
        return pack_version(fit_line(images, keys, config, self.extractors), provenance, config, golden_image=images[0])

    def contenders(self, files: dict[str, bytes], champion: dict[str, bytes] | None) -> Contenders:
        """A candidate beside a champion, both read back from their files."""
        candidate = load(files, self.extractors)
        if champion is None:
            return Contenders(candidate, files)
        return Contenders(candidate, files, load(champion, self.extractors), champion)
