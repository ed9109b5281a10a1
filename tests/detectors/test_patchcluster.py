"""PatchCluster against its definition, and what makes it blind. What every detector keeps is in `test_contract`."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.contract import Patches
from detectors.errors import InvalidInput
from detectors.patchcluster import PatchCluster


def line(images: int, *, seed: int = 0) -> Patches:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(images, 8, 8, 6)).astype(np.float32)


def spoil(patches_BHWD: Patches, images: NDArray[np.int64], *, seed: int = 5) -> Patches:
    """Give each of the images a defect of its own, 2 x 2 patches."""
    rng = np.random.default_rng(seed)
    spoilt = patches_BHWD.copy()
    for image in images:
        row, column = rng.integers(0, 7, 2)
        direction = rng.normal(size=6)
        spoilt[image, row : row + 2, column : column + 2] += (9 * direction / np.linalg.norm(direction)).astype(
            np.float32
        )
    return spoilt


def mean_of_nearest(
    queries_PD: NDArray[np.float32], bank_MD: NDArray[np.float32], neighbours: int
) -> NDArray[np.float64]:
    """The definition, by brute force."""
    distances = [np.sort(np.linalg.norm(bank_MD - query, axis=1))[:neighbours].mean() for query in queries_PD]
    return np.array(distances)


@pytest.mark.parametrize("neighbours", [1, 3, 7])
def test_a_patch_scores_its_mean_distance_to_the_nearest_bank_rows(neighbours: int) -> None:
    detector = PatchCluster(bank=200, neighbours=neighbours).fit(line(10))
    test = line(2, seed=1)
    bank_MD = detector.state().tensors["bank"].astype(np.float32)
    expected = mean_of_nearest(test.reshape(-1, 6), bank_MD, neighbours)
    np.testing.assert_allclose(detector.anomaly_maps(test).ravel(), expected, rtol=1e-5)


def test_left_out_maps_use_the_rows_of_the_other_images_only() -> None:
    patches = spoil(line(10), np.array([4]))
    detector = PatchCluster(bank=200, neighbours=3).fit(patches)
    bank, origin = (detector.state().tensors[key] for key in ("bank", "origin"))
    for image in (0, 4):
        expected = mean_of_nearest(patches[image].reshape(-1, 6), bank[origin[:, 0] != image].astype(np.float32), 3)
        np.testing.assert_allclose(detector.left_out_maps()[image].ravel(), expected, rtol=1e-5)


def test_bank_rows_are_where_their_origin_says_and_as_many_from_each_image() -> None:
    patches = line(10)
    detector = PatchCluster(bank=205).fit(patches)
    bank, origin = (detector.state().tensors[key] for key in ("bank", "origin"))
    np.testing.assert_array_equal(bank, patches[tuple(origin.T)])
    kept = np.flatnonzero(~detector.suspects())
    assert np.bincount(origin[:, 0], minlength=10)[kept].tolist() == [205 // len(kept)] * len(kept)
    assert len(np.unique(origin, axis=0)) == len(origin)


def test_bad_images_become_suspects_and_give_no_rows() -> None:
    bad = np.array([3, 17, 31])
    detector = PatchCluster(bank=400).fit(spoil(line(60), bad))
    assert set(bad) <= set(np.flatnonzero(detector.suspects()))
    assert not np.isin(np.flatnonzero(detector.suspects()), detector.state().tensors["origin"][:, 0]).any()


def test_few_good_images_are_suspected() -> None:
    suspects = [PatchCluster(seed=seed).fit(line(60, seed=seed)).suspects().sum() for seed in range(5)]
    assert np.mean(suspects) <= 0.1 * 60


def test_a_blind_fit_finds_defects_as_a_clean_one_does() -> None:
    """The same images with and without 5 % of bad ones among them: unseen defects stand out by nearly as much."""
    clean = PatchCluster(bank=1000).fit(line(60))
    blind = PatchCluster(bank=1000).fit(spoil(line(60), np.array([3, 17, 31])))
    test = spoil(line(20, seed=1), np.arange(10), seed=6)
    peaks = [detector.anomaly_maps(test).max(axis=(1, 2)) for detector in (clean, blind)]
    assert peaks[1][:10].min() > peaks[1][10:].max()
    assert peaks[1][:10].mean() == pytest.approx(peaks[0][:10].mean(), rel=0.05)


def test_images_that_are_all_the_same_are_no_suspects() -> None:
    patches = np.repeat(line(1), 12, axis=0)
    detector = PatchCluster(bank=3000).fit(patches)
    assert not detector.suspects().any()
    np.testing.assert_allclose(PatchCluster(bank=3000, neighbours=1).fit(patches).left_out_maps(), 0, atol=1e-6)


def test_more_images_than_bank_rows_stay_within_the_bank() -> None:
    detector = PatchCluster(bank=20, neighbours=2, subsample=20).fit(line(50))
    assert len(detector.state().tensors["bank"]) == 20
    assert detector.left_out_maps().shape == (50, 8, 8)


@pytest.mark.parametrize(
    ("bank", "neighbours", "subsample", "seed"),
    [(0, 1, 10, 0), (10, 0, 10, 0), (10, 3, 0, 0), (2, 3, 10, 0), (9, 3, 9, -1)],
)
def test_impossible_parameters_are_refused(bank: int, neighbours: int, subsample: int, seed: int) -> None:
    with pytest.raises(InvalidInput, match="give"):
        PatchCluster(bank=bank, neighbours=neighbours, subsample=subsample, seed=seed)


def test_what_a_person_vouches_for_is_no_longer_odd_and_everything_else_still_is() -> None:
    """Image 3 has an oddity that a person called normal; 17 has one that nobody looked at."""
    patches = spoil(line(60), np.array([3, 17]))
    vouched = np.arange(60) == 3
    blind, told = (PatchCluster(bank=400).fit(patches, None, each) for each in (None, vouched))
    ordinary = np.quantile(told.left_out_maps()[20:].max(axis=(1, 2)), 0.9)
    peaks = told.anomaly_maps(patches).max(axis=(1, 2))
    assert blind.anomaly_maps(patches[3:4]).max() > 1.5 * ordinary, "or there is nothing to vouch for"
    assert peaks[3] <= ordinary
    assert peaks[17] > 1.5 * ordinary
    assert not told.suspects()[3]
    assert told.suspects()[17]
    again = PatchCluster.from_state(told.state())
    np.testing.assert_array_equal(again.anomaly_maps(patches), told.anomaly_maps(patches))


def test_vouching_for_ordinary_images_makes_the_bank_larger_by_no_more_than_itself() -> None:
    detector = PatchCluster(bank=400).fit(line(60), None, np.ones(60, np.bool_))
    assert len(detector.state().tensors["bank"]) <= 800
    assert not detector.suspects().any()
