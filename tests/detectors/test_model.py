"""The model as a whole, on drawn parts and the real backbone: fitted blind, it flags bad parts and says where."""

import numpy as np
import pytest

from detectors.errors import InvalidInput
from detectors.features import FeatureExtractor, load_extractor
from detectors.fitting import IDENTICAL, SUSPECT, fit_model
from detectors.images import Image, statistics
from detectors.maps import bulk_scores, image_scores
from detectors.model import DETECTORS, Model, detector_from, heatmap

SIDE_PX = 64


def part(number: int) -> Image:
    """A striped part with texture of its own."""
    rng = np.random.default_rng(number)
    stripes = 120 + 30 * np.sin(np.arange(SIDE_PX) / 5 + rng.uniform(0, 6))[None, :]
    spots = rng.normal(0, 18, (16, 16)).repeat(4, axis=0).repeat(4, axis=1)
    grey = np.clip(stripes + spots + rng.normal(0, 3, (SIDE_PX, SIDE_PX)), 0, 255)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def scratched(image: Image, *, row: int = 40, column: int = 16) -> Image:
    spoilt = image.copy()
    for step in range(16):
        spoilt[row + step // 2 : row + step // 2 + 3, column + step : column + step + 2] = (250, 250, 250)
    return spoilt


def brighter(image: Image) -> Image:
    return np.clip(image.astype(np.float64) * 1.15 + 5, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return load_extractor("efficientnet_lite0", image_size=SIDE_PX)


TRAINING = [part(number) for number in range(24)] + [scratched(part(24)), brighter(part(3)), part(5)]
KEYS = [f"images/{number}" for number in range(len(TRAINING))]


def fit(extractor: FeatureExtractor, detector: str = "patchcluster") -> Model:
    return fit_model(
        TRAINING,
        KEYS,
        extractor=extractor,
        detector=detector_from(detector, bank=1000, seed=0),
        false_alarm_rate=0.01,
    )


@pytest.fixture(scope="module")
def model(extractor: FeatureExtractor) -> Model:
    return fit(extractor)


def test_images_seen_twice_are_left_out_and_the_bad_one_is_suspected(model: Model) -> None:
    assert {key for key, why in model.left_out.items() if why == IDENTICAL} == {"images/26"}
    assert model.left_out["images/24"] == SUSPECT
    assert model.training_keys == tuple(KEYS[:26])


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_a_part_seen_twice_does_not_vouch_for_itself(extractor: FeatureExtractor, detector: str) -> None:
    """Image 25 is image 3 in a brighter light: both count as one part, and both are learnt."""
    scores_B = fit(extractor, detector).left_out_scores()
    alone = fit_model(
        TRAINING[:25],
        KEYS[:25],
        extractor=extractor,
        detector=detector_from(detector, bank=1000, seed=0),
        false_alarm_rate=0.01,
    ).left_out_scores()
    assert scores_B[3] > 0.8 * alone[3]


def test_bad_parts_are_flagged_where_they_are_bad_and_good_ones_are_not(model: Model) -> None:
    good = model.score([part(number) for number in range(100, 120)])
    bad = model.score([scratched(part(number)) for number in range(200, 210)])
    assert sum(score.peak > model.threshold.value for score in good) <= 1
    assert all(score.peak > model.threshold.value for score in bad)
    for score in bad:  # the scratch covers rows 5 to 6, columns 2 to 3 of the 8 x 8 grid
        assert score.worst[0] in (4, 5, 6)
        assert score.worst[1] in (1, 2, 3, 4)


def test_a_score_is_what_its_parts_say(model: Model) -> None:
    image = scratched(part(300))
    (score,) = model.score([image])
    patches_1HWD = model.extractor.extract([image])
    maps_1HW = model.detector.anomaly_maps(patches_1HWD)
    assert score.peak == pytest.approx(image_scores(maps_1HW)[0])
    assert score.bulk == bulk_scores(maps_1HW)[0]
    assert score.map_HW[score.worst] == pytest.approx(score.peak)
    assert score.nearest == model.detector.nearest(patches_1HWD[0], *score.worst)
    assert score.statistics == statistics(image)


def test_scores_do_not_depend_on_the_batch(model: Model) -> None:
    images = [part(100), scratched(part(101)), part(102)]
    together = model.score(images)
    for image, score in zip(images, together, strict=True):
        (alone,) = model.score([image])
        assert (alone.peak, alone.bulk, alone.worst, alone.nearest) == (
            score.peak,
            score.bulk,
            score.worst,
            score.nearest,
        )
        np.testing.assert_array_equal(alone.map_HW, score.map_HW)


def test_the_reference_is_made_of_left_out_good_images(model: Model) -> None:
    good = [key not in model.left_out for key in model.training_keys]
    np.testing.assert_allclose(model.reference.peak, model.left_out_scores()[good])
    assert model.reference.mean[0] == statistics(TRAINING[0]).mean
    assert len(model.reference.bulk) == len(model.reference.sharpness) == sum(good) == model.threshold.images


def test_a_one_class_model_believes_every_image(extractor: FeatureExtractor) -> None:
    model = fit(extractor, "patchcore")
    assert SUSPECT not in model.left_out.values()
    assert model.threshold.images == len(model.training_keys) == 26


def test_the_same_images_give_the_same_model(extractor: FeatureExtractor, model: Model) -> None:
    again = fit(extractor)
    assert (again.threshold, again.reference, again.left_out) == (model.threshold, model.reference, model.left_out)


def test_bad_requests_are_refused(extractor: FeatureExtractor) -> None:
    detector = detector_from("patchcluster", bank=100, seed=0)
    for images, keys, complaint in (
        (TRAINING[:6], KEYS[:5], "6 images, 5 keys"),
        (TRAINING[:6], ["k"] * 6, "1 of them different"),
        (TRAINING[:4], KEYS[:4], "4 different images"),
        ([part(1)] * 9, KEYS[:9], "1 different images among 9"),
    ):
        with pytest.raises(InvalidInput, match=complaint):
            fit_model(images, keys, extractor=extractor, detector=detector, false_alarm_rate=0.01)


def test_a_heatmap_is_vivid_above_the_threshold_and_grey_below() -> None:
    image = np.full((80, 120, 3), (90, 140, 60), dtype=np.uint8)
    map_HW = np.ones((8, 12), dtype=np.float32)
    map_HW[2:4, 2:4] = 6.0
    drawn = heatmap(image, map_HW, 3.0)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    far, hot = drawn[70, 110].astype(int), drawn[30, 30].astype(int)
    assert far.max() - far.min() == 0
    assert far[0] < statistics(image).mean
    assert hot.max() - hot.min() > 80


def test_a_heatmap_leaves_its_input_alone_and_takes_a_map_of_one_patch() -> None:
    image = part(0)
    before = image.copy()
    heatmap(image, np.full((1, 1), 9.0, dtype=np.float32), 3.0)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("map_HW", "threshold"),
    [
        (np.ones(3, dtype=np.float32), 1.0),
        (np.full((2, 2), np.nan, dtype=np.float32), 1.0),
        (np.ones((2, 2), dtype=np.float32), 0.0),
        (np.ones((2, 2), dtype=np.float32), float("nan")),
    ],
)
def test_a_heatmap_of_nonsense_is_refused(map_HW: np.typing.NDArray[np.float32], threshold: float) -> None:
    with pytest.raises(InvalidInput):
        heatmap(part(0), map_HW, threshold)
