"""PatchCore against its definition: the distance to the nearest row of the bank."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.contract import Detector, DetectorState, Patches
from detectors.errors import ArtifactError, InvalidInput
from detectors.patchcore import PatchCore


def normal(seed: int, *shape: int) -> Patches:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def brute_force(bank_MD: NDArray[np.float32], patches_BHWD: Patches, k: int = 1) -> NDArray[np.float64]:
    differences = patches_BHWD[..., None, :].astype(np.float64) - bank_MD
    means: NDArray[np.float64] = np.sort(np.linalg.norm(differences, axis=-1), axis=-1)[..., :k].mean(axis=-1)
    return means


def tensors(detector: PatchCore) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    found = detector.state().tensors
    return found["bank_MD"].astype(np.float32), found["provenance_M3"].astype(np.int32)


TRAINING = normal(0, 6, 4, 5, 8)
UNSEEN = normal(1, 3, 4, 5, 8)


def fitted(bank: int = 40) -> PatchCore:
    return PatchCore(bank=bank).fit(TRAINING)


def test_keeps_the_contract() -> None:
    detector: Detector = fitted()
    assert detector.name == "patchcore"
    assert detector.suspects().tolist() == [False] * 6


def test_bank_rows_are_the_patches_they_say_they_come_from() -> None:
    bank, provenance = tensors(fitted())
    assert bank.shape == (40, 8)
    image, row, column = provenance.T
    assert (TRAINING[image, row, column] == bank).all()
    assert len(np.unique(provenance, axis=0)) == 40


@pytest.mark.parametrize("neighbours", [1, 3])
def test_maps_are_distances_to_the_nearest_rows(neighbours: int) -> None:
    detector = PatchCore(bank=40, neighbours=neighbours).fit(TRAINING)
    bank, _ = tensors(detector)
    maps = detector.anomaly_maps(UNSEEN)
    assert maps.dtype == np.float32
    assert maps == pytest.approx(brute_force(bank, UNSEEN, neighbours), rel=1e-6)


def test_a_batch_scores_as_its_images_do_alone() -> None:
    detector = PatchCore(bank=100).fit(normal(0, 4, 16, 16, 32))
    batch = normal(5, 40, 16, 16, 32)
    maps = detector.anomaly_maps(batch)
    for image in (0, 17, 39):
        assert (detector.anomaly_maps(batch[image : image + 1])[0] == maps[image]).all()


def test_a_bank_of_everything_knows_every_patch_of_the_fit() -> None:
    detector = fitted(bank=10_000)
    assert (detector.anomaly_maps(TRAINING) == 0).all()
    assert (detector.left_out_maps() > 0).all()


def test_left_out_maps_use_the_rows_of_other_images_only() -> None:
    detector = fitted()
    bank, provenance = tensors(detector)
    maps = detector.left_out_maps()
    for image in range(6):
        others = bank[provenance[:, 0] != image]
        assert maps[image] == pytest.approx(brute_force(others, TRAINING[image]), rel=1e-6)


def weight_of_equation_7(bank: NDArray[np.float32], patches_HWD: Patches, count: int) -> float:
    """The paper's weight, step by step."""
    flat = patches_HWD.reshape(-1, patches_HWD.shape[-1]).astype(np.float64)
    distances = np.linalg.norm(flat[:, None] - bank, axis=2)
    worst = int(distances.min(axis=1).argmax())
    nearest = int(distances[worst].argmin())
    around = np.argsort(np.linalg.norm(bank.astype(np.float64) - bank[nearest], axis=1), kind="stable")[:count]
    return float(1 - np.exp(distances[worst, nearest]) / np.exp(distances[worst, around]).sum())


def test_reweighting_is_equation_7() -> None:
    plain, weighted = (PatchCore(bank=40, reweighting=each).fit(TRAINING) for each in (False, True))
    bank, _ = tensors(plain)
    weights = [weight_of_equation_7(bank, image, 9) for image in UNSEEN]
    assert weighted.anomaly_maps(UNSEEN) == pytest.approx(
        plain.anomaly_maps(UNSEEN) * np.reshape(weights, (-1, 1, 1)), rel=1e-5
    )
    assert (weighted.left_out_maps() <= plain.left_out_maps()).all()
    again = PatchCore.from_state(weighted.state())
    assert (again.anomaly_maps(UNSEEN) == weighted.anomaly_maps(UNSEEN)).all()


def test_distances_too_large_for_exp_are_weighted() -> None:
    detector = PatchCore(bank=40, reweighting=True).fit(TRAINING)
    far = detector.anomaly_maps(UNSEEN * np.float32(1e4))
    assert np.isfinite(far).all()
    assert (far.max(axis=(1, 2)) > 1e3).all()


