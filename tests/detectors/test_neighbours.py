"""Nearest rows against brute force, alone and in company."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.errors import InvalidInput
from detectors.neighbours import NearestNeighbours

Rows = NDArray[np.float32]


def normal(seed: int, *shape: int, offset: float = 0.0) -> Rows:
    return (np.random.default_rng(seed).normal(size=shape) + offset).astype(np.float32)


def brute_force(bank_MD: Rows, queries_ND: Rows, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The definition, in float64."""
    differences = queries_ND[:, None, :].astype(np.float64) - bank_MD[None].astype(np.float64)
    distances = np.sqrt((differences**2).sum(axis=2))
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, 1), rows


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 60),
    dimensions=st.integers(1, 9),
    k=st.integers(1, 8),
    offset=st.sampled_from([0.0, 1000.0]),
)
def test_equals_brute_force(seed: int, rows: int, dimensions: int, k: int, offset: float) -> None:
    bank, queries = normal(seed, rows, dimensions, offset=offset), normal(seed + 1, 17, dimensions, offset=offset)
    k = min(k, rows)
    distances, found = NearestNeighbours(bank).search(queries, k)
    expected, expected_rows = brute_force(bank, queries, k)
    assert distances == pytest.approx(expected, rel=1e-6)
    assert (found == expected_rows).all()


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_a_batch_through_blas_equals_single_queries(offset: float) -> None:
    bank, queries = normal(0, 300, 64, offset=offset), normal(1, 4000, 64, offset=offset)
    assert queries.size >= 128_000
    search = NearestNeighbours(bank).search
    distances, rows = search(queries, 3)
    expected, expected_rows = brute_force(bank, queries[:200], 3)
    assert (distances[:200] == expected.astype(np.float32)).all()
    assert (rows[:200] == expected_rows).all()
    for at in range(0, 4000, 137):
        alone, its_rows = search(queries[at : at + 1], 3)
        assert (alone[0] == distances[at]).all()
        assert (its_rows[0] == rows[at]).all()


def test_a_tight_cluster_far_from_the_origin_is_told_apart() -> None:
    """Here the error of BLAS is larger than the distances themselves."""
    bank, queries = normal(0, 500, 32, offset=5000.0), normal(1, 5000, 32, offset=5000.0)
    distances, rows = NearestNeighbours(bank).search(queries, 1)
    expected, expected_rows = brute_force(bank, queries[:300], 1)
    assert (rows[:300] == expected_rows).all()
    assert (distances[:300] == expected.astype(np.float32)).all()


def test_a_row_of_the_bank_is_at_distance_zero() -> None:
    bank = normal(3, 50, 8, offset=100.0)
    distances, rows = NearestNeighbours(bank).search(bank, 1)
    assert (distances == 0).all()
    assert (rows[:, 0] == np.arange(50)).all()


def test_equal_rows_come_in_order() -> None:
    bank = np.repeat(normal(0, 2, 4), 3, axis=0)
    _, rows = NearestNeighbours(bank).search(bank, 3)
    assert rows.tolist() == [[0, 1, 2]] * 3 + [[3, 4, 5]] * 3


def test_chunks_join_seamlessly() -> None:
    bank, queries = normal(0, 40, 900), normal(1, 4200, 900)
    distances, _ = NearestNeighbours(bank).search(queries, 2)
    expected, _ = brute_force(bank, queries[-50:], 2)
    assert (distances[-50:] == expected.astype(np.float32)).all()


def test_no_queries_give_no_rows() -> None:
    distances, rows = NearestNeighbours(normal(0, 4, 3)).search(np.zeros((0, 3), np.float32), 2)
    assert distances.shape == rows.shape == (0, 2)


@pytest.mark.parametrize(
    ("bank", "says"),
    [
        (np.zeros((0, 3), np.float32), "0 rows"),
        (np.zeros((3, 3)), "float64"),
        (np.zeros(3, np.float32), "shape"),
        (np.full((2, 2), np.nan, np.float32), "NaN"),
    ],
)
def test_a_bank_that_is_none_is_refused(bank: Rows, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        NearestNeighbours(bank)


def test_queries_that_do_not_fit_are_refused() -> None:
    search = NearestNeighbours(normal(0, 5, 3)).search
    with pytest.raises(InvalidInput, match="2 dimensions, the bank has 3"):
        search(normal(0, 4, 2), 1)
    for k in (0, 6):
        with pytest.raises(InvalidInput, match="1 to 5"):
            search(normal(0, 4, 3), k)
    with pytest.raises(InvalidInput, match="NaN"):
        search(np.full((1, 3), np.inf, np.float32), 1)


@pytest.mark.parametrize("k", [1, 5, 150])
def test_the_winner_is_proven_where_most_rows_are_passed_over(k: int) -> None:
    """Few components hold most of the variance, as in patch features, so that both bounds have work to do."""
    mixing = normal(0, 12, 150) * (np.arange(12, 0, -1, dtype=np.float32) ** 2)[:, None]
    bank = (normal(1, 2003, 12) @ mixing + 5 * normal(2, 2003, 150)).astype(np.float32)
    queries = (normal(3, 300, 12) @ mixing + 5 * normal(4, 300, 150)).astype(np.float32)
    queries[:50] = bank[:50]
    distances, rows = NearestNeighbours(bank).search(queries, k)
    expected, expected_rows = brute_force(bank, queries, k)
    assert (rows == expected_rows).all()
    assert (distances == expected.astype(np.float32)).all()


def test_a_bank_of_one_row_many_times_is_searched() -> None:
    distances, rows = NearestNeighbours(np.ones((100, 5), np.float32)).search(np.zeros((2, 5), np.float32), 40)
    assert rows.tolist() == [list(range(40))] * 2
    assert distances == pytest.approx(np.sqrt(5))


def test_rows_passed_over_are_as_if_they_were_not_there() -> None:
    bank, queries = normal(0, 500, 40), normal(1, 60, 40)
    without = np.arange(500) % 3 == 1
    distances, rows = NearestNeighbours(bank).search(queries, 4, without_M=without)
    expected, expected_rows = brute_force(bank[~without], queries, 4)
    assert (rows == np.flatnonzero(~without)[expected_rows]).all()
    assert (distances == expected.astype(np.float32)).all()
    with pytest.raises(InvalidInput, match="0 rows"):
        NearestNeighbours(bank).search(queries, 1, without_M=np.ones(500, bool))
