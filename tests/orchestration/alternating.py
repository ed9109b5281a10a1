"""A whole line in one process and in virtual time: scorer, watcher, ledger and retrains are the real ones, nothing waits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detectors.extractors import ExtractorCache
from detectors.images import Image, encode_png
from detectors.registry import Registry
from detectors.store import FolderStore
from orchestration.retrain import Retrain, Rooms
from orchestration.returning import Looked, look_back
from orchestration.workbench import Workbench
from streams.bus import Record
from streams.ledger import Ledger
from streams.messages import Message, ModelPromoted, RetrainRequest, Verdict, encode
from streams.scoring import ScoreHandler
from streams.serving import ServingModels
from streams.settings import LineConfig
from streams.watching import WatchHandler, recorded_in
from tests.streams.scoring_line import texture

LINE = "tiles"
CONFIG = LineConfig(image_size=64, bank=300, detector="patchcore", retrain_images=30, cooldown_s=10.0)
DAY, NIGHT = 1.0, 0.85
FIRST = 60
EXTRACTORS = ExtractorCache()


def part(number: int, light: float) -> Image:
    """A part of the line in some light, a new one for each number."""
    lit: Image = np.clip(texture(number) * light, 0, 255).astype(np.uint8)
    return lit


@dataclass
class Clock:
    """Seconds that pass when somebody says so; every look moves it a little, so that nothing happens twice at once."""

    at: float = 1e9

    def now(self) -> float:
        self.at += 1e-3
        return self.at


@dataclass
class Alternating:
    """The line in a folder laid out as `DRIFTLINE_HOME`; `said`: what the watcher said, `looked`: what came of looking
    for an older version, oldest first."""

    home: Path
    config: LineConfig = CONFIG
    clock: Clock = field(default_factory=Clock)
    said: list[Message] = field(default_factory=list)
    looked: list[Looked] = field(default_factory=list)
    sent: int = 0
    _unwritten: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = FolderStore(self.home / "objects")
        self.registry = Registry(self.store)
        self.ledger = Ledger.open(f"sqlite:///{self.home / 'ledger.sqlite'}")
        self.rooms = Rooms(self.ledger, self.registry, Workbench(self.store, EXTRACTORS), "test", now=self.clock.now)
        self.models = ServingModels(self.registry, EXTRACTORS, now=self.clock.now)
        self._scorer = ScoreHandler(self.store, self.models, now=self.clock.now)
        self.watcher = WatchHandler(
            lambda line, version: self.registry.manifest(line, version).reference,
            lambda _: self.config,
            self.clock.now,
            history=self.ledger,
            recorded=recorded_in(self.ledger),
            calibrations=lambda line, version: self.registry.manifest(line, version).calibration,
        )

    def born(self, light: float) -> None:
        """The first version, from images of one light."""
        request = self.request(self.keep(FIRST, light), cause="cold_start")
        self.train(request)
        self.heard()

    def keep(self, images: int, light: float) -> tuple[str, ...]:
        """Put images into the store; their keys."""
        return tuple(self._put(part(self._next(), light)) for _ in range(images))

    def request(self, keys: Sequence[str], *, cause: str = "covariate_drift", name: str = "") -> RetrainRequest:
        """A request of the champion that serves now, in the ledger."""
        champion = self.registry.pointers(LINE).champion
        request = RetrainRequest(
            line=LINE, request_id=name or f"request-{len(self.ledger.requests())}", cause=cause, mode="blind",
            image_keys=tuple(keys), parent_version=champion, alarm_at=None, requested_at=self.clock.now(),
        )  # fmt: skip
        self.ledger.record([request])
        return request

    def retrain(self, request: RetrainRequest, *, config: LineConfig | None = None) -> Retrain:
        """The retrain of a request, which a run has taken up."""
        self.ledger.begin_request(request.request_id, run_id="run", attempt=1, at=self.clock.now())
        row = self.ledger.request(request.request_id)
        assert row is not None
        return Retrain(self.rooms, row, 1, config or self.config)

    def train(self, request: RetrainRequest) -> None:
        """Carry a request out up to a version in service; the gates have tests of their own."""
        retrain = self.retrain(request)
        retrain.choose()
        retrain.fit()
        retrain.publish()

    def pass_by(self, images: int, light: float) -> None:
        """Images of one light come down the line; what follows from each happens before the next."""
        for _ in range(images):
            self._image(part(self._next(), light))
        self.write_down()

    def heard(self) -> None:
        """The watcher and the ledger hear of promotions; the scorer has taken the champion up."""
        self.write_down()
        waiting = self.ledger.outbox(100)
        self.ledger.mark_sent([number for number, _ in waiting])
        promotions = [encode(message) for _, message in waiting if isinstance(message, ModelPromoted)]
        self._tell(promotions, ModelPromoted.topic)
        champion = self.registry.pointers(LINE).champion
        while (serving := self.models.of(LINE)) is None or serving.version != champion:
            time.sleep(0.01)
            self.clock.at += 1.0

    @property
    def outcomes(self) -> list[tuple[str, int | None]]:
        """How the requests ended, and with which version, oldest first."""
        return [(row.state, row.version) for row in self.ledger.requests(LINE)]

    def _image(self, image: Image) -> None:
        self.clock.at += 1.0
        headers = (("ce_type", b"driftline.Image"), ("ce_id", b"part-%d" % self.sent))
        record = Record("images", 0, self.sent, LINE.encode(), headers, encode_png(image), self.clock.now())
        for message in self._scorer.handle([record]).messages:
            self._unwritten.append(message)
            if isinstance(message, Verdict):
                self._tell([encode(message)], Verdict.topic)

    def _tell(self, values: Sequence[bytes], topic: str) -> None:
        """Tell the watcher, and carry out what it asks for."""
        news = self.watcher.handle([_record(topic, value) for value in values]).messages
        self.said += news
        self._unwritten += news
        for request in (each for each in news if isinstance(each, RetrainRequest)):
            self.write_down()
            self.looked.append(look_back(self.retrain(request)))
            if self.looked[-1].outcome is None:
                self.train(request)
            self.heard()

    def write_down(self) -> None:
        """The recorder catches up."""
        self.ledger.record(self._unwritten)
        self._unwritten.clear()

    def _put(self, image: Image) -> str:
        key = f"images/{self.sent}.png"
        self.store.put(key, encode_png(image))
        return key

    def _next(self) -> int:
        self.sent += 1
        return self.sent


def _record(topic: str, value: bytes) -> Record:
    return Record(topic, 0, 0, LINE.encode(), (), value, 0.0)
