"""Extractors loaded once: models with equal feature specifications share one backbone in memory."""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from detectors.features import load_extractor
from detectors.manifest import FeatureSpec
from detectors.model import Extractor

_NO_FILES: Mapping[str, Path] = MappingProxyType({})


class ExtractorCache:
    """Loads each extractor once and gives the same object for equal digests; may be called from several threads.

    `weights` names the weights file of a backbone; a backbone without one uses its own default. Called with a
    specification it is the `extractors` of `artifact.unpack`, which checks that the weights are the ones asked for.

    >>> cache = ExtractorCache()
    >>> extractor = cache.load("efficientnet_lite0", image_size=64)
    >>> cache(extractor.spec) is extractor
    True
    """

    def __init__(self, *, weights: Mapping[str, Path] = _NO_FILES) -> None:
        self._weights = dict(weights)
        self._lock = threading.Lock()
        self._defaults: dict[tuple[str, int], Extractor] = {}
        self._by_digest: dict[str, Extractor] = {}

    def load(self, backbone: str, *, image_size: int) -> Extractor:
        """The extractor of a backbone with its usual layers; `image_size` in pixels. Raises as `load_extractor`."""
        with self._lock:
            if (backbone, image_size) not in self._defaults:
                loaded = load_extractor(backbone, weights=self._weights.get(backbone), image_size=image_size)
                self._defaults[backbone, image_size] = self._by_digest.setdefault(loaded.spec.digest, loaded)
            return self._defaults[backbone, image_size]

    def __call__(self, spec: FeatureSpec) -> Extractor:
        """The extractor of a specification; of other weights where this installation has others (see its `spec`)."""
        with self._lock:
            if spec.digest not in self._by_digest:
                loaded = load_extractor(
                    spec.backbone,
                    weights=self._weights.get(spec.backbone),
                    image_size=spec.image_size,
                    layers=spec.layers,
                )
                return self._by_digest.setdefault(loaded.spec.digest, loaded)
            return self._by_digest[spec.digest]
