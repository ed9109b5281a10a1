"""PaDiM against its definition, literally, and against refits."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.contract import Detector, Patches
from detectors.errors import ArtifactError, InvalidInput
from detectors.padim import PaDiM


def normal(seed: int, *shape: int) -> Patches:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


TRAINING = normal(0, 12, 4, 5, 9)
UNSEEN = normal(1, 3, 4, 5, 9)


def literally(training: Patches, patches_HWD: Patches, chosen: NDArray[np.int32], eps: float = 0.01) -> Patches:
    """Equations 1 and 2 with an inverse covariance, as the reference implementation computes them."""
    maps = np.empty(patches_HWD.shape[:2])
    for row, column in np.ndindex(*maps.shape):
        seen = training[:, row, column][:, chosen].astype(np.float64)
        covariance = np.atleast_2d(np.cov(seen.T)) + eps * np.eye(len(chosen))
        apart = patches_HWD[row, column][chosen] - seen.mean(axis=0)
        maps[row, column] = np.sqrt(apart @ np.linalg.inv(covariance) @ apart)
    return maps.astype(np.float32)


def chosen(detector: PaDiM) -> NDArray[np.int32]:
    return np.asarray(detector.state().tensors["chosen_C"]).astype(np.int32)


def test_keeps_the_contract() -> None:
    detector: Detector = PaDiM().fit(TRAINING)
    assert detector.name == "padim"
    assert detector.suspects().tolist() == [False] * 12
    assert detector.nearest(UNSEEN[0], 1, 1) is None


@pytest.mark.parametrize("dimensions", [1, 5, 100])
def test_maps_are_what_the_equations_say(dimensions: int) -> None:
    detector = PaDiM(dimensions=dimensions, seed=3).fit(TRAINING)
    assert len(chosen(detector)) == min(dimensions, 9)
    for image, map_HW in zip(UNSEEN, detector.anomaly_maps(UNSEEN), strict=True):
        assert map_HW == pytest.approx(literally(TRAINING, image, chosen(detector)), rel=1e-4)


def test_left_out_maps_are_those_of_a_fit_on_the_others() -> None:
    detector = PaDiM(dimensions=6).fit(TRAINING)
    for image in range(12):
        others = np.delete(TRAINING, image, axis=0)
        assert detector.left_out_maps()[image] == pytest.approx(
            literally(others, TRAINING[image], chosen(detector)), rel=1e-5
        )


def test_left_out_maps_with_fewer_images_than_dimensions() -> None:
    few = TRAINING[:4]
    detector = PaDiM().fit(few)
    for image in range(4):
        others = np.delete(few, image, axis=0)
        assert detector.left_out_maps()[image] == pytest.approx(
            literally(others, few[image], chosen(detector)), rel=1e-4
        )


@pytest.mark.parametrize("parts", [[0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 2], [0] * 10 + [1, 1], [0] * 11 + [1]])
def test_left_out_maps_are_those_of_a_fit_on_the_other_parts(parts: list[int]) -> None:
    parts_B = np.array(parts)
    left_BHW = PaDiM(dimensions=6).fit(TRAINING, parts_B).left_out_maps()
    for image in range(12):
        others = TRAINING[parts_B != parts_B[image]]
        chosen_C = chosen(PaDiM(dimensions=6).fit(TRAINING))
        if len(others) > 1:
            expected = literally(others, TRAINING[image], chosen_C)
        else:  # no covariance but the regularisation
            expected = np.linalg.norm((TRAINING[image] - others[0])[..., chosen_C], axis=-1) / 0.1
        assert left_BHW[image] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("restored", [False, True])
def test_an_update_equals_a_refit(restored: bool) -> None:
    detector = PaDiM(dimensions=7).fit(TRAINING[:5])
    if restored:
        detector = PaDiM.from_state(detector.state())
    detector.update(TRAINING[5:6]).update(TRAINING[6:])
    refitted = PaDiM(dimensions=7).fit(TRAINING)
    assert detector.anomaly_maps(UNSEEN) == pytest.approx(refitted.anomaly_maps(UNSEEN), rel=1e-5)
    assert detector.state().parameters == refitted.state().parameters


def test_two_images_and_equal_images_have_finite_scores() -> None:
    two = PaDiM(regularisation=0.25).fit(TRAINING[:2])
    expected = np.linalg.norm(TRAINING[0] - TRAINING[1], axis=-1) / 0.5
    assert two.left_out_maps()[0] == pytest.approx(expected, rel=1e-5)
    equal = PaDiM(regularisation=0.25).fit(np.ones((5, 3, 3, 4), np.float32))
    assert (equal.left_out_maps() == 0).all()
    assert equal.anomaly_maps(np.full((1, 3, 3, 4), 2, np.float32)) == pytest.approx(np.full((1, 3, 3), 4.0))


def test_a_dead_channel_changes_nothing_until_it_wakes() -> None:
    dead = TRAINING.copy()
    dead[..., 2] = 0
    detector = PaDiM().fit(dead)
    still, awake = UNSEEN[:1].copy(), UNSEEN[:1].copy()
    still[..., 2], awake[..., 2] = 0, 1
    alive = np.delete(dead, 2, axis=3)
    without = PaDiM().fit(alive).anomaly_maps(np.delete(still, 2, axis=3))
    assert detector.anomaly_maps(still) == pytest.approx(without, rel=1e-5)
    assert (detector.anomaly_maps(awake) > 9).all()


def test_memory_is_stated_before_and_kept() -> None:
    training = normal(0, 30, 16, 16, 60)
    stated = PaDiM.memory_bytes((16, 16), images=30, dimensions=50)
    tracemalloc.start()
    PaDiM(dimensions=50).fit(training).anomaly_maps(training[:1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= stated


def test_many_updates_do_not_grow() -> None:
    detector = PaDiM(dimensions=20).fit(normal(0, 8, 8, 8, 30))
    batch = normal(1, 8, 8, 8, 30)
    tracemalloc.start()
    peaks = []
    for _ in range(4):
        for _ in range(5):
            detector.update(batch)
        peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(peaks) <= peaks[0] + 10_000


def test_what_cannot_be_fitted_or_scored_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 2"):
        PaDiM().fit(TRAINING[:1])
    spoilt = TRAINING.copy()
    spoilt[3, 0, 0, 0] = np.nan
    with pytest.raises(InvalidInput, match="image 3"):
        PaDiM().fit(spoilt)
    for ask in (PaDiM().state, lambda: PaDiM().anomaly_maps(UNSEEN), lambda: PaDiM().update(UNSEEN)):
        with pytest.raises(InvalidInput, match="call fit first"):
            ask()
    detector = PaDiM().fit(TRAINING)
    for other in (UNSEEN[:, :3], UNSEEN[..., :4]):
        with pytest.raises(InvalidInput, match="fitted on 4 x 5 of 9"):
            detector.anomaly_maps(other)
        with pytest.raises(InvalidInput, match="fitted on 4 x 5 of 9"):
            detector.update(other)
    with pytest.raises(InvalidInput, match="4 x 5"):
        detector.nearest(UNSEEN[0], 4, 0)
    for bad in ({"dimensions": 0}, {"regularisation": 0.0}, {"regularisation": float("inf")}):
        with pytest.raises(InvalidInput, match="regularisation"):
            PaDiM(**bad)


def test_states_of_something_else_are_refused() -> None:
    good = PaDiM().fit(TRAINING).state()
    tensors = dict(good.tensors)
    for changed in (
        {"scatter_PT": tensors["scatter_PT"][:-1]},
        {"mean_HWC": tensors["mean_HWC"][..., :-1]},
        {"chosen_C": tensors["chosen_C"].astype(np.float64)},
        {"mean_HWC": tensors["mean_HWC"] * np.nan},  # type: ignore[operator]
    ):
        with pytest.raises(ArtifactError, match="padim"):
            PaDiM.from_state(dataclasses.replace(good, tensors=tensors | changed))
    for name in good.parameters:
        with pytest.raises(ArtifactError, match="padim"):
            PaDiM.from_state(dataclasses.replace(good, parameters={**good.parameters, name: "many"}))
