"""What training works with: where the pixels are, and extractors that compute the features of an image once."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.contract import Patches
from detectors.errors import ImageError, NotFound
from detectors.extractors import ExtractorCache
from detectors.images import Image, decode
from detectors.manifest import FeatureSpec
from detectors.model import Extractor
from detectors.objects import ObjectStore
from orchestration.fitting import extractor_of
from streams.settings import LineConfig


class RememberingExtractor:
    """An extractor that computes the features of an image once: fit, gates and golden image meet the same images again."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self._patches: dict[bytes, Patches] = {}

    @property
    def spec(self) -> FeatureSpec:
        """The specification of the extractor beneath."""
        return self._extractor.spec

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of its patch grid."""
        return self._extractor.grid

    @property
    def quantised(self) -> bytes | None:
        """The 8-bit network of the extractor beneath."""
        return self._extractor.quantised

    def extract(self, images: Sequence[Image]) -> Patches:
        """Patch features of the images, `patches_BHWD`."""
        return np.concatenate([self._one(image) for image in images])

    def _one(self, image: Image) -> Patches:
        digest = hashlib.sha256(image.tobytes() + repr(image.shape).encode()).digest()
        if digest not in self._patches:
            self._patches[digest] = self._extractor.extract([image])
        return self._patches[digest]


@dataclass(frozen=True)
class Workbench:
    """What training works with: where the pixels are, and the extractors it may load."""

    store: ObjectStore
    extractors: ExtractorCache

    def images(self, keys: Sequence[str]) -> list[Image]:
        """The decoded images under `keys`."""
        return [decode(self.store.get(key)) for key in keys]

    def extractor(self, config: LineConfig) -> RememberingExtractor:
        """The extractor a line's configuration asks for."""
        return RememberingExtractor(extractor_of(config, self.extractors))


def readable(store: ObjectStore, keys: Iterable[str]) -> tuple[dict[str, Image], dict[str, str]]:
    """The decoded images under keys, each once and in order, and of those that cannot be read why."""
    images: dict[str, Image] = {}
    unread: dict[str, str] = {}
    for key in dict.fromkeys(keys):
        try:
            images[key] = decode(store.get(key))
        except (ImageError, NotFound) as error:
            unread[key] = str(error)
    return images, unread
