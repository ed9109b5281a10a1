"""Which images a candidate learns from, which prove it, and which do neither."""

import pytest

from detectors.artifact import Provenance
from detectors.errors import InvalidInput
from detectors.extractors import ExtractorCache
from detectors.images import encode_png
from detectors.manifest import read_manifest
from detectors.store import FolderStore
from orchestration.training import (
    LEAST_HELD_OUT,
    TrainingSet,
    Workbench,
    choose_images,
    fit_candidate,
    pack_candidate,
)
from streams.messages import RetrainRequest
from streams.rendered import RenderedLine
from streams.settings import LineConfig
from streams.stored_calibration import restored

PARTS = 24


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Parts 0 to 23 in two lights, part 0 a third time as a copy, and a file that is no image."""
    store, line = FolderStore(tmp_path_factory.mktemp("objects")), RenderedLine(seed=3)
    for number in range(PARTS):
        for light in (1.0, 0.8):
            store.put(f"{light}/{number}", encode_png(line.image(number, light=light)))
    store.put("copy", store.get("1.0/0"))
    store.put("torn", b"\x89PNG")
    return Workbench(store, ExtractorCache())


def chosen(bench: Workbench, keys: list[str]) -> TrainingSet:
    request = RetrainRequest(
        line="l", request_id="r", cause="manual", mode="blind", image_keys=tuple(keys), parent_version=None,
        alarm_at=None, requested_at=0.0,
    )  # fmt: skip
    return choose_images(request, bench, bench.extractor(LineConfig(image_size=128)))


def part(key: str) -> str:
    return key.partition("/")[2]


def test_no_part_is_both_learnt_and_judged_by(bench: Workbench) -> None:
    once = [f"1.0/{number}" for number in range(PARTS)]
    again = [f"0.8/{number}" for number in range(PARTS)]
    window = [*once, "copy", "torn", *again]
    made = chosen(bench, window)
    assert len(made.held_out) == LEAST_HELD_OUT
    judged = {part(key) for key in made.held_out}
    assert {part(key) for key in made.fit} == {str(number) for number in range(PARTS)} - judged
    assert len(made.fit) == 2 * (PARTS - LEAST_HELD_OUT)
    assert list(made.fit) == [key for key in window if key in made.fit]
    assert made.left_out["copy"] == "identical"
    assert made.left_out["torn"].startswith("unreadable")
    assert {part(key) for key, why in made.left_out.items() if "held out" in why} == judged
    assert {*made.fit, *made.held_out, *made.left_out} == set(window)


def test_too_few_images_are_refused_with_their_number(bench: Workbench) -> None:
    with pytest.raises(InvalidInput, match="19 different usable images in a window of 20"):
        chosen(bench, [*(f"1.0/{number}" for number in range(19)), "copy"])
    with pytest.raises(InvalidInput, match="0 different usable images in a window of 1"):
        chosen(bench, ["torn"])


def test_a_candidate_carries_the_thresholds_of_its_drift_watch(bench: Workbench) -> None:
    config = LineConfig(image_size=64, detector="patchcore", bank=200)
    keys = [f"1.0/{number}" for number in range(PARTS)]
    made = TrainingSet(line="l", request_id="r", fit=tuple(keys[1:]), held_out=tuple(keys[:1]), left_out={})
    model = fit_candidate(made, bench, bench.extractor(config), config)
    origin = Provenance("l", "blind", "manual", None, "r", created_at=1.0, code_version="1", metrics={})
    manifest = read_manifest(pack_candidate(model, made, bench, origin, config)["manifest.json"])
    assert restored(manifest.calibration, manifest.reference) is not None
