"""DFKDE against one scikit-learn KernelDensity a position, and where densities underflow."""

import dataclasses
from typing import Any, get_args

import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from detectors.contract import Patches
from detectors.density import scott_factor
from detectors.dfkde import DFKDE, Bandwidth, Kernel
from detectors.errors import ArtifactError, InvalidInput

BANDWIDTHS = get_args(Bandwidth)
KERNELS = get_args(Kernel)


def parts(images: int = 20, *, seed: int = 0, dimensions: int = 6) -> Patches:
    """Parts with a design that differs from place to place, `patches_BHWD`."""
    rng = np.random.default_rng(seed)
    design = 5 * np.random.default_rng(99).normal(size=(1, 4, 5, dimensions))
    return (design + rng.normal(size=(images, 4, 5, dimensions))).astype(np.float32)


def of_scikit_learn(train: Patches, test: Patches) -> Patches:
    """- log density at every position plus that of the peak, with Scott's bandwidth and one scale, all dimensions."""
    count, height, width, dimensions = train.shape
    maps = np.empty(test.shape[:3], np.float32)
    for row in range(height):
        for column in range(width):
            spread = np.sqrt(train[:, row, column].var(axis=0, ddof=1).mean())
            bandwidth = scott_factor(count, dimensions) * spread
            kernels = KernelDensity(bandwidth=bandwidth).fit(train[:, row, column])
            peak = -dimensions * np.log(bandwidth * np.sqrt(2 * np.pi))
            maps[:, row, column] = peak - kernels.score_samples(test[:, row, column])
    return maps


def test_scores_are_log_densities_below_the_peak() -> None:
    train, test = parts(), parts(3, seed=1)
    ours = DFKDE(dimensions=6).fit(train).anomaly_maps(test)
    np.testing.assert_allclose(ours, of_scikit_learn(train, test), rtol=1e-4)


def test_left_out_maps_are_those_of_the_other_samples() -> None:
    train = parts(5)
    detector = DFKDE(dimensions=6).fit(train)
    tensors = detector.state().tensors
    for name in ("samples_PNC", "widths_PN", "images_N"):
        axis = 0 if name == "images_N" else 1
        tensors = {**tensors, name: np.delete(tensors[name], 2, axis=axis)}
    without = DFKDE.from_state(dataclasses.replace(detector.state(), tensors=tensors))
    np.testing.assert_allclose(detector.left_out_maps()[2], without.anomaly_maps(train[2:3])[0], rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
def test_far_images_are_ranked_by_how_far_they_are(bandwidth: Bandwidth, kernel: Kernel) -> None:
    detector = DFKDE(dimensions=6, bandwidth=bandwidth, kernel=kernel).fit(parts())
    test = np.stack([parts(1, seed=1)[0] + each for each in (0, 10, 1e3, 1e4, 1e5)]).astype(np.float32)
    peaks = detector.anomaly_maps(test).max(axis=(1, 2))
    assert np.isfinite(peaks).all()
    assert (np.diff(peaks) > 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_dead_channel_and_equal_images_stay_finite(kernel: Kernel) -> None:
    dead = parts()
    dead[..., 2] = 0
    for train in (dead, np.repeat(parts(1), 6, axis=0)):
        detector = DFKDE(dimensions=6, kernel=kernel, bandwidth="likelihood").fit(train)
        assert np.isfinite(detector.left_out_maps()).all()
        shifted = train[:1] + np.float32(9)
        assert detector.anomaly_maps(shifted).min() > detector.anomaly_maps(train[:1]).max()


def test_two_clusters_are_two_clusters() -> None:
    """Half of the parts are of a second variant: between the two is not normal, though it is the mean."""
    train = parts(40)
    train[::2] += 20
    between = parts(1, seed=1) + 10
    detector = DFKDE(dimensions=6, bandwidth="likelihood").fit(train)
    assert detector.anomaly_maps(between).min() > 2 * detector.left_out_maps().max()


def test_memory_over_the_budget_is_refused_before_work() -> None:
    needed = DFKDE.memory_bytes((4, 5), images=20, dimensions=6)
    DFKDE(dimensions=6, memory=needed).fit(parts())
    with pytest.raises(InvalidInput, match=f"takes {needed} bytes, {needed - 1} are allowed"):
        DFKDE(dimensions=6, memory=needed - 1).fit(parts())


def test_only_so_many_images_are_kept() -> None:
    train = parts()
    detector = DFKDE(dimensions=3, images=8).fit(train)
    assert detector.state().tensors["samples_PNC"].shape == (20, 8, 3)
    assert len(detector.left_out_maps()) == len(detector.suspects()) == 20


def test_the_nearest_patch_is_of_the_same_position() -> None:
    train = parts()
    neighbour = DFKDE(dimensions=6).fit(train).nearest(train[7] + np.float32(0.01), 2, 3)
    assert (neighbour.image, neighbour.row, neighbour.column) == (7, 2, 3)
    assert neighbour.distance == pytest.approx(0.01 * np.sqrt(6), rel=1e-2)


@pytest.mark.parametrize(
    ("tensor", "wrong"),
    [("widths_PN", 0.0), ("scale_HWC", -1.0), ("samples_PNC", np.nan), ("mean_D", np.inf)],
)
def test_an_impossible_state_is_refused(tensor: str, wrong: float) -> None:
    state = DFKDE(dimensions=3).fit(parts()).state()
    spoilt: Any = state.tensors[tensor].copy()
    spoilt.flat[0] = wrong
    with pytest.raises(ArtifactError, match="publish the version again"):
        DFKDE.from_state(dataclasses.replace(state, tensors={**state.tensors, tensor: spoilt}))


@pytest.mark.parametrize("wrong", [{"dimensions": 0}, {"images": 1}, {"bandwidth": "guess"}, {"kernel": "flat"}])
def test_impossible_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        DFKDE(**wrong)
