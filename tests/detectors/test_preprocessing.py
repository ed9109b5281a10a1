"""Crop, grey, tiles and mask: what reaches the backbone, and where its patches lie."""

import dataclasses
from typing import Any

import msgspec
import numpy as np
import pytest

from detectors.errors import InvalidInput
from detectors.features import FeatureExtractor, load_extractor
from detectors.fitting import fit_model
from detectors.images import Image
from detectors.manifest import Preprocessing
from detectors.maps import SIGMA
from detectors.model import Model, detector_from
from detectors.preprocessing import Frame, Preparation, packed_mask

SIDE = 64


def texture(seed: int, height: int = 96, width: int = 128) -> Image:
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, 6, (height, width, 3))
    waves = 20 * np.sin(np.arange(width) / 5)[None, :, None]
    return np.clip(128 + waves + grain, 0, 255).astype(np.uint8)


def test_nothing_is_asked_for_and_nothing_changes() -> None:
    image = texture(0, SIDE, SIDE)
    (square,) = Preparation(Preprocessing(), SIDE).squares(image)
    np.testing.assert_array_equal(square, image)


def test_a_crop_is_the_image_cut() -> None:
    image = texture(0, SIDE, 2 * SIDE)
    (square,) = Preparation(Preprocessing(crop=(0.5, 0.0, 1.0, 1.0)), SIDE).squares(image)
    np.testing.assert_array_equal(square, image[:, SIDE:])


def test_grey_has_no_colour() -> None:
    (square,) = Preparation(Preprocessing(grey=True), SIDE).squares(texture(0))
    np.testing.assert_array_equal(square[..., 0], square[..., 2])


@pytest.mark.parametrize("overlap", [0, 16, 32])
def test_tiles_together_are_the_image(overlap: int) -> None:
    """Squares that are their own features join to the image: nothing is lost, doubled or moved."""
    prepare = Preparation(Preprocessing(tiles=(2, 3), overlap_px=overlap), SIDE)
    height, width = (8 * each for each in prepare.grid)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    squares = prepare.squares(image)
    assert len(squares) == 6
    corners = [square[::8, ::8].astype(np.float32) for square in squares]
    np.testing.assert_array_equal(prepare.joined(corners), image[::8, ::8])


