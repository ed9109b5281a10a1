"""Extractors loaded once: models with equal feature specifications share one backbone in memory."""

import contextlib
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from detectors.errors import ArtifactError
from detectors.features import FeatureExtractor, load_extractor
from detectors.images import Image
from detectors.manifest import FeatureSpec, Preprocessing
from detectors.model import Extractor
from detectors.quantised import faithful

_NO_FILES: Mapping[str, Path] = MappingProxyType({})


class ExtractorCache:
    """Loads each extractor once and gives the same object for equal digests; may be called from several threads.

    `weights` names the weights file of a backbone; a backbone without one uses its own default; `device` is what torch
    runs on. `folder` is where
    8-bit networks are kept, one for each backbone and preprocessing; without it they are made anew in each process.
    Called with a specification (and the 8-bit network an artefact brings) it is the `extractors` of
    `artifact.unpack`, which checks that the weights are the ones asked for.

    >>> cache = ExtractorCache()
    >>> extractor = cache.load("efficientnet_lite0", image_size=64)
    >>> cache(extractor.spec) is extractor
    True
    """

    def __init__(
        self, *, weights: Mapping[str, Path] = _NO_FILES, folder: Path | None = None, device: str = "cpu"
    ) -> None:
        self._weights = dict(weights)
        self._device = device
        self._folder = folder
        self._lock = threading.RLock()
        self._loaded: dict[tuple[object, ...], FeatureExtractor] = {}
        self._by_digest: dict[str, FeatureExtractor] = {}

    def load(
        self,
        backbone: str,
        *,
        image_size: int,
        layers: tuple[str, ...] | None = None,
        runtime: str = "torch",
        prepare: Preprocessing | None = None,
    ) -> Extractor:
        """The extractor of a backbone; `layers` None for its usual ones, `image_size` in pixels. Raises as
        `load_extractor`.

        For `openvino-int8` it is the one in full precision: `fitting` decides about 8 bits.
        """
        return self._load(backbone, image_size, layers, runtime, prepare)

    def fitting(
        self,
        backbone: str,
        images: Sequence[Image],
        *,
        image_size: int,
        layers: tuple[str, ...] | None = None,
        runtime: str = "torch",
        prepare: Preprocessing | None = None,
    ) -> tuple[Extractor, tuple[str, ...]]:
        """The extractor to fit with on these images, and notes for the manifest: whether 8 bits were good enough."""
        full = self._load(backbone, image_size, layers, runtime, prepare)
        if runtime != "openvino-int8":
            return full, ()
        chosen, note = faithful(full, images, self._kept(full.spec))
        if isinstance(chosen, FeatureExtractor) and chosen.quantised is not None:
            self._keep(full.spec, chosen)
        return chosen, (note,)

    def __call__(self, spec: FeatureSpec, quantised: bytes | None = None) -> Extractor:
        """The extractor of a specification; of other weights where this installation has others (see its `spec`)."""
        with self._lock:
            if spec.digest not in self._by_digest:
                loaded = load_extractor(
                    spec.backbone,
                    weights=self._weights.get(spec.backbone),
                    image_size=spec.image_size,
                    layers=spec.layers,
                    device=self._device if spec.runtime == "torch" else "cpu",
                    runtime=spec.runtime,
                    prepare=spec.prepare,
                    quantised=quantised,
                )
                return self._by_digest.setdefault(loaded.spec.digest, loaded)
            return self._by_digest[spec.digest]

    def _load(
        self,
        backbone: str,
        image_size: int,
        layers: tuple[str, ...] | None,
        runtime: str,
        prepare: Preprocessing | None,
    ) -> FeatureExtractor:
        """In full precision, whatever the runtime."""
        runtime, prepare = "torch" if runtime == "torch" else "openvino", prepare or Preprocessing()
        key = (backbone, image_size, layers, runtime, msgspec.json.encode(prepare))
        with self._lock:
            if key not in self._loaded:
                loaded = load_extractor(
                    backbone,
                    weights=self._weights.get(backbone),
                    image_size=image_size,
                    layers=layers,
                    device=self._device,
                    runtime=runtime,
                    prepare=prepare,
                )
                self._loaded[key] = self._by_digest.setdefault(loaded.spec.digest, loaded)
            return self._loaded[key]

    def _kept(self, full: FeatureSpec) -> FeatureExtractor | None:
        """The 8-bit extractor made before for this backbone and preprocessing; none where its file is broken."""
        with self._lock, contextlib.suppress(OSError, ArtifactError):
            for made in self._by_digest.values():
                if (
                    made.quantised
                    and msgspec.structs.replace(made.spec, runtime="openvino", network_sha256=None) == full
                ):
                    return made
            if self._folder is not None:
                made = load_extractor(
                    full.backbone,
                    weights=self._weights.get(full.backbone),
                    image_size=full.image_size,
                    layers=full.layers,
                    runtime="openvino-int8",
                    prepare=full.prepare,
                    quantised=self._file(full).read_bytes(),
                )
                return self._by_digest.setdefault(made.spec.digest, made)
        return None

    def _keep(self, full: FeatureSpec, made: FeatureExtractor) -> None:
        with self._lock:
            self._by_digest.setdefault(made.spec.digest, made)
            if self._folder is None or self._file(full).exists() or made.quantised is None:
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(made.quantised)
            Path(file.name).replace(self._file(full))

    def _file(self, full: FeatureSpec) -> Path:
        return (self._folder or Path()) / f"{full.digest}.int8"
