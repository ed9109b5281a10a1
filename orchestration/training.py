"""From a training set to a candidate: the plain functions under the Dagster assets.

A candidate is the files of an artefact, not yet a version of the line.
"""

from collections.abc import Mapping

import msgspec

from detectors.artifact import Extractors, Provenance, unpack
from detectors.encoding import encode_name
from detectors.model import Extractor, Model
from detectors.objects import ObjectStore
from orchestration.choosing import best_of, detectors_for
from orchestration.fitting import fit_line, pack_version
from orchestration.training_set import TrainingSet
from orchestration.workbench import RememberingExtractor, Workbench
from streams.messages import RetrainRequest
from streams.settings import LineConfig


def fit_candidate(training_set: TrainingSet, bench: Workbench, extractor: Extractor, config: LineConfig) -> Model:
    """The model fitted on the training set as the line's configuration and the mode say; `extractor` is used where it is the one."""

    def through(fitting: Extractor) -> Extractor:
        return extractor if fitting.spec == extractor.spec else RememberingExtractor(fitting)

    def fit(detector: str) -> Model:
        return fit_line(
            bench.images(training_set.fit),
            training_set.fit,
            msgspec.structs.replace(config, detector=detector),
            bench.extractors,
            through=through,
            vouched=frozenset(training_set.vouched),
        )

    detectors = detectors_for(config, training_set.mode)
    keys = training_set.held_out
    return best_of(detectors, fit, lambda: dict(zip(keys, bench.images(keys), strict=True)))


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
