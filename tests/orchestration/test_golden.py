"""Which reviewed images become a line's golden set, and that a version of it is what it was."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from detectors.errors import NotFound
from detectors.images import Image
from detectors.store import FolderStore
from orchestration.golden import (
    DEFECTS_KEPT,
    NORMALS_KEPT,
    GoldenSet,
    choose,
    freeze,
    golden_set,
    known_images,
    read_golden,
    versions,
)
from streams.reviews import ReviewedPart
from tests.orchestration.gate_line import LINE, verdict_of

PIXELS: Image = np.zeros((8, 8, 3), np.uint8)


def part(name: str, says: str, *, at: float, version: int = 1, flagged: bool = False) -> ReviewedPart:
    return ReviewedPart(verdict_of(f"images/{name}.png", at=at, version=version, flagged=flagged), says, at + 1)


def all_there(keys: Iterable[str]) -> tuple[dict[str, Image], dict[str, str]]:
    return dict.fromkeys(keys, PIXELS), {}


def test_a_few_reviews_are_all_kept_and_unsure_ones_are_none() -> None:
    parts = [part("a", "defect", at=1.0), part("b", "normal", at=2.0), part("c", "unsure", at=3.0)]
    chosen, pixels = golden_set(LINE, parts, all_there)
    assert [(each.key, each.says) for each in chosen.images] == [("images/a.png", "defect"), ("images/b.png", "normal")]
    assert list(pixels) == ["images/a.png", "images/b.png"]


def test_of_many_the_latest_half_is_kept_and_the_rest_is_shared_among_models_and_their_verdicts() -> None:
    old = [part(f"old-{i}", "defect", at=i, version=1, flagged=i != 7) for i in range(10)]
    many = [part(f"many-{i}", "defect", at=100 + i, version=2, flagged=True) for i in range(1000)]
    normals = [part(f"normal-{i}", "normal", at=i, version=1) for i in range(200)]
    kept = choose(known_images([*old, *many, *normals]))
    assert sum(each.says == "normal" for each in kept) == NORMALS_KEPT
    defects = [each for each in kept if each.says == "defect"]
    assert len(defects) == DEFECTS_KEPT
    assert {f"images/many-{i}.png" for i in range(1000 - DEFECTS_KEPT // 2, 1000)} <= {each.key for each in defects}
    assert "images/old-7.png" in {each.key for each in defects}, "the one that its model missed"
    assert 9 <= sum(each.version == 1 for each in defects) <= 11


def test_another_review_changes_little_of_the_set() -> None:
    parts = [part(f"{i}", "defect", at=i, version=i // 100) for i in range(500)]
    before, after = choose(known_images(parts)), choose(known_images([*parts, part("new", "defect", at=999.0)]))
    assert len({each.key for each in after} - {each.key for each in before}) <= 2


def test_pixels_that_were_judged_twice_count_once_and_as_a_defect_if_one_is_called_so() -> None:
    twice = [part("monday/x", "defect", at=1.0), part("tuesday/x", "normal", at=2.0), part("y", "normal", at=3.0)]
    for parts in (twice, twice[::-1]):
        assert [(each.key, each.says) for each in known_images(parts)] == [
            ("images/monday/x.png", "defect"),
            ("images/y.png", "normal"),
        ]


def test_images_whose_pixels_are_gone_leave_their_places_to_others_and_are_named() -> None:
    parts = [part(f"{i}", "defect", at=i) for i in range(DEFECTS_KEPT + 10)]
    gone = {f"images/{i}.png" for i in range(45, 50)}

    def read(keys: Iterable[str]) -> tuple[dict[str, Image], dict[str, str]]:
        wanted = list(keys)
        return {key: PIXELS for key in wanted if key not in gone}, {key: "no object" for key in wanted if key in gone}

    chosen, _ = golden_set(LINE, parts, read)
    assert len(chosen.images) == DEFECTS_KEPT
    assert chosen.gone == dict.fromkeys(gone, "no object")
    nothing, _ = golden_set(LINE, parts, lambda keys: ({}, dict.fromkeys(keys, "no object")))
    assert nothing.images == ()
    assert len(nothing.gone) == DEFECTS_KEPT + 10


def test_the_same_content_is_the_same_version_and_a_version_stays_as_it_is(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    one, _ = golden_set(LINE, [part("a", "defect", at=1.0)], all_there)
    two, _ = golden_set(LINE, [part("a", "normal", at=1.0)], all_there)
    assert [freeze(store, each) for each in (one, one, two, one, two)] == [1, 1, 2, 1, 2]
    assert versions(store, LINE) == [1, 2]
    assert read_golden(store, LINE, 1) == one
    assert read_golden(store, LINE, 2) == two
    assert freeze(store, GoldenSet(line="other", images=one.images)) == 1
    with pytest.raises(NotFound, match="no golden set 3; it has 2"):
        read_golden(store, LINE, 3)


def test_a_freeze_that_was_killed_half_way_is_carried_on(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    one, _ = golden_set(LINE, [part("a", "defect", at=1.0)], all_there)
    assert freeze(store, one) == 1
    (by_content,) = [key for key in store.keys("golden/") if "/contents/" in key]
    (tmp_path / by_content).unlink()
    assert freeze(store, one) == 1
    assert versions(store, LINE) == [1]
