"""Streaming statistics against numpy's."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.errors import InvalidInput
from detectors.gaussian import Gaussians, gaussians_of, mahalanobis


def points(
    seed: int, images: int, positions: int = 70, dimensions: int = 6, *, offset: float = 0.0
) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(offset, 1.0, (images, positions, dimensions))
    return values.astype(np.float32)


def covariances(stats: Gaussians) -> NDArray[np.float64]:
    """The whole matrices, `(P, D, D)`."""
    dimensions = stats.mean_PD.shape[1]
    rows, columns = np.tril_indices(dimensions)
    whole = np.zeros((len(stats.mean_PD), dimensions, dimensions))
    whole[:, rows, columns] = whole[:, columns, rows] = stats.scatter_PT / (stats.count - 1)
    return whole


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    offset=st.sampled_from([0.0, 1000.0]),
)
def test_batches_in_any_sizes_give_what_numpy_gives_at_once(seed: int, parts: list[int], offset: float) -> None:
    everything = points(seed, sum(parts) + 1, offset=offset)
    cuts = np.cumsum([0, *parts[:-1], parts[-1] + 1])
    stats = gaussians_of(everything[: cuts[1]])
    for start, stop in itertools.pairwise(cuts[1:]):
        stats = stats.merged(gaussians_of(everything[start:stop]))
    assert stats.count == len(everything)
    assert stats.mean_PD == pytest.approx(everything.mean(axis=0, dtype=np.float64), rel=1e-9, abs=1e-9)
    for position in (0, 63, 64, 69):
        expected = np.cov(everything[:, position].astype(np.float64).T)
        assert covariances(stats)[position] == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_whitened_lengths_are_mahalanobis_distances() -> None:
    seen, new = points(0, 40), points(1, 1)[0]
    stats = gaussians_of(seen)
    distances = np.empty(70, np.float32)
    whitening = stats.whitening(0.01, divisor=39).astype(np.float32)
    mahalanobis((new - stats.mean_PD).astype(np.float32), whitening, distances)
    for position in (0, 17, 69):
        inverse = np.linalg.inv(np.cov(seen[:, position].astype(np.float64).T) + 0.01 * np.eye(6))
        apart = new[position] - seen[:, position].mean(axis=0, dtype=np.float64)
        assert distances[position] == pytest.approx(np.sqrt(apart @ inverse @ apart), rel=1e-5)


def test_other_grids_do_not_mix() -> None:
    with pytest.raises(InvalidInput, match=r"\(5, 6\)"):
        gaussians_of(points(0, 3)).merged(gaussians_of(points(0, 3, positions=5)))


def test_a_covariance_that_cannot_be_factored_says_so() -> None:
    with pytest.raises(InvalidInput, match="give a larger one"):
        gaussians_of(np.ones((3, 2, 4), np.float32)).whitening(0.0, divisor=2)
