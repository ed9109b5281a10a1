"""Kinds, places and shapes of changes whose truth is known, and images that show no part."""

import numpy as np
import pytest

from detectors.maps import REGIONS
from streams.bootstrap import Array
from streams.calibrating import FIELDS, Contrast
from streams.camera_faults import BLACK, BLOWN, BLUR, COVERED, OTHER, Usable
from streams.classifying import LOCAL_MARGIN, Measure, Parts, classify, drift_map, place_of, shape_of

NAMES = ("peak", "bulk", "mean", "over")


def sure(mean: float, *, images: int = 100) -> Parts:
    """Parts of so many images by one measure, of which 0.05 is usual."""
    return Parts((Measure(mean, usual=0.05, limit=0.1),), images)


def scores(rng: np.random.Generator, images: int, **shifts: float) -> Array:
    return rng.standard_normal((images, len(NAMES))) + [shifts.get(name, 0.0) for name in NAMES]


@pytest.mark.parametrize(
    ("shifts", "fired", "parts", "kinds"),
    [
        ({"bulk": 2.0, "peak": 1.5}, "bulk", sure(0.05), ("covariate_drift",)),
        ({"bulk": 2.0, "peak": 3.0, "over": 9.0}, "over", sure(0.05), ("covariate_drift",)),
        ({"mean": -3.0}, "mean", sure(0.05), ("covariate_drift",)),
        ({"peak": 0.5}, "suspicion", sure(0.3), ("defect_surge",)),
        ({"peak": 0.5}, "suspicion", sure(0.05), ("defect_surge",)),
        ({"bulk": 2.0}, "bulk", sure(0.3), ("covariate_drift", "defect_surge")),
        ({"bulk": 2.0}, "bulk", sure(0.3, images=20), ("covariate_drift",)),
    ],
)
def test_kinds(shifts: dict[str, float], fired: str, parts: Parts, kinds: tuple[str, ...]) -> None:
    finding = classify(NAMES, scores(np.random.default_rng(0), 60, **shifts), fired, parts)
    assert finding.kinds == kinds
    assert 0.5 < finding.confidence <= 1
    assert finding.evidence


def test_a_measure_is_by_the_line_itself_where_it_is_known() -> None:
    """A line whose parts always looked suspicious has no surge when they go on to."""
    suspicious = np.full(300, 1.4)
    alone = Measure.of(suspicious[:64], np.zeros(0), usual=0.05, margin=LOCAL_MARGIN)
    known = Measure.of(suspicious[:64], suspicious, usual=0.05, margin=LOCAL_MARGIN)
    assert alone.mean == known.mean == pytest.approx(0.2)
    assert alone.mean > alone.limit
    assert known.mean < known.limit


def test_what_stands_out_does_so_whatever_all_of_the_image_did() -> None:
    rng = np.random.default_rng(0)
    reference = np.exp(rng.normal(0, 0.05, (200, 6)))
    contrast = Contrast.on(reference, tuple(range(6)), tuple(range(6)))
    brighter = 3.0 * np.exp(rng.normal(0, 0.05, (100, 6)))
    assert np.median(contrast.of(brighter)) == pytest.approx(0.0, abs=0.3)
    brighter[:, 2] *= 1.5
    assert np.median(contrast.of(brighter)) > 3
    assert np.median(contrast.by_own(brighter)) == pytest.approx(0.0, abs=0.3)
    brighter[::4, 4] *= 2.0
    assert (contrast.by_own(brighter)[::4] > 3).all()


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({(0, 0), (0, 1), (1, 0)}, "top left"),
        ({(3, 3)}, "bottom right"),
        ({(0, column) for column in range(REGIONS)}, "top"),
        ({(row, 3) for row in range(REGIONS)}, "right"),
        ({(1, 1), (1, 2), (2, 1), (2, 2)}, "centre"),
        ({(row, column) for row in range(REGIONS) for column in range(REGIONS)}, "everywhere"),
        (set(), "nowhere in particular"),
    ],
)
def test_places(fields: set[tuple[int, int]], place: str) -> None:
    rng = np.random.default_rng(1)
    moved = np.array([4.0 * ((row, column) in fields) for row in range(REGIONS) for column in range(REGIONS)])
    z_TS = np.concatenate((rng.standard_normal((60, 2)), rng.normal(moved, 1.0, (60, len(FIELDS)))), axis=1)
    where = drift_map(("peak", "bulk", *FIELDS), z_TS)
    assert np.allclose(where, moved, atol=0.7)
    assert place_of(where) == place


def test_an_older_reference_names_no_place() -> None:
    assert drift_map(NAMES, np.zeros((10, 4))) == ()
    assert place_of(()) == ""


def test_a_ramp_rises_and_a_step_has_risen() -> None:
    rng = np.random.default_rng(2)
    assert shape_of(np.linspace(0, 4, 60) + rng.normal(0, 0.5, 60)) == "ramp"
    assert shape_of(np.full(60, 4.0) + rng.normal(0, 0.5, 60)) == "step"
    assert shape_of(np.linspace(0, 4, 5)) == "step", "too few to tell"


SEEN = ("bulk", "mean", "contrast", "sharpness", "saturated", "over")
KNOWN = np.array([1.0, 110.0, 30.0, 9.0, 0.01, 0.02]) * np.random.default_rng(3).normal(1, 0.05, (60, 1))


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        ({}, None),
        ({"mean": 1.0, "contrast": 0.5}, BLACK),
        ({"mean": 254.0, "contrast": 1.0}, BLOWN),
        ({"saturated": 0.9}, BLOWN),
        ({"contrast": 2.0}, COVERED),
        ({"contrast": 13.0}, None),
        ({"contrast": 13.0, "over": 0.9}, COVERED),
        ({"sharpness": 0.5}, BLUR),
        ({"sharpness": 1.8, "over": 0.9}, BLUR),
        ({"over": 0.9}, OTHER),
        ({"bulk": 9.0}, OTHER),
        ({"bulk": 2.0, "mean": 180.0, "over": 0.4}, None),
    ],
)
def test_images_that_show_no_part(image: dict[str, float], fault: str | None) -> None:
    usable = Usable.of(SEEN, KNOWN)
    row = np.array([image.get(name, usual) for name, usual in zip(SEEN, np.median(KNOWN, axis=0), strict=True)])
    assert usable.fault(row) == fault
    assert bool(usable.shows(row[None])[0]) or fault is not None


def test_a_reference_that_lacks_signals_has_fewer_limits() -> None:
    usable = Usable.of(("bulk", "over"), KNOWN[:, [0, 5]])
    assert usable.fault(np.array([1.0, 0.99])) == OTHER
    assert usable.fault(np.array([1.0, 0.1])) is None
