"""The line watch on lines whose change is known: kinds, places, faults, bad input, and many verdicts at once against one by one."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from detectors.maps import REGIONS
from streams.alarms import Alarm
from streams.bootstrap import Array
from streams.calibrating import SUSPICION_SPREAD, Scale
from streams.classifying import place_of
from streams.drift import CONFIRMED_AFTER, FAULTY, LineMonitor
from streams.messages import Signals, Verdict

SIGNALS = ("peak", "bulk", "mean", "contrast", "sharpness")

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


def alarms(monitor: LineMonitor, table: Array, *, first: int = 0) -> list[Alarm]:
    """Every alarm that a table of signals raises."""
    return [alarm for n, row in enumerate(table) for alarm in monitor.update(str(first + n), signals_of(row))]


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


def test_scale_has_two_sides_and_never_vanishes() -> None:
    skewed = np.random.default_rng(0).lognormal(0, 0.8, 5000)
    scale = Scale.of(skewed)
    assert scale.above > 1.5 * scale.below
    assert np.allclose(scale.raw(scale.standard(skewed)), skewed)
    constant = Scale.of(np.zeros(20))
    assert np.isfinite(constant.standard(np.array(1.0)))


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_lines_of_two_thousand_parts_without_a_false_alarm_then_a_step(noise: str) -> None:
    for seed in range(6):
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
        raised = alarms(watcher, table)
        assert {alarm.kind for alarm in raised} == {"defect_surge"}
        assert int(raised[0].alarm_image_id) >= 280


def test_an_alarm_speaks_in_the_signals_own_units() -> None:
    rng = np.random.default_rng(11)
    watcher = watch(11)
    first, *_ = alarms(watcher, parts(rng, 40, shift=moved(mean=2.0)))
    assert first.signal == "mean"
    assert first.reference == pytest.approx(120, abs=2)
    assert first.observed - first.reference == pytest.approx(8, abs=4)


def test_a_surge_is_told_by_how_suspicious_images_are() -> None:
    rng = np.random.default_rng(2)
    bad = rng.random(300) < 0.3
    watcher = watch(2)
    first, *_ = alarms(watcher, parts(rng, 300) + UNITS * np.outer(bad, moved(peak=2.5)))
    usual = watcher.calibration.suspicion
    assert (first.kind, first.signal, first.reference) == ("defect_surge", "suspicion", usual)
    assert usual < first.observed < 1
    assert first.effect == pytest.approx((first.observed - usual) / SUSPICION_SPREAD)


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
    assert first.after_images <= FAULTY


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_counted_and_never_fed(poison: float) -> None:
    rng = np.random.default_rng(3)
    watcher = watch(3)
    before = watcher.state
    sick = Signals(peak=poison, bulk=3.0, mean=120.0, contrast=30.0, sharpness=9.0)
    assert watcher.update("sick", sick) == ()
    assert watcher.rejected == 1
    assert (watcher.state.means, watcher.state.sums) == (before.means, before.sums)
    assert alarms(watcher, parts(rng, 40, shift=moved(bulk=3.0))), "still hears after a poisoned image"


def test_a_finite_but_absurd_value_is_one_outlier() -> None:
    rng = np.random.default_rng(3)
    watcher = watch(3)
    assert watcher.update("absurd", signals_of(np.full(5, 1e300))) == ()
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
    assert (small.calibration.dead_zones > monitor.calibration.dead_zones).all()
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


def verdicts(table: Array, flags: NDArray[np.bool_]) -> list[Verdict]:
    return [
        Verdict(
            line="tiles", image_id=str(n), version=1, score=1.0, threshold=2.0, threshold_revision=0, flagged=bool(flag),
            signals=signals_of(row), taken_at=0.0, judged_at=float(n), latency_ms=1.0, image_key=f"images/{n}.png",
        )
        for n, (row, flag) in enumerate(zip(table, flags, strict=True))
    ]  # fmt: skip


def test_many_verdicts_at_once_are_the_same_as_one_by_one(monitor: LineMonitor) -> None:
    """Quiet stretches, drift, a dark camera, a frozen one, a poisoned image: alarms and what the monitor has become."""
    rng = np.random.default_rng(8)
    table = np.concatenate((parts(rng, 900), parts(rng, 60, shift=moved(bulk=2.5)), parts(rng, 700)))
    table[300:306, 2:4] = 0.0
    table[500:507] = table[500]
    table[650, 0] = np.nan
    several = verdicts(table, rng.random(len(table)) < 0.04)
    one, two = watch(7), watch(7)
    singly = [(each.image_id, one.update(each.image_id, each.signals)) for each in several]
    at_once = [(each.image_id, raised) for each, raised in two.follow(several)]
    assert at_once == [(image_id, raised) for image_id, raised in singly if raised]
    assert {alarm.kind for _, raised in at_once for alarm in raised} == {"covariate_drift", "camera_fault"}
    assert one.state == two.state


def test_drift_and_a_surge_at_once_are_told_apart_and_both_told() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        watcher = watch(seed)
        bad = np.concatenate((rng.random(200) < 0.03, rng.random(120) < 0.3))
        table = parts(rng, 320) + UNITS * np.outer(bad, moved(peak=10.0, bulk=1.0))
        table[200:] += UNITS * moved(bulk=2.5, mean=-3.0)
        kinds = {alarm.kind for alarm in alarms(watcher, table)}
        assert kinds == {"covariate_drift", "defect_surge"}


def test_a_spike_of_five_images_is_no_alarm() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        watcher = watch(seed)
        assert alarms(watcher, parts(rng, 150)) == []
        assert alarms(watcher, parts(rng, 5, shift=6.0)) == []
        assert alarms(watcher, parts(rng, 200)) == []


def test_a_change_in_one_corner_is_named() -> None:
    rng = np.random.default_rng(12)

    def seen(images: int, corner: float) -> list[Signals]:
        fields = 3.0 + 0.2 * rng.standard_normal((images, REGIONS**2))
        fields[:, [0, 1, REGIONS]] += corner
        return [
            msgspec.structs.replace(signals_of(row), regions=tuple(map(float, each)))
            for row, each in zip(parts(rng, images), fields, strict=True)
        ]

    known = seen(80, 0.0)
    columns = {name: tuple(getattr(each, name) for each in known) for name in SIGNALS}
    reference = DriftReference(**columns, regions=tuple(each.regions for each in known))
    watcher = LineMonitor(reference, expected_run_length=RUN_LENGTH)
    assert not any(watcher.update(f"a{n}", each) for n, each in enumerate(seen(80, 0.0)))
    raised = [alarm for n, each in enumerate(seen(40, 1.0)) for alarm in watcher.update(f"b{n}", each)]
    assert raised[0].kind == "covariate_drift"
    assert place_of(raised[0].where) == "top left"
    assert raised[0].evidence
    assert raised[0].confidence > 0.9


def test_images_that_hang_together_more_than_the_reference_widen_the_thresholds_in_words() -> None:
    rng = np.random.default_rng(5)
    watcher = watch(5)
    before = watcher.calibration.thresholds(RUN_LENGTH)
    walk = np.zeros((CONFIRMED_AFTER + 50, 5))
    for n in range(1, len(walk)):
        walk[n] = 0.8 * walk[n - 1] + 0.6 * rng.standard_normal(5)
    alarms(watcher, HOME + UNITS * 0.6 * walk)
    assert "thresholds were widened" in watcher.notes[-1]
    assert (watcher.calibration.thresholds(RUN_LENGTH)[:, :-1] > before[:, :-1]).mean() > 0.8


def test_the_image_before_the_change_is_named() -> None:
    rng = np.random.default_rng(9)
    watcher = watch(9)
    alarms(watcher, parts(rng, 150))
    first, *_ = alarms(watcher, parts(rng, 30, shift=moved(bulk=4.0)), first=150)
    assert first.before_image_id == str(int(first.since_image_id) - 1)
    assert first.shape == "step"


def test_parts_that_look_better_than_usual_are_no_surge() -> None:
    rng = np.random.default_rng(3)
    watcher = watch(3)
    assert alarms(watcher, parts(rng, 150)) == []
    assert "defect_surge" not in {alarm.kind for alarm in alarms(watcher, parts(rng, 200, shift=moved(peak=-2.0)))}


def test_a_camera_that_shows_a_part_now_and_then_is_faulty() -> None:
    rng = np.random.default_rng(3)
    watcher = watch(3)
    table = parts(rng, 4000)
    table[np.arange(4000) % 4 != 0, 2:4] = 0.0
    raised = alarms(watcher, table)
    assert {alarm.kind for alarm in raised} == {"camera_fault"}
    assert raised[0].after_images <= 6


def test_one_black_image_in_ten_is_no_fault() -> None:
    rng = np.random.default_rng(3)
    table = parts(rng, 300)
    table[::10, 2:4] = 0.0
    assert alarms(watch(3), table) == []


@pytest.mark.parametrize("early", ["black", "drift"])
def test_thresholds_are_widened_although_something_happened_among_the_first_images(early: str) -> None:
    rng = np.random.default_rng(5)
    watcher = watch(5)
    walk = np.zeros((CONFIRMED_AFTER + 50, 5))
    for n in range(1, len(walk)):
        walk[n] = 0.8 * walk[n - 1] + 0.6 * rng.standard_normal(5)
    table = HOME + UNITS * 0.6 * walk
    if early == "black":
        table[CONFIRMED_AFTER - 1, 2:4] = 0.0
    else:
        table[40:60] += UNITS * 6.0
    alarms(watcher, table)
    assert "thresholds were widened" in watcher.notes[-1]


@pytest.mark.parametrize("absurd", [1.7e308, -1.7e308, 1e200])
def test_a_value_no_image_can_have_is_left_out(absurd: float) -> None:
    watcher = watch(3)
    assert alarms(watcher, np.full((20, 5), absurd)) == []
    assert watcher.rejected == 20


def test_a_surge_long_after_a_drift_that_stays_is_found() -> None:
    rng = np.random.default_rng(6)
    watcher = watch(6)
    alarms(watcher, parts(rng, 100))
    assert {alarm.kind for alarm in alarms(watcher, parts(rng, 400, shift=moved(mean=3.0, bulk=2.0)))} == {
        "covariate_drift"
    }
    bad = rng.random(600) < 0.4
    worse = parts(rng, 600, shift=moved(mean=3.0, bulk=2.0)) + UNITS * np.outer(bad, moved(peak=8.0))
    assert "defect_surge" in {alarm.kind for alarm in alarms(watcher, worse)}


def test_fields_that_are_no_grid_are_refused_in_words() -> None:
    whole = reference_of(parts(np.random.default_rng(0), 20))
    for fields in (9, 17):
        broken = msgspec.structs.replace(whole, regions=tuple((1.0,) * fields for _ in range(20)))
        with pytest.raises(InvalidInput, match="fields each"):
            LineMonitor(broken, expected_run_length=RUN_LENGTH)


def test_after_a_surge_that_was_waited_for_the_mean_is_that_of_before() -> None:
    """What is usual is what it was before the surge: when parts are good again, nothing alarms."""
    rng = np.random.default_rng(1)
    watcher = watch(1)
    assert alarms(watcher, parts(rng, 300)) == []
    bad = rng.random(150) < 0.3
    assert {each.kind for each in alarms(watcher, parts(rng, 150) + UNITS * np.outer(bad, moved(peak=8.0)))} == {
        "defect_surge"
    }
    alarms(watcher, parts(rng, 50))
    assert alarms(watcher, parts(rng, 2000)) == []
