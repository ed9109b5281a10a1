"""A small real line for tests of scoring: an embedded installation, a fitted model as version 1, images to send."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectors.artifact import Provenance, pack
from detectors.extractors import ExtractorCache
from detectors.fitting import fit_model
from detectors.images import Image, encode_png
from detectors.model import detector_from
from detectors.registry import Registry
from detectors.store import FolderStore
from streams.camera import Camera
from streams.local import LocalBus

LINE = "press-4/door"
IMAGE_SIZE = 64


def texture(seed: int) -> Image:
    """A plain textured part, a new one for each seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((96, 96))
    waves = 25 * np.sin(rows / 3 + rng.uniform(0, 6)) + 15 * np.cos(columns / 5 + rng.uniform(0, 6))
    grey = 120 + waves + rng.normal(0, 6, (96, 96))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@dataclass(frozen=True)
class ScoringLine:
    """The parts of an embedded installation in a folder."""

    home: Path
    store: FolderStore
    registry: Registry
    bus: LocalBus

    @classmethod
    def at(cls, home: Path) -> "ScoringLine":
        store = FolderStore(home / "objects")
        return cls(home, store, Registry(store), LocalBus(home / "bus.sqlite"))

    def camera(self) -> Camera:
        return Camera(self.store, self.bus.producer(), line=LINE, source="/test/camera")

    def publish(self, *, seed: int = 0) -> int:
        """Fit a model on textures, publish and promote it."""
        images = [texture(100 * seed + number) for number in range(12)]
        model = fit_model(
            images,
            [f"k{number}" for number in range(len(images))],
            extractor=ExtractorCache().load("efficientnet_lite0", image_size=IMAGE_SIZE),
            detector=detector_from("patchcore", bank=200, seed=seed),
            false_alarm_rate=0.01,
        )
        provenance = Provenance(
            line=LINE, mode="trusted", cause="manual", parent=None, request_id=None, created_at=float(seed),
            code_version="test", metrics={},
        )  # fmt: skip
        version = self.registry.publish(LINE, pack(model, provenance, golden_image=images[0]))
        self.registry.promote(LINE, version)
        return version

    def send(self, count: int, *, first: int = 0) -> list[str]:
        """Send `count` textures; their ids."""
        camera = self.camera()
        ids = [f"part-{number}" for number in range(first, first + count)]
        for number, image_id in enumerate(ids, start=first):
            camera.send(encode_png(texture(5000 + number)), image_id=image_id, suffix="png")
        camera.flush()
        return ids
