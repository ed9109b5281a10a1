"""The coreset against the ten lines that define it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.coreset import greedy_k_center, project
from detectors.errors import InvalidInput

Points = NDArray[np.float32]


def normal(seed: int, *shape: int) -> Points:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def textbook(points: NDArray[np.floating], rows: int, first: int) -> list[int]:
    """PatchCore, algorithm 1: always the point farthest from the picks."""
    points = points.astype(np.float64)
    picked = [first]
    while len(picked) < rows:
        nearest = np.min([((points - points[pick]) ** 2).sum(axis=1) for pick in picked], axis=0)
        nearest[picked] = -1
        picked.append(int(nearest.argmax()))
    return picked


def radius(points: Points, picked: NDArray[np.int64]) -> float:
    distances = np.linalg.norm(points[:, None].astype(np.float64) - points[picked][None], axis=2)
    return float(distances.min(axis=1).max())


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000), count=st.integers(2, 150), dimensions=st.integers(1, 12), clusters=st.integers(1, 6)
)
def test_equals_the_textbook(seed: int, count: int, dimensions: int, clusters: int) -> None:
    centres = 20 * normal(seed, clusters, dimensions)
    points = normal(seed + 1, count, dimensions) + centres[np.arange(count) % clusters]
    picked = greedy_k_center(points, count // 2 + 1, seed=seed, projected_dimensions=None)
    if len(picked) < count:
        assert picked.tolist() == textbook(points, len(picked), int(picked[0]))


def test_equals_the_textbook_on_projected_points() -> None:
    points = normal(0, 300, 40)
    picked = greedy_k_center(points, 60, seed=5, projected_dimensions=8)
    rng = np.random.default_rng(5)
    first = int(rng.integers(300))
    assert picked.tolist() == textbook(project(points, 8, rng), 60, first)


def test_the_cover_radius_never_grows_and_is_within_twice_the_best() -> None:
    points = normal(1, 200, 3)
    picked = greedy_k_center(points, 40, seed=0)
    radii = [radius(points, picked[:count]) for count in range(1, 41)]
    assert (np.diff(radii) <= 1e-9).all()
    corners = np.array([[0, 0], [0, 10], [10, 0], [10, 10]], np.float32).repeat(20, axis=0)
    four = corners + np.random.default_rng(0).uniform(-0.5, 0.5, corners.shape).astype(np.float32)
    assert radius(four, greedy_k_center(four, 4, seed=3)) <= 2 * np.hypot(0.5, 0.5)


def test_the_seed_decides_and_nothing_else() -> None:
    points = normal(2, 300, 200)
    before = points.copy()
    first = greedy_k_center(points, 30, seed=1)
    np.random.default_rng().normal(size=5)
    assert (greedy_k_center(points, 30, seed=1) == first).all()
    assert (greedy_k_center(points, 30, seed=2) != first).any()
    assert (points == before).all()


def test_as_many_rows_as_points_or_more_give_all() -> None:
    points = normal(0, 7, 3)
    for rows in (7, 8, 10_000):
        assert greedy_k_center(points, rows, seed=0).tolist() == list(range(7))


@pytest.mark.parametrize("offset", [0.0, 500.0])
def test_equals_the_textbook_on_more_points_than_are_looked_at_together(offset: float) -> None:
    points = normal(4, 12_000, 6) + normal(5, 40, 6)[np.arange(12_000) % 40] * 3 + np.float32(offset)
    picked = greedy_k_center(points, 150, seed=1)
    assert picked.tolist() == textbook(points, 150, int(picked[0]))


def test_equal_points_are_picked_once_each() -> None:
    picked = greedy_k_center(np.ones((50, 4), np.float32), 20, seed=0)
    assert len(set(picked.tolist())) == 20


@pytest.mark.parametrize("count", [300, 9000])
def test_copies_of_a_few_points_come_after_the_points_themselves(count: int) -> None:
    points = normal(6, 30, 5)[np.arange(count) % 30]
    picked = greedy_k_center(points, 100, seed=0)
    assert picked.tolist() == textbook(points, 100, int(picked[0]))
    assert len({row % 30 for row in picked[:30].tolist()}) == 30
    assert len(set(picked.tolist())) == 100


def test_points_that_are_all_equally_far_are_picked_in_order() -> None:
    points = np.eye(200, dtype=np.float32)
    picked = greedy_k_center(points, 90, seed=0)
    assert picked.tolist() == textbook(points, 90, int(picked[0]))


def test_a_few_points_far_away_do_not_blur_the_rest() -> None:
    points = normal(7, 6000, 8)
    points[:3] *= 1e5
    picked = greedy_k_center(points, 80, seed=2)
    assert picked.tolist() == textbook(points, 80, int(picked[0]))


def test_projection_keeps_distances_on_average() -> None:
    points = normal(0, 200, 1000)
    projected = project(points, 256, np.random.default_rng(0))
    ratios = np.linalg.norm(np.diff(projected, axis=0), axis=1) / np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert ratios.mean() == pytest.approx(1, abs=0.02)
    assert ratios.std() == pytest.approx(1 / np.sqrt(2 * 256), rel=0.25)
    assert (project(points, 1000, np.random.default_rng(0)) == points).all()


def test_progress_is_told_up_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    greedy_k_center(normal(0, 500, 4), 250, seed=0, progress=lambda done, rows: told.append((done, rows)))
    assert told[-1] == (250, 250)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert 90 <= len(told) <= 130


@pytest.mark.parametrize(
    ("points", "rows", "projected", "says"),
    [
        (np.zeros((0, 3), np.float32), 1, None, "at least one"),
        (np.zeros((3, 3)), 1, None, "float64"),
        (np.full((3, 3), np.nan, np.float32), 1, None, "NaN"),
        (np.zeros((3, 3), np.float32), 0, None, "at least 1"),
        (np.zeros((3, 3), np.float32), 1, 0, "at least 1"),
    ],
)
def test_what_cannot_be_picked_from_is_refused(points: Points, rows: int, projected: int | None, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        greedy_k_center(points, rows, seed=0, projected_dimensions=projected)
