"""From a request to a candidate: the plain functions under the Dagster assets.

A request names a window of images. They become an immutable *training set* (which images, which are held out for the gates, what was
left out and why), then a *candidate* (files of an artefact, not yet a version of the line).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from detectors.artifact import Extractors, Provenance, unpack
from detectors.contract import Patches
from detectors.duplicates import identical_images, same_parts
from detectors.encoding import encode_name
from detectors.errors import ImageError, InvalidInput, NotFound
from detectors.extractors import ExtractorCache
from detectors.fitting import IDENTICAL
from detectors.images import Image, decode
from detectors.manifest import FeatureSpec
from detectors.model import Extractor, Model
from detectors.objects import ObjectStore
from orchestration.fitting import extractor_of, fit_line, pack_version
from streams.messages import RetrainRequest
from streams.settings import LineConfig

HELD_OUT_SHARE = 0.15
LEAST_HELD_OUT = 5
LEAST_IMAGES = 20

HELD_OUT_PART = "shows a part that is held out"


class TrainingSet(msgspec.Struct, frozen=True, kw_only=True):
    """Which images a model learns from, which prove it, and which were left out and why. Keys are object keys, oldest first."""

    line: str
    request_id: str
    fit: tuple[str, ...]
    held_out: tuple[str, ...]
    left_out: dict[str, str]


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


def choose_images(request: RetrainRequest, bench: Workbench, extractor: Extractor) -> TrainingSet:
    """The training set of a request: what is left out and why, and a share of the parts held out for the gates.

    Images that show one part are all fitted on, or the first is held out and the others are left out: no part is both
    fitted on and judged by, none judges twice. Raises InvalidInput where too few images are left.
    """
    keys, images, left_out = _readable(request.image_keys, bench)
    if keys:
        patches_BHWD = extractor.extract(images)
        again_B = identical_images(patches_BHWD)
        parts_B = same_parts(patches_BHWD[~again_B])
        left_out |= {key: IDENTICAL for key, twice in zip(keys, again_B, strict=True) if twice}
        keys = [key for key, twice in zip(keys, again_B, strict=True) if not twice]
    if len(keys) < LEAST_IMAGES:
        raise InvalidInput(
            f"{len(keys)} different usable images in a window of {len(request.image_keys)}, a model needs {LEAST_IMAGES}; "
            f"wait for more images and ask again"
        )
    first_of: dict[int, str] = {}
    firsts = {key: first_of.setdefault(part, key) for key, part in zip(keys, parts_B.tolist(), strict=True)}
    held_out = _every_nth(list(first_of.values()), max(LEAST_HELD_OUT, round(HELD_OUT_SHARE * len(first_of))))
    left_out |= {key: HELD_OUT_PART for key in keys if key not in held_out and firsts[key] in held_out}
    return TrainingSet(
        line=request.line,
        request_id=request.request_id,
        fit=tuple(key for key in keys if key not in held_out and key not in left_out),
        held_out=tuple(key for key in keys if key in held_out),
        left_out=left_out,
    )


def _readable(window: Sequence[str], bench: Workbench) -> tuple[list[str], list[Image], dict[str, str]]:
    images: dict[str, Image] = {}
    left_out: dict[str, str] = {}
    for key in dict.fromkeys(window):
        try:
            images[key] = decode(bench.store.get(key))
        except (ImageError, NotFound) as error:
            left_out[key] = f"unreadable: {error}"
    return list(images), list(images.values()), left_out


def _every_nth(keys: Sequence[str], count: int) -> frozenset[str]:
    """`count` keys spread evenly over the window.

    >>> sorted(_every_nth("abcdef", 2))
    ['b', 'e']
    """
    step = len(keys) / count
    return frozenset(keys[int((i + 0.5) * step)] for i in range(count))


def fit_candidate(training_set: TrainingSet, bench: Workbench, extractor: Extractor, config: LineConfig) -> Model:
    """The model fitted on the training set as the line's configuration says; `extractor` is used where it is the one."""

    def through(fitting: Extractor) -> Extractor:
        return extractor if fitting.spec == extractor.spec else RememberingExtractor(fitting)

    return fit_line(bench.images(training_set.fit), training_set.fit, config, bench.extractors, through=through)


class Drafts:
    """Training sets and candidates on their way to a version, in the object store, one folder a request and attempt."""

    def __init__(self, store: ObjectStore, request: RetrainRequest, attempt: int) -> None:
        self._store = store
        self._folder = f"drafts/{encode_name(request.line)}/{request.request_id}/{attempt}"

    def keep_training_set(self, training_set: TrainingSet) -> str:
        """Store the training set and return its key."""
        key = f"{self._folder}/training-set.json"
        self._store.put(key, msgspec.json.encode(training_set))
        return key

    def training_set(self) -> TrainingSet:
        """The training set kept before."""
        return msgspec.json.decode(self._store.get(f"{self._folder}/training-set.json"), type=TrainingSet)

    def keep_candidate(self, files: Mapping[str, bytes]) -> None:
        """Store the candidate's files, its manifest last."""
        for name in sorted(files, key="manifest.json".__eq__):
            self._store.put(f"{self._folder}/candidate/{name}", files[name])

    def candidate(self) -> dict[str, bytes]:
        """The files of the candidate kept before."""
        prefix = f"{self._folder}/candidate/"
        return {key.removeprefix(prefix): self._store.get(key) for key in self._store.keys(prefix)}


def pack_candidate(
    model: Model, training_set: TrainingSet, bench: Workbench, provenance: Provenance, config: LineConfig
) -> dict[str, bytes]:
    """The candidate's files; its golden image is the first one held out, so that the proof is no image of the bank."""
    (golden,) = bench.images(training_set.held_out[:1])
    return pack_version(model, provenance, config, golden_image=golden)


def load(files: Mapping[str, bytes], extractors: Extractors) -> Model:
    """The model in an artefact's files, proved."""
    model, _ = unpack(files, extractors=extractors)
    return model
