"""The line watch against river itself, a bootstrap's promise, and lines whose change is known."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from river.drift import PageHinkley

from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from streams.calibrating import FLAG_SPREAD, SIGNALS, Array, Scale, calibrate, dead_zone, page_hinkley
from streams.drift import WATCHED, Alarm, LineMonitor
from streams.messages import Signals

RUN_LENGTH = 10_000
HOME = np.array([5.0, 3.0, 120.0, 30.0, 9.0])
UNITS = np.array([0.5, 0.2, 4.0, 2.0, 0.7])
Draw = Callable[[np.random.Generator, int], Array]

NOISES: dict[str, Draw] = {
    "normal": lambda rng, images: rng.standard_normal((images, 5)),
    "t4": lambda rng, images: rng.standard_t(4, (images, 5)),
    "lognormal": lambda rng, images: rng.lognormal(0.0, 0.6, (images, 5)),
}


def parts(rng: np.random.Generator, images: int, *, noise: str = "normal", shift: Array | float = 0.0) -> Array:
    """Signals of parts of a line, `(images, 5)`; `shift` in standard deviations of the normal noise."""
    return HOME + UNITS * (NOISES[noise](rng, images) + shift)


def reference_of(table: Array) -> DriftReference:
    return msgspec.convert(dict(zip(SIGNALS, table.T.tolist(), strict=True)), DriftReference)


def signals_of(row: Array) -> Signals:
    return msgspec.convert(dict(zip(SIGNALS, row.tolist(), strict=True)), Signals)


def alarms(
    monitor: LineMonitor, table: Array, *, flags: NDArray[np.bool_] | None = None, first: int = 0
) -> list[Alarm]:
    """Every alarm that a table of signals raises."""
    raised = (
        monitor.update(str(first + n), signals_of(row), flagged=bool(flags is not None and flags[n]))
        for n, row in enumerate(table)
    )
    return [alarm for alarm in raised if alarm]


def moved(**shifts: float) -> Array:
    return np.array([shifts.get(name, 0.0) for name in SIGNALS])


@pytest.fixture(scope="module")
def monitor() -> LineMonitor:
    """A monitor that tests may not feed (calibration takes a good part of a second)."""
    return watch(7)


def watch(seed: int, *, images: int = 75, noise: str = "normal") -> LineMonitor:
    rng = np.random.default_rng(1000 + seed)
    reference = reference_of(parts(rng, images, noise=noise))
    return LineMonitor(reference, expected_run_length=RUN_LENGTH, seed=seed)


@pytest.mark.parametrize("threshold", [2.0, 5.0, 12.0])
@pytest.mark.parametrize("shift", [0.0, 1.2, -1.2])
def test_the_simulated_page_hinkley_is_rivers(threshold: float, shift: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        z = rng.standard_normal(300) + shift
        theirs: Any = PageHinkley(min_instances=1, delta=0.6, threshold=threshold, alpha=1.0)
        for _ in range(50):
            theirs.update(0.1)
        expected = None
        for index, value in enumerate(z):
            theirs.update(float(value))
            if theirs.drift_detected:
                expected = index
                break
        ours = page_hinkley(z[:, None], mean_R=np.array([0.1]), weight=50, delta=0.6)[:, 0] > threshold
        assert (int(np.argmax(ours)) if ours.any() else None) == expected


def test_the_threshold_keeps_the_run_length_where_the_line_is_the_reference() -> None:
    """From a large reference estimation error vanishes: run lengths must be what was asked for, or a bit longer."""
    rng = np.random.default_rng(5)
    reference_NS = rng.standard_normal((2000, 5))
    run_length = 2000.0
    (threshold,) = calibrate(reference_NS, run_length=run_length, rng=rng)[2:3]
    statistic = page_hinkley(
        np.clip(rng.standard_normal((4000, 200)), -3, 3), mean_R=np.zeros(200), weight=2000, delta=dead_zone(2000)
    )
    assert (statistic.max(axis=0) > threshold).mean() <= 1 - np.exp(-4000 / run_length)


def test_a_longer_run_length_asks_for_more() -> None:
    table = np.random.default_rng(1).standard_normal((75, 5))
    short, long = (calibrate(table, run_length=length, rng=np.random.default_rng(2)) for length in (1e3, 1e6))
    assert (long >= short).all()
    assert long[0] > short[0]


def test_scale_has_two_sides_and_never_vanishes() -> None:
    skewed = np.random.default_rng(0).lognormal(0, 0.8, 5000)
    scale = Scale.of(skewed)
    assert scale.above > 1.5 * scale.below
    assert np.allclose(scale.raw(scale.standard(skewed)), skewed)
    constant = Scale.of(np.zeros(20))
    assert np.isfinite(constant.standard(np.array(1.0)))


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_twenty_lines_of_two_thousand_parts_without_a_false_alarm_then_a_step(noise: str) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        watcher = watch(seed, noise=noise)
        assert alarms(watcher, parts(rng, 2000, noise=noise)) == [], seed
        step = moved(bulk=2.5 if noise == "normal" else 5.0, peak=1.5)
        first, *_ = alarms(watcher, parts(rng, 40, noise=noise, shift=step), first=2000)
        assert first.kind == "covariate_drift", seed
        assert abs(int(first.since_image_id) - 2000) <= 30, seed


def test_a_step_of_bulk_early_in_a_line() -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        watcher = watch(seed)
        assert alarms(watcher, parts(rng, 280)) == []
        first, *_ = alarms(watcher, parts(rng, 40, shift=moved(bulk=2.5, peak=1.5)), first=280)
        assert (first.kind, first.test) == ("covariate_drift", "page_hinkley")
        assert abs(int(first.since_image_id) - 280) <= 10
        assert first.after_images == int(first.alarm_image_id)
        assert first.effect > 1


@pytest.mark.parametrize(
    "shift", [moved(mean=-2.0), moved(sharpness=2.0), moved(mean=-1.2, contrast=1.5, sharpness=1.5)]
)
def test_a_change_of_the_images_alone_is_found(shift: Array) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        watcher = watch(seed)
        assert alarms(watcher, parts(rng, 280)) == []
        first, *_ = alarms(watcher, parts(rng, 40, shift=shift), first=280)
        assert first.kind == "covariate_drift"
        assert first.signal in ("mean", "contrast", "sharpness")


def test_a_surge_of_defects_is_one() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        watcher = watch(seed)
        bad = np.concatenate((rng.random(280) < 0.03, rng.random(160) < 0.25))
        table = parts(rng, 440) + UNITS * np.outer(bad, moved(peak=8.0, bulk=1.0))
        raised = alarms(watcher, table, flags=bad)
        assert {alarm.kind for alarm in raised} == {"defect_surge"}
        assert int(raised[0].alarm_image_id) >= 280


def test_an_alarm_speaks_in_the_signals_own_units() -> None:
    rng = np.random.default_rng(11)
    watcher = watch(11)
    first, *_ = alarms(watcher, parts(rng, 40, shift=moved(mean=2.0)))
    assert first.signal == "mean"
    assert first.reference == pytest.approx(120, abs=2)
    assert first.observed - first.reference == pytest.approx(8, abs=4)


def test_the_flag_rate_is_reported_as_a_rate() -> None:
    rng = np.random.default_rng(2)
    first, *_ = alarms(watch(2), parts(rng, 200), flags=rng.random(200) < 0.4)
    assert (first.kind, first.signal, first.reference) == ("defect_surge", "flagged", 0.05)
    assert first.observed == pytest.approx(0.4, abs=0.25)
    assert first.effect == pytest.approx((first.observed - 0.05) / FLAG_SPREAD)


@pytest.mark.parametrize(
    ("mean", "contrast"),
    [(0.0, 0.0), (255.0, 0.0), (120.0, 0.5), (1.0, 3.0)],
    ids=["black", "blown", "flat", "covered"],
)
def test_a_camera_that_shows_nothing_is_a_fault(mean: float, contrast: float) -> None:
    rng = np.random.default_rng(0)
    table = parts(rng, 30)
    table[:, 2], table[:, 3] = mean + rng.normal(size=30) * 0.01, contrast + rng.random(30) * 0.01
    first, *_ = alarms(watch(0), table)
    assert first.kind == "camera_fault"


def test_a_frozen_camera_is_a_fault_although_its_image_is_normal() -> None:
    row = parts(np.random.default_rng(0), 1)
    first, *_ = alarms(watch(0), np.repeat(row, 30, axis=0))
    assert (first.kind, first.test, first.since_image_id) == ("camera_fault", "repeats", "0")
    assert first.after_images <= 12


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_counted_and_never_fed(poison: float) -> None:
    rng = np.random.default_rng(3)
    watcher = watch(3)
    before = watcher.state
    sick = Signals(peak=poison, bulk=3.0, mean=120.0, contrast=30.0, sharpness=9.0)
    assert watcher.update("sick", sick, flagged=False) is None
    assert watcher.rejected == 1
    assert watcher.state.averages == before.averages
    assert watcher.state.windows == before.windows
    assert alarms(watcher, parts(rng, 40, shift=moved(bulk=3.0))), "still hears after a poisoned image"


def test_a_finite_but_absurd_value_is_one_outlier() -> None:
    rng = np.random.default_rng(3)
    watcher = watch(3)
    assert watcher.update("absurd", signals_of(np.full(5, 1e300)), flagged=False) is None
    assert alarms(watcher, parts(rng, 200)) == []


def test_a_reference_without_spread_is_watched() -> None:
    reference = reference_of(np.repeat(HOME[None, :], 40, axis=0))
    watcher = LineMonitor(reference, expected_run_length=RUN_LENGTH)
    rng = np.random.default_rng(0)
    nearly = HOME * (1 + 1e-4 * rng.standard_normal((300, 5)))
    assert alarms(watcher, nearly) == []
    assert alarms(watcher, nearly[:40] * 1.1)


@pytest.mark.parametrize("images", [0, 5, 9])
def test_a_reference_that_is_too_small_is_refused(images: int) -> None:
    reference = reference_of(parts(np.random.default_rng(0), images))
    with pytest.raises(InvalidInput, match=rf"of {images} images.*at least 10.*more images"):
        LineMonitor(reference, expected_run_length=RUN_LENGTH)


def test_a_broken_reference_is_refused() -> None:
    table = parts(np.random.default_rng(0), 20)
    table[3, 1] = np.nan
    with pytest.raises(InvalidInput, match="finite"):
        LineMonitor(reference_of(table), expected_run_length=RUN_LENGTH)
    whole = reference_of(parts(np.random.default_rng(0), 20))
    ragged = DriftReference(
        peak=whole.peak[:12], bulk=whole.bulk, mean=whole.mean, contrast=whole.contrast, sharpness=whole.sharpness
    )
    with pytest.raises(InvalidInput, match="one entry an image"):
        LineMonitor(ragged, expected_run_length=RUN_LENGTH)
    with pytest.raises(InvalidInput, match="expected_run_length 0"):
        LineMonitor(whole, expected_run_length=0)


def test_a_small_reference_is_watched_more_widely(monitor: LineMonitor) -> None:
    small = watch(7, images=12)
    assert dead_zone(12) > dead_zone(75)
    assert len(small.thresholds) == len(monitor.thresholds) == len(WATCHED)
    assert alarms(small, parts(np.random.default_rng(1), 500)) == []


def test_replay_gives_an_equal_state() -> None:
    rng = np.random.default_rng(4)
    table = np.concatenate((parts(rng, 150), parts(rng, 50, shift=moved(bulk=2.5))))
    one, two = watch(4), watch(4)
    assert alarms(one, table) == alarms(two, table) != []
    assert one.state == two.state


def test_a_change_that_stays_is_found_again() -> None:
    raised = alarms(watch(6), parts(np.random.default_rng(6), 100, shift=moved(bulk=2.5)))
    assert len(raised) >= 3
    assert {alarm.kind for alarm in raised} == {"covariate_drift"}
