"""Bootstrap thresholds: river's own test as the oracle, and the promise of a run length."""

from typing import Any

import numpy as np
import pytest
from river.drift import PageHinkley

from streams.bootstrap import Charts, alarms, joint_thresholds, largest
from streams.calibrating import autocorrelation, calibrate

NEVER = np.inf


def one_chart(dead_zone: float, weight: float, *, quiet_images: int = 200) -> Charts:
    """One test of one signal, both ways; the slow test is left out."""
    dead = np.array([[dead_zone], [NEVER]])
    return Charts(up=dead, down=dead, weight=np.array([weight]), share=np.ones(1), quiet_images=quiet_images)


def rivers_first_alarm(z: np.ndarray, *, mean: float, weight: int, delta: float, threshold: float) -> int | None:
    """Where river's Page-Hinkley fires first, after `weight` images that lie at the mean."""
    theirs: Any = PageHinkley(min_instances=1, delta=delta, threshold=threshold, alpha=1.0)
    for _ in range(weight):
        theirs.update(mean)
    for index, value in enumerate(z):
        theirs.update(float(value))
        if theirs.drift_detected:
            return index
    return None


@pytest.mark.parametrize("shift", [0.0, 0.9, -0.9])
def test_the_simulated_statistic_is_rivers(shift: float) -> None:
    rng = np.random.default_rng(3)
    charts = one_chart(0.6, 50)
    for _ in range(10):
        z_T = (rng.standard_normal(200) + shift).astype(np.float32)
        reached = [
            float(largest(z_T[: n + 1, None, None], np.full((1, 1), 0.1), charts)[0, 0, 0]) for n in range(len(z_T))
        ]
        for threshold in (2.0, 5.0, 12.0):
            expected = rivers_first_alarm(z_T, mean=0.1, weight=50, delta=0.6, threshold=threshold)
            over = np.array(reached) > threshold
            assert (int(np.argmax(over)) if over.any() else None) == expected


def test_alarms_are_counted_with_restarts() -> None:
    """A change that stays alarms again and again, as often as river's test that is started anew from the known mean."""
    z_T = np.full(100, 2.0, dtype=np.float32)
    expected, at = 0, 0
    while (found := rivers_first_alarm(z_T[at:], mean=0.0, weight=50_000, delta=0.5, threshold=10.0)) is not None:
        expected, at = expected + 1, at + found + 1
    limits = np.array([[10.0], [NEVER]])
    counted = alarms(z_T[:, None, None], np.zeros((1, 1), dtype=np.float32), one_chart(0.5, 50_000), limits)
    assert counted == expected > 10


def test_the_run_length_is_kept_by_all_charts_together() -> None:
    """Thresholds from some paths, alarms counted on others of the same process: at most what was asked for, but for chance."""
    rng = np.random.default_rng(5)
    dead = np.full((2, 6), 0.5)
    charts = Charts(up=dead, down=dead, weight=np.full(6, 1e6), share=np.ones(6), quiet_images=200)
    means = np.zeros((300, 6), dtype=np.float32)
    for run_length in (1_000.0, 5_000.0):
        known = joint_thresholds(
            rng.standard_normal((1000, 300, 6)).astype(np.float32), means, charts, (1_000.0, 10_000.0)
        )
        fresh = rng.standard_normal((1000, 300, 6)).astype(np.float32)
        allowed = 300_000 / run_length
        assert alarms(fresh, means, charts, known.at(run_length)) <= allowed + 4 * np.sqrt(allowed)
        assert alarms(fresh, means, charts, known.at(run_length)) >= allowed / 3


def test_a_longer_run_length_asks_for_more() -> None:
    known = calibrate(("peak", "bulk", "mean"), np.random.default_rng(1).standard_normal((75, 3)), seed=2)
    short, long = known.thresholds(1e3), known.thresholds(1e6)
    assert (long >= short).all()
    assert (long > short).any()


def test_the_same_seed_gives_the_same_thresholds() -> None:
    table = np.random.default_rng(1).standard_normal((75, 3))
    one, two = (calibrate(("peak", "bulk", "mean"), table, seed=4).thresholds(1e4) for _ in range(2))
    assert np.array_equal(one, two)


def test_autocorrelation_of_a_series_that_remembers_and_of_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2000, 4))
    walk = noise.copy()
    for n in range(1, len(walk)):
        walk[n] = 0.7 * walk[n - 1] + noise[n]
    assert autocorrelation(noise) == pytest.approx(np.zeros(4), abs=0.06)
    assert autocorrelation(walk) == pytest.approx(np.full(4, 0.7), abs=0.05)
    assert autocorrelation(np.ones((50, 2))).tolist() == [0.0, 0.0]