def test_states_of_the_first_release_are_read() -> None:
    state = fitted().state()
    old = {name: value for name, value in state.parameters.items() if name != "reweighting"}
    again = PatchCore.from_state(DetectorState(old, state.tensors))
    assert (again.anomaly_maps(UNSEEN) == fitted().anomaly_maps(UNSEEN)).all()


def test_nearest_names_the_patch_of_the_fit() -> None:
    detector = fitted(bank=10_000)
    found = detector.nearest(TRAINING[4], 2, 3)
    assert (found.image, found.row, found.column, found.distance) == (4, 2, 3, 0.0)
    moved = TRAINING[1].copy()
    moved[0, 0] += np.float32(0.01)
    near = detector.nearest(moved, 0, 0)
    assert (near.image, near.row, near.column) == (1, 0, 0)
    assert near.distance == pytest.approx(0.01 * np.sqrt(8), rel=1e-4)
    with pytest.raises(InvalidInput, match="4 x 5"):
        detector.nearest(moved, 4, 0)


def test_the_seed_decides_the_bank() -> None:
    same = [tensors(PatchCore(bank=30, seed=3).fit(TRAINING))[1] for _ in range(2)]
    assert (same[0] == same[1]).all()
    assert (tensors(PatchCore(bank=30, seed=4).fit(TRAINING))[1] != same[0]).any()


def test_state_comes_back_the_same() -> None:
    detector = PatchCore(bank=30, seed=2, neighbours=2).fit(TRAINING)
    again = PatchCore.from_state(detector.state())
    assert (again.anomaly_maps(UNSEEN) == detector.anomaly_maps(UNSEEN)).all()
    assert again.nearest(UNSEEN[0], 1, 1) == detector.nearest(UNSEEN[0], 1, 1)
    assert again.state().parameters == {"bank": 30, "seed": 2, "neighbours": 2, "reweighting": False}
    for ask in (again.left_out_maps, again.suspects):
        with pytest.raises(InvalidInput, match="fitted"):
            ask()


def test_a_constant_image_works() -> None:
    constant = np.ones((3, 4, 4, 6), np.float32)
    detector = PatchCore(bank=10).fit(constant)
    assert (detector.anomaly_maps(constant) == 0).all()
    assert detector.anomaly_maps(2 * constant) == pytest.approx(np.full((3, 4, 4), np.sqrt(6)))


def test_fit_leaves_the_callers_array_alone() -> None:
    before = TRAINING.copy()
    fitted().left_out_maps()
    assert np.array_equal(before, TRAINING)


@pytest.mark.parametrize(
    ("patches", "says"),
    [
        (np.zeros((0, 4, 4, 2), np.float32), "at least one image"),
        (np.zeros((1, 4, 4, 2), np.float32), "at least 2"),
        (np.zeros((2, 4, 4, 2)), "float64"),
        (np.zeros((2, 4, 4), np.float32), "shape"),
        (np.stack([np.zeros((4, 4, 2), np.float32), np.full((4, 4, 2), np.nan, np.float32)]), "image 1 hold NaN"),
    ],
)
def test_patches_that_cannot_be_fitted_are_refused(patches: Patches, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        PatchCore().fit(patches)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InvalidInput, match="3 neighbours in a bank of 2"):
        PatchCore(bank=2, neighbours=3)
    with pytest.raises(InvalidInput, match="0 neighbours"):
        PatchCore(neighbours=0)
    for ask in (lambda: PatchCore().anomaly_maps(UNSEEN), PatchCore().state, PatchCore().left_out_maps):
        with pytest.raises(InvalidInput, match="call fit first"):
            ask()
    with pytest.raises(InvalidInput, match="3 dimensions, the bank has 8"):
        fitted().anomaly_maps(normal(0, 1, 2, 2, 3))
    with pytest.raises(InvalidInput, match="gave all 1 rows"):
        fitted(bank=1).left_out_maps()


def test_states_of_something_else_are_refused() -> None:
    good = fitted().state()
    bank, provenance = tensors(fitted())
    broken: list[DetectorState] = [
        DetectorState({}, good.tensors),
        DetectorState({**good.parameters, "bank": 2.5}, good.tensors),
        DetectorState(good.parameters, {"bank_MD": bank}),
        DetectorState(good.parameters, {"bank_MD": bank.astype(np.float64), "provenance_M3": provenance}),
        DetectorState(good.parameters, {"bank_MD": bank, "provenance_M3": provenance[:-1]}),
        DetectorState(good.parameters, {"bank_MD": bank * np.float32(np.nan), "provenance_M3": provenance}),
        DetectorState(good.parameters, {"bank_MD": bank[0], "provenance_M3": provenance}),
    ]
    for state in broken:
        with pytest.raises(ArtifactError, match="patchcore"):
            PatchCore.from_state(state)
