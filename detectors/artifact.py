"""A fitted model as files, and back: `model.safetensors`, `golden.png`, `manifest.json`, and `network.int8` where the
backbone runs in 8 bits. No pickle anywhere.

`unpack` proves what it loads: every digest, the feature specification, and a golden image that must score what it
scored when the model was packed. A model that cannot be proved is refused with ArtifactError.
"""

import hashlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from detectors.contract import Detector, DetectorState
from detectors.errors import ArtifactError, InvalidInput, NotFound
from detectors.images import Image, decode, encode_png
from detectors.manifest import NO_CALIBRATION, DriftCalibration, FeatureSpec, Golden, Manifest, read_manifest
from detectors.model import DETECTORS, Extractor, Model

TENSORS = "model.safetensors"
GOLDEN = "golden.png"
MANIFEST = "manifest.json"
NETWORK = "network.int8"
TOLERANCES: Mapping[str, float] = MappingProxyType({"torch": 1e-3, "openvino": 1e-3, "openvino-int8": 2e-2})
"""Relative, by runtime: what other kernels on another machine may change. A rounding that tips over is a whole step in
8 bits."""

Extractors = Callable[[FeatureSpec, bytes | None], Extractor]
"""The extractor of a specification, with its 8-bit network where it has one."""


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from: what its manifest says and the fit does not know. `created_at`: epoch seconds; `snapshot`: key of the
    frozen training set.
    """

    line: str
    mode: str
    cause: str
    parent: int | None
    request_id: str | None
    created_at: float
    code_version: str
    metrics: Mapping[str, float]
    snapshot: str | None = None


def pack(
    model: Model, provenance: Provenance, *, golden_image: Image, calibration: DriftCalibration | None = None
) -> dict[str, bytes]:
    """The files of an artefact, by name.

    `golden_image` (`image_HWC`, uint8) is kept with the score it has now; `calibration`: of the model's drift reference. The
    same model, provenance and calibration give the same bytes.
    """
    state = model.detector.state()
    tensors = {name: np.ascontiguousarray(array) for name, array in state.tensors.items()}
    files = {TENSORS: safetensors.numpy.save(tensors), GOLDEN: encode_png(golden_image)}
    if model.extractor.quantised is not None:
        files[NETWORK] = model.extractor.quantised
    (score,) = model.score([golden_image])
    manifest = Manifest(
        line=provenance.line,
        detector=model.detector.name,
        mode=provenance.mode,
        cause=provenance.cause,
        parameters=dict(state.parameters),
        features=model.extractor.spec,
        threshold=model.threshold,
        reference=model.reference,
        golden=Golden(
            file=GOLDEN, peak=score.peak, bulk=score.bulk, tolerance=TOLERANCES[model.extractor.spec.runtime]
        ),
        training_keys=tuple(model.training_keys),
        left_out=dict(model.left_out),
        parent=provenance.parent,
        request_id=provenance.request_id,
        created_at=provenance.created_at,
        code_version=provenance.code_version,
        metrics=dict(provenance.metrics),
        notes=model.notes,
        pixel_threshold=model.pixel_threshold,
        intruders=dict(model.intruders),
        sigma=model.sigma,
        calibration=NO_CALIBRATION if calibration is None else msgspec.Raw(msgspec.json.encode(calibration)),
        snapshot=provenance.snapshot,
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )
    return files | {MANIFEST: msgspec.json.encode(manifest)}


def unpack(files: Mapping[str, bytes], *, extractors: Extractors) -> tuple[Model, Manifest]:
    """The model in an artefact's files, proved, with its manifest; `extractors` gives the extractor of a specification.

    Raises ArtifactError for files that are missing or changed, for weights that are not those of the fit, and where the
    golden image scores differently here.
    """
    manifest = _proved_manifest(files)
    model = Model(
        extractor=_extractor(manifest.features, files.get(NETWORK), extractors),
        detector=_detector(manifest, files[TENSORS]),
        threshold=manifest.threshold,
        reference=manifest.reference,
        training_keys=manifest.training_keys,
        left_out=manifest.left_out,
        notes=manifest.notes,
        pixel_threshold=manifest.pixel_threshold,
        intruders=manifest.intruders,
        sigma=manifest.sigma,
    )
    _prove_golden(model, manifest, files)
    return model, manifest


def _proved_manifest(files: Mapping[str, bytes]) -> Manifest:
    if MANIFEST not in files:
        raise ArtifactError(f"no {MANIFEST} among {sorted(files)}; name a folder that holds a whole artefact")
    manifest = read_manifest(files[MANIFEST])
    for name in sorted({TENSORS, manifest.golden.file, *manifest.files}):
        if name not in manifest.files:
            raise ArtifactError(f"the manifest states no digest of {name}; publish the version again")
        if name not in files:
            raise ArtifactError(f"{name} is missing from the artefact; publish the version again")
        digest = hashlib.sha256(files[name]).hexdigest()
        if digest != manifest.files[name]:
            raise ArtifactError(
                f"{name} has SHA-256 {digest[:12]}..., the manifest says {manifest.files[name][:12]}...: "
                f"it was changed after the fit; publish the version again"
            )
    return manifest


def _extractor(spec: FeatureSpec, network: bytes | None, extractors: Extractors) -> Extractor:
    try:
        extractor = extractors(spec, network)
    except (InvalidInput, NotFound) as error:
        raise ArtifactError(f"the backbone {spec.backbone} of this model cannot be loaded: {error}") from error
    if extractor.spec != spec:
        changed = [name for name in spec.__struct_fields__ if getattr(extractor.spec, name) != getattr(spec, name)]
        raise ArtifactError(
            f"the model was fitted on features with {_stated(spec, changed)}, here they have "
            f"{_stated(extractor.spec, changed)}; give the weights of the fit (`weights` of the line), or fit again"
        )
    return extractor


def _stated(spec: FeatureSpec, names: list[str]) -> str:
    return ", ".join(f"{name} {str(getattr(spec, name))[:60]}" for name in names)


def _detector(manifest: Manifest, data: bytes) -> Detector:
    if manifest.detector not in DETECTORS:
        raise ArtifactError(
            f"detector {manifest.detector!r} is not one of {', '.join(DETECTORS)}; install a newer driftline"
        )
    state = DetectorState(parameters=manifest.parameters, tensors=_tensors(data))
    return DETECTORS[manifest.detector].from_state(state)


def _tensors(data: bytes) -> dict[str, NDArray[np.generic]]:
    try:
        return dict(safetensors.numpy.load(data))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{TENSORS} ({len(data)} bytes) cannot be read: {error}; publish the version again"
        ) from error


def _prove_golden(model: Model, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """A golden image that is in the bank itself scores near 0: then the line's usual score is the measure."""
    golden = manifest.golden
    try:
        image = decode(files[golden.file])
    except InvalidInput as error:
        raise ArtifactError(f"{golden.file} cannot be decoded: {error}; publish the version again") from error
    (score,) = model.score([image])
    for signal, found, expected, usual in (
        ("peak", score.peak, golden.peak, manifest.reference.peak),
        ("bulk", score.bulk, golden.bulk, manifest.reference.bulk),
    ):
        limit = golden.tolerance * max(abs(expected), statistics.median(usual) if usual else 0.0)
        if not abs(found - expected) <= limit:
            raise ArtifactError(
                f"{golden.file} has {signal} {found:.6g} here and {expected:.6g} when it was packed, the limit is "
                f"+-{limit:.2g}: preprocessing or backbone have changed; "
                f"install the code {manifest.code_version}, or fit again"
            )
