"""The same part again is found, in whatever light; different parts are parted, however alike they look."""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.contract import Patches
from detectors.duplicates import LEAST_PARTS, identical_images, part_similarity, same_parts, similarity_limit
from detectors.errors import InvalidInput
from detectors.features import load_extractor
from detectors.images import decode


def parts(images: int, *, seed: int = 0, own: float = 0.3) -> Patches:
    """Aligned parts of one design, each with a variation of its own that is smooth over the grid."""
    rng = np.random.default_rng(seed)
    design = np.random.default_rng(99).normal(size=(1, 16, 16, 12))
    variation = rng.normal(size=(images, 8, 8, 12)).repeat(2, axis=1).repeat(2, axis=2)
    return (design + own * variation).astype(np.float32)


def in_another_light(patches_BHWD: Patches, *, seed: int = 1) -> Patches:
    """The same parts with other gain, offset by dimension, and noise."""
    rng = np.random.default_rng(seed)
    noise = 0.1 * rng.normal(size=patches_BHWD.shape)
    return (1.3 * patches_BHWD + rng.normal(size=12) + noise).astype(np.float32)


def numbers(flags: NDArray[np.bool_]) -> list[int]:
    return [int(each) for each in np.flatnonzero(flags)]


def seen_before(parts_B: NDArray[np.int64]) -> list[int]:
    """The images that show the part of an earlier one."""
    found = parts_B.tolist()
    return [image for image, part in enumerate(found) if part in found[:image]]


def test_the_same_part_in_another_light_is_found() -> None:
    first = parts(30)
    both = np.concatenate([first, in_another_light(first[5:9])])
    assert same_parts(both).tolist() == [*range(30), 5, 6, 7, 8]


def test_a_whole_set_photographed_twice_is_paired() -> None:
    first = parts(30)
    both = np.concatenate([first, in_another_light(first)])
    assert same_parts(both).tolist() == [*range(30), *range(30)]


def test_parts_are_numbered_as_they_appear() -> None:
    first = parts(20)
    mixed = np.concatenate([in_another_light(first[3:4]), first])
    assert same_parts(mixed).tolist() == [0, 1, 2, 3, 0, *range(4, 20)]


def test_a_shift_of_one_patch_is_the_same_part() -> None:
    """Where what makes a part itself is larger than a patch."""
    coarse = np.random.default_rng(0).normal(size=(30, 4, 4, 12)).astype(np.float32)
    first = coarse.repeat(4, axis=1).repeat(4, axis=2)
    assert seen_before(same_parts(np.concatenate([first, np.roll(first[7:8], 1, axis=1)]))) == [30]


@pytest.mark.parametrize("own", [0.003, 0.3, 3.0])
def test_different_parts_are_parted_however_alike_they_look(own: float) -> None:
    assert seen_before(same_parts(parts(60, own=own))) == []


def test_parts_that_differ_along_one_direction_only_are_parted() -> None:
    """Half of all pairs then correlate by nearly 1: that is how this line varies, not the same part again."""
    rng = np.random.default_rng(0)
    strength = rng.normal(size=(40, 1, 1, 1))
    patches = parts(1) + strength * rng.normal(size=(1, 16, 16, 12)) + 0.05 * rng.normal(size=(40, 16, 16, 12))
    assert seen_before(same_parts(patches.astype(np.float32))) == []


def test_a_part_seen_many_times_is_one() -> None:
    """Twelve parts, each ten times in noise of its own."""
    rng = np.random.default_rng(0)
    repeated = np.tile(parts(12), (10, 1, 1, 1))
    noisy = (repeated + 0.1 * rng.normal(size=repeated.shape)).astype(np.float32)
    assert same_parts(noisy).tolist() == [*range(12)] * 10


