"""A line of rendered parts with real rooms, whose retrains are carried out step by step in this process."""

from dataclasses import dataclass, field
from pathlib import Path

from detectors.artifact import unpack
from detectors.extractors import ExtractorCache
from detectors.images import Image, encode_png
from detectors.model import ImageScore, Model
from detectors.registry import Registry
from detectors.store import FolderStore
from orchestration.retrain import Retrain, Rooms
from orchestration.workbench import Workbench
from streams.ledger import Ledger
from streams.messages import RetrainRequest, Review, Verdict
from streams.rendered import RenderedLine
from streams.scoring import signals_of
from streams.settings import LineConfig

LINE = "flanges"
CONFIG = LineConfig(image_size=128, bank=1000)


@dataclass
class RetrainedLine:
    """The line and its installation under a folder."""

    folder: Path
    config: LineConfig = CONFIG
    parts: RenderedLine = field(default_factory=lambda: RenderedLine(seed=5))
    requests: int = 0

    def __post_init__(self) -> None:
        self.store = FolderStore(self.folder / "objects")
        self.ledger = Ledger.open(f"sqlite:///{self.folder}/ledger.sqlite")
        self.registry = Registry(self.store)
        self.extractors = ExtractorCache()
        bench = Workbench(self.store, self.extractors)
        self.rooms = Rooms(self.ledger, self.registry, bench, code_version="1")

    def send(self, image_id: str, image: Image) -> str:
        """Put an image into the store; its key."""
        key = f"images/{image_id}.png"
        self.store.put(key, encode_png(image))
        return key

    def send_good(self, numbers: range, *, light: float = 1.0) -> tuple[str, ...]:
        """Good parts of the line; their keys."""
        return tuple(self.send(f"{number}-{light}", self.parts.image(number, light=light)) for number in numbers)

    def ask(self, cause: str, mode: str, keys: tuple[str, ...]) -> Retrain:
        """File a request, and the retrain that carries it out."""
        self.requests += 1
        request = RetrainRequest(
            line=LINE, request_id=f"r{self.requests}", cause=cause, mode=mode, image_keys=keys,
            parent_version=self.registry.pointers(LINE).champion, alarm_at=None, requested_at=float(self.requests),
        )  # fmt: skip
        self.ledger.record([request])
        self.ledger.begin_request(request.request_id, run_id="run", attempt=1, at=0.0)
        row = self.ledger.request(request.request_id)
        assert row is not None
        return Retrain(self.rooms, row, 1, self.config)

    def retrain(self, cause: str, mode: str, keys: tuple[str, ...]) -> Model:
        """Carry out a request up to its promotion, without gates; the new model."""
        retrain = self.ask(cause, mode, keys)
        retrain.choose()
        model = retrain.fit()
        retrain.publish()
        return model

    def champion(self) -> Model:
        """The model in service, as a scorer would load it."""
        version = self.registry.pointers(LINE).champion
        assert version is not None
        return unpack(self.registry.files(LINE, version), extractors=self.extractors)[0]

    def judge(self, image_id: str, image: Image, *, at: float) -> Verdict:
        """The champion's verdict on an image that is in the store, written down."""
        version = self.registry.pointers(LINE).champion or 0
        (score,) = self.champion().score([image])
        made = verdict_of(image_id, score, self.champion(), version=version, at=at)
        self.ledger.record([made])
        return made

    def say(self, image_id: str, says: str, *, at: float, by: str = "ana") -> None:
        """A person's word on an image."""
        self.ledger.record([Review(line=LINE, image_id=image_id, says=says, note="", by=by, at=at)])


def verdict_of(image_id: str, score: ImageScore, model: Model, *, version: int, at: float) -> Verdict:
    """What a scorer would say of the image `images/<image_id>.png`."""
    return Verdict(
        line=LINE, image_id=image_id, version=version, score=score.peak, threshold=model.threshold.value, threshold_revision=1,
        flagged=score.peak > model.threshold.value, signals=signals_of(score), taken_at=at, judged_at=at, latency_ms=1.0,
        image_key=f"images/{image_id}.png",
    )  # fmt: skip
