"""OpenVINO and 8 bits: the features of torch, made once, used only where they rank alike, proved when loaded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detectors.artifact import Provenance, pack, unpack
from detectors.compiled import CompiledNetwork
from detectors.errors import ArtifactError, InvalidInput
from detectors.extractors import ExtractorCache
from detectors.features import FeatureExtractor, load_extractor
from detectors.fitting import fit_model
from detectors.images import Image
from detectors.model import Extractor, detector_from
from detectors.quantised import AGREEMENT, agreement, calibration_split, faithful

SIDE = 64
PROVENANCE = Provenance(
    line="x", mode="trusted", cause="manual", parent=None, request_id=None, created_at=0.0, code_version="test", metrics={}
)  # fmt: skip


def texture(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, 12, (SIDE, SIDE, 3))
    waves = 40 * np.sin(np.arange(SIDE) / 5 + rng.uniform(0, 6))[None, :, None]
    return np.clip(128 + waves + grain, 0, 255).astype(np.uint8)


IMAGES = [texture(seed) for seed in range(16)]


@pytest.fixture(scope="module")
def openvino() -> FeatureExtractor:
    return load_extractor(image_size=SIDE, runtime="openvino")


@pytest.fixture(scope="module")
def eighth(openvino: FeatureExtractor) -> FeatureExtractor:
    return openvino.quantised_on(IMAGES[::2])


def test_openvino_has_the_features_of_torch(openvino: FeatureExtractor) -> None:
    torch = load_extractor(image_size=SIDE)
    np.testing.assert_allclose(openvino.extract(IMAGES), torch.extract(IMAGES), rtol=1e-3, atol=1e-4)
    assert openvino.spec.digest != torch.spec.digest
    assert openvino.grid == torch.grid
    assert openvino.dimensions == torch.dimensions


def test_a_batch_is_its_images_one_by_one(openvino: FeatureExtractor, eighth: FeatureExtractor) -> None:
    for extractor in (openvino, eighth):
        alone = np.concatenate([extractor.extract([image]) for image in IMAGES])
        np.testing.assert_array_equal(extractor.extract(IMAGES), alone)


def test_eight_bits_rank_nearly_alike(openvino: FeatureExtractor, eighth: FeatureExtractor) -> None:
    assert agreement(openvino, openvino, IMAGES[1::2]) == pytest.approx(1)
    assert AGREEMENT < agreement(openvino, eighth, IMAGES[1::2]) < 1
    assert eighth.spec.runtime == "openvino-int8"
    assert eighth.spec.network_sha256 != openvino.spec.network_sha256


def test_eight_bits_that_rank_otherwise_are_not_used(openvino: FeatureExtractor) -> None:
    """Ranges taken from black images cut real ones off."""
    useless = openvino.quantised_on([np.zeros((SIDE, SIDE, 3), np.uint8)] * 4)
    chosen, note = faithful(openvino, IMAGES, useless)
    assert chosen is openvino
    assert note.startswith("8 bits are not used: rank correlation 0.")


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InvalidInput, match="3 images to make 8 bits from"):
        calibration_split(IMAGES[:3])


def test_eight_bits_are_made_once_and_kept(tmp_path: Path) -> None:
    def fitting() -> tuple[Extractor, tuple[str, ...]]:
        cache = ExtractorCache(folder=tmp_path)
        return cache.fitting("efficientnet_lite0", IMAGES, image_size=SIDE, runtime="openvino-int8")

    first, notes = fitting()
    (file,) = tmp_path.iterdir()
    again, _ = fitting()
    assert "8 bits are used" in notes[0]
    assert again.spec == first.spec
    assert again.quantised == file.read_bytes()


def test_a_broken_file_of_eight_bits_is_made_anew(tmp_path: Path) -> None:
    full = load_extractor(image_size=SIDE, runtime="openvino")
    (tmp_path / f"{full.spec.digest}.int8").write_bytes(b"cut short")
    chosen, _ = ExtractorCache(folder=tmp_path).fitting(
        "efficientnet_lite0", IMAGES, image_size=SIDE, runtime="openvino-int8"
    )
    assert chosen.quantised is not None


def test_an_artefact_brings_its_eight_bits_along(eighth: FeatureExtractor) -> None:
    model = fit_model(
        IMAGES,
        [str(number) for number in range(len(IMAGES))],
        extractor=eighth,
        detector=detector_from("patchcore", bank=100, seed=0),
        false_alarm_rate=0.01,
        notes=("8 bits are used: because",),
    )
    files = pack(model, PROVENANCE, golden_image=texture(99))
    restored, manifest = unpack(files, extractors=ExtractorCache())
    assert manifest.golden.tolerance > 1e-3
    assert manifest.notes == ("8 bits are used: because",)
    assert restored.score([texture(50)])[0].peak == pytest.approx(model.score([texture(50)])[0].peak, rel=1e-6)
    with pytest.raises(ArtifactError, match=r"network.int8 is missing"):
        unpack({name: data for name, data in files.items() if name != "network.int8"}, extractors=ExtractorCache())


def test_threads_may_share_a_compiled_network(openvino: FeatureExtractor) -> None:
    from concurrent.futures import ThreadPoolExecutor

    expected = openvino.extract(IMAGES)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: openvino.extract([image])[0], IMAGES * 3))
    np.testing.assert_array_equal(np.stack(found), np.concatenate([expected] * 3))


def test_nothing_is_reported_to_anybody() -> None:
    """In a process of its own: NNCF is silent under pytest whatever we do."""
    script = (
        "import sys; from detectors.features import load_extractor; load_extractor(image_size=64, runtime='openvino');"
        "import nncf; print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ArtifactError, match="publish the version again"):
        CompiledNetwork.from_bytes(b"nothing", threads=1)


def test_impossible_runtimes_are_refused(openvino: FeatureExtractor, eighth: FeatureExtractor) -> None:
    for given, words in (
        ({"runtime": "onnx"}, "runtime 'onnx'"),
        ({"runtime": "openvino-int8"}, "needs its 8-bit network"),
        ({"runtime": "torch", "quantised": b"x"}, "no other runtime has one"),
    ):
        with pytest.raises(InvalidInput, match=words):
            load_extractor(image_size=SIDE, **given)
    for extractor in (eighth, load_extractor(image_size=SIDE)):
        with pytest.raises(InvalidInput, match="use openvino"):
            extractor.quantised_on(IMAGES)
