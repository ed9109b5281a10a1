"""Which images a candidate learns from, which prove it, and which do neither."""

from collections.abc import Sequence
from typing import Any

import pytest

from detectors.artifact import Provenance
from detectors.errors import InvalidInput
from detectors.extractors import ExtractorCache
from detectors.images import encode_png
from detectors.manifest import read_manifest
from detectors.store import FolderStore
from orchestration.material import DEFECT_BY_A_PERSON, Material
from orchestration.training import fit_candidate, pack_candidate
from orchestration.training_set import (
    DEFECTIVE_PART,
    LEAST_HELD_OUT,
    TrainingSet,
    choose_images,
    keep_snapshot,
    learnt_from,
    read_snapshot,
)
from orchestration.workbench import Workbench
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


REQUEST = RetrainRequest(
    line="l",
    request_id="r",
    cause="manual",
    mode="blind",
    image_keys=(),
    parent_version=None,
    alarm_at=None,
    requested_at=0.0,
)
ONCE = tuple(f"1.0/{number}" for number in range(PARTS))
AGAIN = tuple(f"0.8/{number}" for number in range(PARTS))


def chosen(bench: Workbench, keys: Sequence[str], **more: Any) -> TrainingSet:
    material = Material(recent=tuple(keys), **more)
    return choose_images(REQUEST, material, bench, bench.extractor(LineConfig(image_size=128)))


def part(key: str) -> str:
    return key.partition("/")[2]


def test_no_part_is_both_learnt_and_judged_by(bench: Workbench) -> None:
    window = [*ONCE, "copy", "torn", *AGAIN]
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
    with pytest.raises(InvalidInput, match="0 different usable images in a window of 0"):
        chosen(bench, [])


def test_a_defective_part_is_left_out_on_every_image_of_it(bench: Workbench) -> None:
    made = chosen(bench, [*ONCE, *AGAIN], left_out={"1.0/3": DEFECT_BY_A_PERSON, "0.8/5": "a fault of the camera"})
    assert made.left_out["1.0/3"] == DEFECT_BY_A_PERSON
    assert made.left_out["0.8/3"] == DEFECTIVE_PART
    assert {part(key) for key in (*made.fit, *made.held_out)} == {str(number) for number in range(PARTS)} - {"3"}
    assert "0.8/5" not in (*made.fit, *made.held_out)
    assert "1.0/5" not in made.left_out or "held out" in made.left_out["1.0/5"], (
        "only a person's word is about the part"
    )


def test_what_people_vouch_for_is_learnt_and_not_held_out(bench: Workbench) -> None:
    plain = chosen(bench, ONCE)
    vouched = chosen(bench, ONCE, vouched=plain.held_out)
    assert set(plain.held_out) <= set(vouched.fit)
    assert set(vouched.vouched) == set(plain.held_out)
    assert len(vouched.held_out) == LEAST_HELD_OUT
    everything = chosen(bench, (), vouched=ONCE)
    assert len(everything.held_out) == LEAST_HELD_OUT, "where all are vouched for, some of them must prove it"


def test_a_snapshot_is_kept_under_its_digest(bench: Workbench) -> None:
    made = chosen(bench, ONCE)
    key = keep_snapshot(bench.store, made)
    assert keep_snapshot(bench.store, made) == key
    assert read_snapshot(bench.store, key) == made
    roles = {each.image_key: (each.role, each.why) for each in learnt_from(made, {made.fit[0]: "suspect"})}
    assert roles[made.fit[0]] == ("left_out", "suspect")
    assert roles[made.fit[1]] == ("fit", "")
    assert roles[made.held_out[0]] == ("held_out", "")


def test_a_candidate_carries_the_thresholds_of_its_drift_watch(bench: Workbench) -> None:
    config = LineConfig(image_size=64, detector="patchcore", bank=200)
    keys = [f"1.0/{number}" for number in range(PARTS)]
    made = TrainingSet(line="l", request_id="r", fit=tuple(keys[1:]), held_out=tuple(keys[:1]), left_out={})
    model = fit_candidate(made, bench, bench.extractor(config), config)
    origin = Provenance("l", "blind", "manual", None, "r", created_at=1.0, code_version="1", metrics={})
    manifest = read_manifest(pack_candidate(model, made, bench, origin, config)["manifest.json"])
    assert restored(manifest.calibration, manifest.reference) is not None


def test_auto_takes_the_detector_that_the_gate_finds_best_and_says_what_each_found(bench: Workbench) -> None:
    config = LineConfig(image_size=64, detector="auto", bank=200)
    made = TrainingSet(line="l", request_id="r", fit=ONCE[6:], held_out=ONCE[:6], left_out={})
    model = fit_candidate(made, bench, bench.extractor(config), config)
    found = {note.partition(":")[0]: float(note.rpartition(" ")[2]) for note in model.notes if "AUROC" in note}
    assert set(found) == {"patchcluster", "patchcore", "padim", "dfkde"}
    assert found[model.detector.name] >= max(found.values()) - 0.02
    assert f"chosen: {model.detector.name}" in model.notes


def test_trusted_images_are_learnt_by_a_detector_that_trusts_them(bench: Workbench) -> None:
    config = LineConfig(image_size=64, bank=200)
    made = TrainingSet(line="l", request_id="r", fit=ONCE[6:], held_out=ONCE[:6], left_out={}, mode="trusted")
    assert fit_candidate(made, bench, bench.extractor(config), config).detector.name == "patchcore"
