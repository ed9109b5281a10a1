"""What every detector must keep, whatever its algorithm. `test_every_detector_is_covered` says which ones these are."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from detectors.contract import Detector, Patches
from detectors.errors import ArtifactError, InvalidInput
from detectors.model import DETECTORS, detector_from

COVERED = ("patchcore", "padim", "dfkde", "patchcluster")

BANKS = ("patchcore", "patchcluster")
"""Detectors with a memory bank of patches of any position."""


def test_every_detector_is_covered() -> None:
    assert set(COVERED) == set(DETECTORS)


def test_an_unknown_detector_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="'patchcor'"):
        detector_from("patchcor", bank=10, seed=0)


@pytest.fixture(params=COVERED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def some_patches(images: int = 8, *, seed: int = 0) -> Patches:
    """Parts with a common design and their own variation, `patches_BHWD`."""
    rng = np.random.default_rng(seed)
    design = np.random.default_rng(99).normal(size=(1, 6, 5, 7))
    return (design + 0.3 * rng.normal(size=(images, 6, 5, 7))).astype(np.float32)


def fitted(name: str, *, seed: int = 0, bank: int = 60) -> Detector:
    return detector_from(name, bank=bank, seed=seed).fit(some_patches())


def test_its_name_is_the_one_it_is_asked_for_by(name: str) -> None:
    assert detector_from(name, bank=10, seed=0).name == name


def test_the_same_seed_gives_the_same_detector(name: str) -> None:
    first, again = fitted(name, seed=3), fitted(name, seed=3)
    np.testing.assert_array_equal(first.left_out_maps(), again.left_out_maps())
    for key, tensor in first.state().tensors.items():
        np.testing.assert_array_equal(tensor, again.state().tensors[key])


@pytest.mark.parametrize("name", BANKS)
def test_another_seed_gives_another_bank(name: str) -> None:
    test = some_patches(3, seed=1)
    assert not np.array_equal(fitted(name, seed=3).anomaly_maps(test), fitted(name, seed=4).anomaly_maps(test))


def test_scores_do_not_depend_on_company(name: str) -> None:
    detector, test = fitted(name), some_patches(5, seed=1)
    alone = np.concatenate([detector.anomaly_maps(test[i : i + 1]) for i in range(len(test))])
    np.testing.assert_array_equal(detector.anomaly_maps(test), alone)


def test_a_strange_patch_scores_highest_where_it_is(name: str) -> None:
    test = some_patches(2, seed=1)
    test[1, 4, 2] += 5
    maps_BHW = fitted(name).anomaly_maps(test)
    assert [int(each) for each in np.unravel_index(int(maps_BHW.argmax()), maps_BHW.shape)] == [1, 4, 2]


def test_maps_are_float32_and_not_negative(name: str) -> None:
    detector = fitted(name)
    for maps_BHW in (detector.anomaly_maps(some_patches(2, seed=1)), detector.left_out_maps()):
        assert maps_BHW.dtype == np.float32
        assert maps_BHW.min() >= 0


def test_a_detector_comes_back_from_its_state(name: str) -> None:
    detector, test = fitted(name), some_patches(3, seed=1)
    restored = DETECTORS[name].from_state(detector.state())
    np.testing.assert_array_equal(restored.anomaly_maps(test), detector.anomaly_maps(test))
    assert restored.nearest(test[0], 1, 2) == detector.nearest(test[0], 1, 2)
    assert restored.state().parameters == detector.state().parameters


def test_a_restored_detector_has_no_left_out_maps_or_suspects(name: str) -> None:
    restored = DETECTORS[name].from_state(fitted(name).state())
    with pytest.raises(InvalidInput, match="restored"):
        restored.left_out_maps()
    with pytest.raises(InvalidInput, match="fitted"):
        restored.suspects()


def test_a_broken_state_is_refused(name: str) -> None:
    state = fitted(name).state()
    short = {key: tensor[:-1] if tensor.dtype.kind == "f" else tensor for key, tensor in state.tensors.items()}
    words = dict.fromkeys(state.parameters, "many")
    for broken in (
        dataclasses.replace(state, tensors={}),
        dataclasses.replace(state, tensors=short),
        dataclasses.replace(state, parameters={}),
        dataclasses.replace(state, parameters=words),
    ):
        with pytest.raises(ArtifactError):
            DETECTORS[name].from_state(broken)


def test_a_left_out_map_hardly_changes_when_its_own_image_does(name: str) -> None:
    """A patch moved far away may change the spread of the parts, never become normal by being in the fit."""
    patches = some_patches()
    patches[3, 4, 2] += 50
    maps_BHW = fitted(name).fit(patches).left_out_maps()
    assert [int(each) for each in np.unravel_index(int(maps_BHW.argmax()), maps_BHW.shape)] == [3, 4, 2]


def test_no_image_vouches_for_another_of_its_part(name: str) -> None:
    """Image 3 shows the part of image 2 once more, hardly changed. `parts_B` may be any numbers."""
    patches = some_patches()
    patches[2, 4, 2] += 3
    patches[3] = patches[2] + np.float32(0.01) * some_patches(1, seed=5)[0]
    parts_B = np.array([7, 1, 4, 4, 9, 0, 2, 3])
    alone, known = (
        detector_from(name, bank=120, seed=0).fit(patches, each).left_out_maps()[2:4, 4, 2] for each in (parts_B, None)
    )
    assert alone.min() > 2 * known.min()  # of two so alike a bank keeps one


def test_parts_that_do_not_fit_the_images_are_refused(name: str) -> None:
    for parts_B in (np.zeros(8, np.int64), np.arange(7)):
        with pytest.raises(InvalidInput, match="part"):
            detector_from(name, bank=60, seed=0).fit(some_patches(), parts_B)


@pytest.mark.parametrize("name", BANKS)
def test_left_out_maps_do_not_know_their_own_image(name: str) -> None:
    """With every patch in the bank an image is at distance 0 from itself; left out, it is as far as from the others."""
    patches = some_patches()
    detector = detector_from(name, bank=len(patches) * 30, seed=0).fit(patches)
    kept = ~detector.suspects()
    own = patches[kept]
    if name == "patchcore":
        np.testing.assert_allclose(detector.anomaly_maps(own), 0, atol=1e-6)
    rest = np.sqrt(((own[0].reshape(30, 1, 7) - own[1:].reshape(1, -1, 7)) ** 2).sum(axis=2))
    neighbours = int(detector.state().parameters["neighbours"])
    nearest = np.sort(rest, axis=1)[:, :neighbours].mean(axis=1)
    np.testing.assert_allclose(detector.left_out_maps()[kept][0].ravel(), nearest, rtol=1e-5)


def test_suspects_are_one_flag_an_image_of_the_fit(name: str) -> None:
    suspects = fitted(name).suspects()
    assert suspects.dtype == np.bool_
    assert suspects.shape == (8,)


def test_the_nearest_patch_is_where_it_says(name: str) -> None:
    patches, test = some_patches(), some_patches(1, seed=1)
    neighbour = detector_from(name, bank=60, seed=0).fit(patches).nearest(test[0], 1, 2)
    if name == "padim":
        assert neighbour is None  # it keeps no patches
        return
    assert neighbour is not None
    there = patches[neighbour.image, neighbour.row, neighbour.column]
    assert neighbour.distance == pytest.approx(np.linalg.norm(there - test[0, 1, 2]), rel=1e-5)


def test_a_patch_off_the_grid_is_refused(name: str) -> None:
    for row, column in ((6, 0), (0, 5), (-1, 0)):
        with pytest.raises(InvalidInput, match="6 x 5"):
            fitted(name).nearest(some_patches(1)[0], row, column)


@pytest.mark.parametrize("name", BANKS)
def test_the_bank_holds_no_more_rows_than_asked_for(name: str) -> None:
    banks = [tensor for tensor in fitted(name, bank=50).state().tensors.values() if tensor.dtype == np.float32]
    assert [len(bank) <= 50 for bank in banks] == [True]


def test_bad_features_are_refused_before_any_effect(name: str) -> None:
    good = some_patches()
    spoilt = good.copy()
    spoilt[2, 0, 0, 0] = np.nan
    doubles: Any = good.astype(np.float64)
    for bad in (good[0], good[:0], doubles, spoilt, good[:1]):
        detector = detector_from(name, bank=60, seed=0)
        with pytest.raises(InvalidInput):
            detector.fit(bad)
        with pytest.raises(InvalidInput):
            detector.anomaly_maps(good)


def test_bad_images_are_refused_by_a_fitted_detector(name: str) -> None:
    detector = fitted(name)
    spoilt = some_patches(1)
    spoilt[0, 0, 0, 0] = np.inf
    for bad in (some_patches(1)[0], spoilt, some_patches(1)[..., :3]):
        with pytest.raises(InvalidInput):
            detector.anomaly_maps(bad)


def test_the_callers_array_is_left_alone(name: str) -> None:
    patches = some_patches()
    before = patches.copy()
    detector = detector_from(name, bank=60, seed=0).fit(patches)
    detector.anomaly_maps(patches)
    np.testing.assert_array_equal(patches, before)


def test_impossible_parameters_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        detector_from(name, bank=0, seed=0)


def test_whose_vouching_is_not_one_bool_an_image_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="vouched of shape"):
        detector_from(name, bank=60, seed=0).fit(some_patches(), None, np.ones(3, np.bool_))
