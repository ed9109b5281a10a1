"""What people give by mistake, to every detector: the right answer, or an error that says what is wrong.

Broken features and states: `test_contract`; files that are no weights, and a GPU that is not there: `test_features`;
masks and crops: `test_preprocessing`; files that are no images: `test_images` and `test_offline`.
"""

import numpy as np
import pytest

from detectors.errors import InvalidInput
from detectors.features import FeatureExtractor, load_extractor
from detectors.fitting import fit_model
from detectors.images import Image
from detectors.model import DETECTORS, Model, detector_from

SIDE = 64


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return load_extractor(image_size=SIDE)


@pytest.fixture(params=sorted(DETECTORS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def part(seed: int, height: int = SIDE, width: int = SIDE) -> Image:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(120, 20, (height, width, 3)), 0, 255).astype(np.uint8)


def fitted(name: str, images: list[Image], extractor: FeatureExtractor, bank: int = 200) -> Model:
    return fit_model(
        images,
        [str(number) for number in range(len(images))],
        extractor=extractor,
        detector=detector_from(name, bank=bank, seed=0),
        false_alarm_rate=0.01,
    )


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_images_are_refused(name: str, count: int, extractor: FeatureExtractor) -> None:
    with pytest.raises(InvalidInput, match=f"{count} different images among {count}, a model needs 5; give more"):
        fitted(name, [part(seed) for seed in range(count)], extractor)


@pytest.mark.parametrize("same", [part(0), np.zeros((SIDE, SIDE, 3), np.uint8)])
def test_images_that_are_all_the_same_are_refused(name: str, same: Image, extractor: FeatureExtractor) -> None:
    with pytest.raises(InvalidInput, match="1 different images among 12"):
        fitted(name, [same] * 12, extractor)


def test_images_of_mixed_sizes_are_one_line(name: str, extractor: FeatureExtractor) -> None:
    sizes = [(64, 64), (50, 80), (33, 200), (480, 640), (64, 1), (1, 1)]
    images = [part(seed, *sizes[seed % len(sizes)]) for seed in range(24)]
    model = fitted(name, images, extractor)
    scores = model.score(images)
    assert all(np.isfinite(each.peak) and each.map_HW.shape == (8, 8) for each in scores)


def test_a_bank_larger_than_all_patches_holds_them_all(name: str, extractor: FeatureExtractor) -> None:
    images = [part(seed) for seed in range(6)]
    model = fitted(name, images, extractor, bank=10**6)
    spoilt = part(99)
    spoilt[20:40, 20:40] = 255
    assert model.score([spoilt])[0].peak > model.score([part(100)])[0].peak


def test_a_dead_channel_does_no_harm(name: str) -> None:
    """One feature that never moves in training: zero variance, in the fit and in what is scored."""
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(24, 6, 6, 8)).astype(np.float32)
    patches[..., 3] = 2.5
    detector = detector_from(name, bank=200, seed=0).fit(patches)
    test = rng.normal(size=(2, 6, 6, 8)).astype(np.float32)
    test[..., 3] = 2.5
    test[1, 2, 2] += 12
    maps = detector.anomaly_maps(test)
    assert np.isfinite(maps).all()
    assert np.isfinite(detector.left_out_maps()).all()
    assert maps.argmax() == np.ravel_multi_index((1, 2, 2), maps.shape)