def test_outside_the_mask_features_are_nothing() -> None:
    drawn = np.zeros((SIDE, SIDE, 3), np.uint8)
    drawn[:, : SIDE // 2] = 255
    extractor = load_extractor(image_size=SIDE, prepare=Preprocessing(mask=packed_mask(drawn, Preprocessing(), SIDE)))
    patches = extractor.extract([texture(0)])[0]
    assert (patches[:, 4:] == 0).all()
    assert (patches[:, :4] != 0).any(axis=2).all()


@pytest.mark.parametrize("detector", ["patchcore", "padim", "dfkde", "patchcluster"])
def test_what_lies_outside_the_mask_does_not_count(detector: str) -> None:
    drawn = np.zeros((SIDE, SIDE, 3), np.uint8)
    drawn[:, : SIDE // 2] = 255
    model = fitted(detector, Preprocessing(mask=packed_mask(drawn, Preprocessing(), SIDE)))
    left, right = texture(100), texture(100)
    left[40:60, 20:40] = 255
    right[40:60, 90:110] = 255
    plain, inside, outside = model.score([texture(100), left, right])
    assert inside.peak > 2 * plain.peak
    assert outside.peak < 1.2 * plain.peak
    assert (outside.map_HW[:, 4 + round(3 * SIGMA) + 2 :] < 1e-3 * plain.peak).all()


def test_a_defect_is_where_it_is_in_the_whole_image() -> None:
    model = fitted("patchcore", Preprocessing(crop=(0.5, 0.25, 1.0, 0.75)))
    image = texture(100)
    image[56:64, 104:112] = 255
    (score,) = model.score([image])
    assert score.map_HW.shape == (16, 16)
    row, column = (np.array(score.worst) + 0.5) / 16
    assert abs(row - 60 / 96) < 0.1
    assert abs(column - 108 / 128) < 0.1
    assert score.nearest is not None
    assert 4 <= score.nearest.row < 12
    assert score.nearest.column >= 8


def test_a_large_image_with_a_small_defect() -> None:
    """4096 x 3072 px, a defect of 12 px: tiles find it, and where it is."""
    prepare = Preprocessing(tiles=(3, 4), overlap_px=64)
    extractor = load_extractor(image_size=512, prepare=prepare, layers=("block2",))
    rng = np.random.default_rng(0)

    def large() -> Image:
        grain = rng.integers(-6, 7, (3072, 4096, 1))
        return np.broadcast_to(128 + grain, (3072, 4096, 3)).astype(np.uint8)

    patches = extractor.extract([large(), large()])
    detector = detector_from("patchcluster", bank=500, seed=0).fit(patches[:, ::4, ::4].copy())
    good, bad = large(), large()
    bad[2000:2012, 3000:3012] = 40
    clean, spoilt = (detector.anomaly_maps(extractor.extract([each]))[0] for each in (good, bad))
    row, column = np.unravel_index(int(spoilt.argmax()), spoilt.shape)
    assert spoilt.max() > 2 * clean.max()
    assert abs((row + 0.5) / spoilt.shape[0] * 3072 - 2006) < 20
    assert abs((column + 0.5) / spoilt.shape[1] * 4096 - 3006) < 20


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"crop": (0.5, 0.0, 0.5, 1.0)}, "left < right"),
        ({"crop": (0.0, 0.0, 1.0, 1.5)}, "as shares"),
        ({"tiles": (0, 1)}, "tiles"),
        ({"tiles": (100, 100)}, "1024 in total"),
        ({"tiles": (2, 2), "overlap_px": 12}, "that 16 divides"),
        ({"tiles": (2, 2), "overlap_px": 48}, "0 to 32 px"),
        ({"mask": "!"}, "base64"),
        ({"mask": "AAAA"}, "24 bits for a grid of 8 x 8"),
        ({"mask": "AAAAAAAAAAA="}, "covers everything"),
    ],
)
def test_what_cannot_be_carried_out_is_said(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        load_extractor(image_size=SIDE, prepare=Preprocessing(**wrong))


def test_a_black_mask_is_refused() -> None:
    with pytest.raises(InvalidInput, match="covers everything"):
        packed_mask(np.zeros((9, 9, 3), np.uint8), Preprocessing(), SIDE)


def test_every_part_of_the_specification_changes_its_digest() -> None:
    spec = load_extractor(image_size=SIDE).spec
    others = [
        Preprocessing(grey=True),
        Preprocessing(crop=(0.1, 0.0, 1.0, 1.0)),
        Preprocessing(tiles=(1, 2)),
        Preprocessing(overlap_px=16),
        Preprocessing(mask="AAAAAAAAAAE="),
    ]
    digests = {msgspec.structs.replace(spec, prepare=each).digest for each in others} | {spec.digest}
    assert len(digests) == len(others) + 1
    assert msgspec.structs.replace(spec, runtime="openvino").digest not in digests


def test_a_frame_keeps_the_map_where_it_is() -> None:
    frame = Preparation(Preprocessing(crop=(0.25, 0.5, 0.75, 1.0)), SIDE).frame
    assert dataclasses.astuple(frame) == (16, 16, 8, 4)
    assert Frame(2, 2, 0, 0).around(np.ones((2, 2), np.float32)).sum() == 4


def fitted(detector: str, prepare: Preprocessing) -> Model:
    extractor: FeatureExtractor = load_extractor(image_size=SIDE, prepare=prepare)
    images = [texture(seed) for seed in range(8)]
    return fit_model(
        images,
        [str(number) for number in range(8)],
        extractor=extractor,
        detector=detector_from(detector, bank=300, seed=0),
        false_alarm_rate=0.01,
    )
