"""Kernel densities against SciPy and scikit-learn, and their bandwidths against the definition."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import KernelDensity

from detectors import density


def some_samples(
    positions: int = 3, count: int = 20, dimensions: int = 4
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(positions, count, dimensions)).astype(np.float32)


def test_log_densities_are_those_of_scikit_learn() -> None:
    samples, queries = some_samples(), some_samples(count=5) + 1
    apart = density.squares(queries, samples).astype(np.float64)
    ours = density.log_densities(apart, np.full((3, 20), 0.7), 4)
    for position in range(3):
        rival = KernelDensity(bandwidth=0.7).fit(samples[position]).score_samples(queries[position])
        np.testing.assert_allclose(ours[position], rival, rtol=1e-5)


def test_a_density_that_underflows_is_still_ranked() -> None:
    apart = np.array([[[1e5], [1e6], [1e7]]])
    ranked = density.log_densities(apart, np.ones((1, 1)), 100)[0]
    assert np.isfinite(ranked).all()
    assert (np.diff(ranked) < 0).all()


def test_the_rules_of_thumb_are_the_formulas() -> None:
    assert density.scott_factor(50, 10) == pytest.approx(50 ** (-1 / 14))
    assert density.silverman_factor(50, 10) == pytest.approx((50 * 12 / 4) ** (-1 / 14))
    assert density.silverman_factor(50, 2) == pytest.approx(density.scott_factor(50, 2))


def test_leave_one_out_likelihood_is_the_definition() -> None:
    samples = some_samples()
    apart = density.without_own(density.squares(samples, samples), np.arange(samples.shape[1]))
    ours = density.likelihoods(apart, 1.0, 4, (0.3, 0.9))
    for factor, value in zip((0.3, 0.9), ours, strict=True):
        total = 0.0
        for position in range(3):
            for own in range(20):
                others = np.delete(samples[position], own, axis=0)
                total += KernelDensity(bandwidth=factor).fit(others).score_samples(samples[position][own][None])[0]
        assert value == pytest.approx(total, rel=1e-4)


def test_the_likeliest_bandwidth_of_normal_samples_is_near_silvermans() -> None:
    samples = np.random.default_rng(1).normal(size=(20, 200, 2)).astype(np.float32)
    start = density.silverman_factor(200, 2)
    likely = density.likelihoods(
        density.without_own(density.squares(samples, samples), np.arange(samples.shape[1])), start, 2
    )
    assert 0.6 < density.FACTORS[int(likely.argmax())] < 1.6


def test_squares_are_squared_distances() -> None:
    samples, queries = some_samples(), some_samples(count=6)
    for position, apart in enumerate(density.squares(queries, samples)):
        np.testing.assert_allclose(
            apart, cdist(queries[position], samples[position], "sqeuclidean"), rtol=1e-4, atol=1e-5
        )


def test_adaptive_widths_are_wide_where_samples_are_rare() -> None:
    samples = np.concatenate([np.zeros((1, 30, 2)), np.full((1, 1, 2), 9.0)], axis=1).astype(np.float32)
    samples[0, :30] += np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    apart = density.without_own(density.squares(samples, samples), np.arange(samples.shape[1]))
    widths = density.adaptive_widths(apart, np.full((1, 31), 0.5), 2)
    assert widths[0].argmax() == 30
    assert widths[0, 30] > 2 * np.median(widths[0])
    assert widths.max() <= 0.5 * 10


def test_a_dead_dimension_has_a_spread_above_zero() -> None:
    samples = some_samples()
    samples[..., 2] = 3.0
    assert (density.spreads(samples, product=True) > 0).all()
    assert (density.spreads(np.ones((2, 5, 3), np.float32), product=True) == 1).all()
