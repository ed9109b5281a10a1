"""A calibration kept with its version: the same thresholds, the same alarms, and never a monitor that trusts a broken one."""

import dataclasses
import json
import logging
import re
from typing import Any

import msgspec
import numpy as np
import pytest

from detectors.manifest import NO_CALIBRATION, DriftCalibration
from streams import bootstrap, calibrating, stored_calibration
from streams.calibrating import Calibration, calibrate, reference_table
from streams.drift import LineMonitor
from streams.stored_calibration import calibrated, in_words, restored, stored_of
from tests.streams.test_drift import alarms, moved, parts, reference_of

REFERENCE = reference_of(parts(np.random.default_rng(1), 75))


@pytest.fixture(scope="module")
def kept() -> DriftCalibration:
    stored = calibrated(REFERENCE, seed=3)
    assert stored
    return stored


def raw(stored: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(stored))


def same(one: Calibration, two: Calibration) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("prime", "correlation", "dead_zones")
    ) and (one.names, one.weight, one.suspicion) == (two.names, two.weight, two.suspicion)


def test_what_was_kept_gives_identical_thresholds(kept: DriftCalibration) -> None:
    own = calibrate(*reference_table(REFERENCE), seed=3)
    again = restored(raw(kept), REFERENCE)
    assert again
    assert same(own, again)
    for run_length in (1_000.0, 10_000.0, 1_000_000.0):
        assert np.array_equal(own.thresholds(run_length), again.thresholds(run_length))


def test_a_monitor_with_a_kept_calibration_raises_the_same_alarms(kept: DriftCalibration) -> None:
    rng = np.random.default_rng(4)
    table = np.concatenate((parts(rng, 300), parts(rng, 60, shift=moved(bulk=2.5))))
    one = LineMonitor(REFERENCE, expected_run_length=10_000, seed=3)
    two = LineMonitor(
        REFERENCE, expected_run_length=10_000, seed=3, calibration=restored(raw(kept), REFERENCE)
    )  # fmt: skip
    assert alarms(one, table) == alarms(two, table) != []
    assert one.state == two.state


def test_a_reference_with_a_signal_that_never_moves_is_kept_too() -> None:
    still = reference_of(np.repeat(parts(np.random.default_rng(0), 1), 40, axis=0))
    assert restored(raw(calibrated(still, seed=0)), still) is not None


def test_a_version_without_one_has_none_and_that_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert restored(NO_CALIBRATION, REFERENCE) is None
    assert caplog.records == []
    assert in_words(NO_CALIBRATION, REFERENCE) == "5 signals, reference of 75 images, thresholds found by the watcher"


def test_a_reference_that_is_too_small_is_stored_without_and_said(caplog: pytest.LogCaptureFixture) -> None:
    assert calibrated(reference_of(parts(np.random.default_rng(1), 5)), seed=0) is None
    assert "cannot be watched: drift reference of 5 images" in caplog.text


def test_how_long_it_took_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        calibrated(REFERENCE, seed=0)
    assert "drift thresholds of 5 signals: " in caplog.text


TAMPERED: dict[str, tuple[dict[str, Any], str]] = {
    "a threshold": ({"start": [[1e9] * 6, [1e9] * 6]}, "or was changed"),
    "another seed": ({"seed": 9}, "or was changed"),
    "other signals": ({"names": ["peak", "bulk", "mean", "contrast", "noise"]}, "of the signals peak, bulk, .*noise, the"),
    "fewer signals": ({"names": ["peak", "bulk"]}, "of the signals peak, bulk, the reference has"),
    "another method": ({"method": "1-of another program"}, "method 1-of another program, this program's is 1-"),
    "a method of words": ({"method": 7}, "cannot be read"),
    "not a number": ({"correlation": [None] * 5}, "cannot be read"),
    "three levels": ({"levels": [[1.0, 2.0]] * 3}, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(TAMPERED))
def test_one_that_does_not_fit_is_ignored_in_words(
    case: str, kept: DriftCalibration, caplog: pytest.LogCaptureFixture
) -> None:
    changes, words = TAMPERED[case]
    broken = raw(json.loads(msgspec.json.encode(kept)) | changes)
    assert restored(broken, REFERENCE) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.search(f"is not used, the version is calibrated anew: .*{words}", record.getMessage())
    assert re.search(f"stored thresholds not used: .*{words}", in_words(broken, REFERENCE))


@pytest.mark.parametrize("body", [b"7", b'"text"', b"[]", b"{}", b'{"method": "1"}', b"{", b"\xff"])
def test_what_is_no_calibration_is_ignored_in_words(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert restored(msgspec.Raw(body), REFERENCE) is None
    assert "cannot be read" in caplog.text


def test_one_of_another_reference_is_ignored(kept: DriftCalibration, caplog: pytest.LogCaptureFixture) -> None:
    other = reference_of(parts(np.random.default_rng(2), 75))
    assert restored(raw(kept), other) is None
    assert "another reference" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": np.full((2, 6), np.nan)}, "cannot be read"),
        ({"length": np.full((2, 6), np.inf)}, "cannot be read"),
        ({"start": np.full((2, 5), 1.0)}, "thresholds of [5, 4, 4, 5, 5] signals, the reference 5"),
        ({"length": np.zeros((2, 6))}, "no length"),
        ({"levels": ((1_000.0, 2.0), (1_000.0, 3.0))}, "do not rise"),
        ({"levels": ((1_000.0, 4.0), (10_000.0, 3.0))}, "do not rise"),
    ],
)
def test_numbers_that_are_no_thresholds_are_ignored_whoever_wrote_them(
    changes: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    names, table_NS = reference_table(REFERENCE)
    whole = calibrate(names, table_NS, seed=3)
    known = dataclasses.replace(whole.known, **changes)
    wrong = calibrating.calibration_of(names, table_NS, whole.correlation, known)
    assert restored(raw(stored_of(wrong, table_NS, seed=3)), REFERENCE) is None
    assert words in caplog.text


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [(calibrating, "CLIP", 4.0), (calibrating, "_MARGINS", np.ones(2)), (bootstrap, "_TAIL", 0.8)],
)
def test_another_constant_is_another_method(
    module: Any, name: str, value: object, kept: DriftCalibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept.method == stored_calibration.method()
    monkeypatch.setattr(module, name, value)
    assert restored(raw(kept), REFERENCE) is None
