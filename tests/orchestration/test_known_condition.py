"""How near images lie to a version's reference, and which versions are asked at all."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from detectors.registry import Registry
from detectors.store import FolderStore
from orchestration.known_condition import (
    MOST_VERSIONS,
    alike,
    columns_of_signals,
    compared,
    likeness,
    manifests,
)
from streams.messages import Signals
from tests.detectors.artefacts import artefact
from tests.streams.scoring_line import texture

NAMES = ("peak", "bulk", "mean", "contrast", "sharpness")


def drawn(images: int, *, seed: int, **shift: float) -> dict[str, list[float]]:
    """Signals of so many images, each of spread 1 around 100, some of them shifted."""
    rng = np.random.default_rng(seed)
    return {name: (100 + shift.get(name, 0.0) + rng.standard_normal(images)).tolist() for name in NAMES}


def reference(images: int = 100) -> DriftReference:
    return msgspec.convert({name: tuple(column) for name, column in drawn(images, seed=0).items()}, DriftReference)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**6))
def test_images_of_the_same_condition_are_within(seed: int) -> None:
    found = likeness(reference(), drawn(30, seed=seed))
    assert found.is_within, found.words


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**6), st.sampled_from(["bulk", "mean", "contrast", "sharpness"]), st.sampled_from([-2.5, 2.5]))
def test_a_change_of_any_signal_of_the_line_is_not(seed: int, name: str, shift: float) -> None:
    found = likeness(reference(), drawn(30, seed=seed, **{name: shift}))
    assert not found.is_within
    assert found.signal == name


def test_parts_that_look_better_than_ever_are_no_other_condition() -> None:
    assert likeness(reference(), drawn(30, seed=1, peak=-4.0)).is_within
    assert not likeness(reference(), drawn(30, seed=1, peak=4.0)).is_within


def test_fewer_images_are_allowed_more() -> None:
    few, many = (likeness(reference(), drawn(images, seed=1)).limit for images in (20, 60))
    assert few > many > 0.5


def test_a_bad_part_in_ten_moves_nothing() -> None:
    seen = drawn(30, seed=1)
    spoilt = {name: [value + 50.0 if at % 10 == 0 else value for at, value in enumerate(seen[name])] for name in NAMES}
    assert likeness(reference(), spoilt).is_within


def test_signals_that_the_reference_does_not_know_are_not_compared() -> None:
    assert likeness(reference(), drawn(30, seed=1) | {"warmth": [1e6] * 30}).is_within


def test_a_reference_that_is_too_small_is_refused() -> None:
    with pytest.raises(InvalidInput, match="5 images"):
        likeness(reference(5), drawn(30, seed=1))


def test_of_signals_those_that_all_images_have_are_columns() -> None:
    plain = dict.fromkeys(NAMES, 1.0)
    fields = tuple(float(at) for at in range(16))
    columns = columns_of_signals([Signals(**plain, over=0.5, regions=fields), Signals(**plain, regions=fields)])
    assert {"peak", "bulk", "bulk@r1c1", "bulk@r4c4"} <= columns.keys()
    assert not {"over", "warmth"} & columns.keys()
    assert columns["bulk@r4c4"] == [15.0, 15.0]


def test_windows_of_one_light_are_alike_and_those_of_two_are_not() -> None:
    day, more = ([texture(first + at) for at in range(30)] for first in (0, 100))
    night = [np.clip(image * 0.85, 0, 255).astype(np.uint8) for image in more]
    assert alike(day, more)
    assert not alike(day, night)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(FolderStore(tmp_path))


def test_the_newest_distinct_versions_are_asked_and_not_the_champion(registry: Registry) -> None:
    contents = ["a", "b", "b", "champion", "c", "d", "e", "f", "champion", "g"]
    for content in contents:
        registry.publish("tiles", artefact("tiles", content=content))
    registry.promote("tiles", 4)
    served = set(range(1, 10))  # the tenth never served
    assert list(manifests(registry, "tiles", served)) == [8, 7, 6, 5, 3]
    assert len(manifests(registry, "tiles", served)) == MOST_VERSIONS
    assert list(manifests(registry, "tiles", {1, 2})) == [2, 1]


def test_a_version_whose_manifest_cannot_be_read_is_none(registry: Registry, tmp_path: Path) -> None:
    for content in ("a", "b"):
        registry.publish("tiles", artefact("tiles", content=content))
    registry.promote("tiles", 2)
    next(tmp_path.rglob("versions/1/manifest.json")).write_bytes(b"torn")
    assert manifests(registry, "tiles", {1, 2}) == {}


def test_a_version_of_a_reference_too_small_is_told_of_and_not_loaded(registry: Registry) -> None:
    registry.publish("tiles", artefact("tiles"))
    candidates = {1: registry.manifest("tiles", 1)}

    def never(*_: object) -> tuple[bool, str]:
        raise AssertionError("loaded")

    (found,) = compared(
        [texture(at) for at in range(20)], candidates, spec=lambda: candidates[1].features, judges=never
    )
    assert not found.knows
    assert "cannot be compared" in found.words