def test_there_are_never_fewer_parts_than_speak_for_a_line() -> None:
    rng = np.random.default_rng(0)
    repeated = np.tile(parts(2), (20, 1, 1, 1))
    noisy = (repeated + 0.01 * rng.normal(size=repeated.shape)).astype(np.float32)
    assert len(np.unique(same_parts(noisy))) >= LEAST_PARTS
    assert len(np.unique(same_parts(noisy[:5]))) == 5


def test_identical_images_are_found_whatever_their_share() -> None:
    frozen = np.repeat(parts(1), 9, axis=0)
    assert numbers(identical_images(frozen)) == list(range(1, 9))
    assert numbers(identical_images(np.concatenate([parts(3), parts(3), parts(3)]))) == list(range(3, 9))
    assert numbers(identical_images(np.concatenate([parts(9), in_another_light(parts(9))]))) == []


def test_no_image_and_one_image_show_no_part_twice() -> None:
    assert identical_images(parts(1)).tolist() == [False]
    assert identical_images(parts(2)[:0]).tolist() == []
    assert same_parts(parts(1)).tolist() == [0]
    assert same_parts(parts(2)[:0]).tolist() == []


@pytest.mark.parametrize("function", [identical_images, same_parts])
def test_features_that_are_not_finite_images_are_refused(function: Callable[[Patches], NDArray[np.int64]]) -> None:
    with pytest.raises(InvalidInput, match="shape"):
        function(parts(3)[0])
    with pytest.raises(InvalidInput, match="NaN"):
        function(np.full((2, 2, 2, 2), np.nan, dtype=np.float32))


def test_grids_that_the_coarse_one_does_not_divide_are_pooled_too() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(20, 3, 13, 5)).astype(np.float32)
    assert seen_before(same_parts(np.concatenate([first, first[2:3] * 2]))) == [20]


def test_similarity_is_a_correlation() -> None:
    alike_BB = part_similarity(parts(10))
    np.testing.assert_allclose(np.diag(alike_BB), 1, rtol=1e-5)
    np.testing.assert_allclose(alike_BB, alike_BB.T, atol=1e-6)
    assert np.abs(alike_BB).max() <= 1 + 1e-5


def test_the_limit_rises_with_how_alike_ordinary_pairs_are() -> None:
    unlike, alike = (np.linspace(-width, width, 1001, dtype=np.float32) for width in (0.1, 0.4))
    assert similarity_limit(unlike) == 0.6
    assert similarity_limit(alike) == pytest.approx(0.32 * 2, rel=1e-3)


def real_data() -> Path:
    folder = os.environ.get("DRIFTLINE_TEST_DATA")
    if folder is None:
        pytest.skip("set DRIFTLINE_TEST_DATA to the folder of real images")
    return Path(folder)


def features(paths: Sequence[Path]) -> Patches:
    return load_extractor("efficientnet_lite0", image_size=256).extract([decode(path.read_bytes()) for path in paths])


@pytest.mark.slow
def test_magnetic_tiles_photographed_twice_are_found() -> None:
    """Good tiles in exposures 1 and 2. `tile_id` is itself a heuristic: it parts a few that are plainly one tile."""
    folder = real_data() / "magnetic_tile"
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "good" and row["exposure"] in "12"]
    rows = sorted(rows, key=lambda row: int(row["num"]))[:70]
    tiles = [row["tile_id"] for row in rows]
    parts_B = same_parts(features([folder / row["path"] for row in rows])).tolist()
    found = np.array([part in parts_B[:number] for number, part in enumerate(parts_B)])
    truth = np.array([tile in tiles[:number] for number, tile in enumerate(tiles)])
    assert truth.sum() >= 20
    assert (found & truth).sum() >= 0.9 * truth.sum()
    assert (found & ~truth).sum() <= 0.1 * found.sum()


def test_cookies_all_look_alike_and_are_parted() -> None:
    paths = sorted((real_data() / "cookie" / "train" / "good").iterdir())[:20]
    assert len(np.unique(same_parts(features(paths)))) >= 19
