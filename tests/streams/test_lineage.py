"""From a verdict to everything behind it, from an image to the models that learnt it, and which versions learnt a defect."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from detectors.errors import NotFound
from detectors.manifest import read_manifest
from detectors.objects import image_key
from detectors.registry import Registry
from detectors.store import FolderStore
from streams.ledger import GateResult, LearntFrom, Ledger
from streams.lineage import affected_versions, image_lineage, learnt_by, version_story
from streams.lineage_words import image_words, version_words
from streams.messages import ModelPromoted, Review
from tests.detectors.artefacts import artefact
from tests.streams.test_ledger import incident, request, verdict

LINE = "tiles"
DIGEST = hashlib.sha256(b"part").hexdigest()
MONDAY = image_key(LINE, DIGEST, at=0.0, suffix="png")
TUESDAY = image_key(LINE, DIGEST, at=86_400.0, suffix="jpg")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(FolderStore(tmp_path / "objects"))


def publish(
    registry: Registry,
    *keys: str,
    left_out: dict[str, str] | None = None,
    parent: int | None = None,
    request_id: str | None = None,
) -> int:
    """A version that learnt from `keys`."""
    files = artefact(LINE, content=f"tensors of {keys} {request_id}")
    manifest = msgspec.structs.replace(
        read_manifest(files["manifest.json"]),
        training_keys=keys,
        left_out=left_out or {},
        parent=parent,
        request_id=request_id,
    )
    return registry.publish(LINE, files | {"manifest.json": msgspec.json.encode(manifest)})


def say(ledger: Ledger, image_id: str, says: str, *, by: str = "ana", at: float = 9.0) -> None:
    ledger.record([Review(line=LINE, image_id=image_id, says=says, note="", by=by, at=at)])


def key(image_id: str) -> str:
    return f"images/{image_id}.png"


def carried_out(ledger: Ledger, registry: Registry) -> int:
    """Request r1 as a run carries it out: a training set, two gates, a version after version 1, promoted."""
    asked = msgspec.structs.replace(request("r1"), incident_id="i1", cause="covariate_drift")
    ledger.record([asked, incident("opened")])
    ledger.begin_request("r1", run_id="run-17", attempt=2, at=3.0)
    chosen = [LearntFrom(key(name), "fit") for name in "abs"]
    chosen += [LearntFrom(key("h"), "held_out"), LearntFrom(key("x"), "left_out", "unreadable: torn")]
    ledger.note_training_images(LINE, "r1", chosen)
    ledger.note_gate("r1", GateResult("latency_and_size", True, 81.0, 1000.0, "81 ms an image"))
    version = publish(registry, key("a"), key("b"), key("s"), left_out={key("s"): "suspect"}, parent=1, request_id="r1")
    registry.promote(LINE, version)
    ledger.end_request("r1", outcome="promoted", version=version, detail="all gates passed", at=6.0)
    ledger.record([
        ModelPromoted(line=LINE, version=version, previous=1, sequence=2, by="driftline", why="covariate_drift", at=7.0)
    ])  # fmt: skip
    return version


def test_a_version_knows_its_request_run_incident_gates_promotions_and_ancestors(
    ledger: Ledger, registry: Registry
) -> None:
    publish(registry, "folder/1.png")
    version = carried_out(ledger, registry)
    registry.set_operating_point(
        LINE, version, threshold=3.0, by="ana", why="scrap", at=8.0, preview="would have flagged 1"
    )
    story = version_story(ledger, registry, LINE, version)
    assert story.marks == ("champion",)
    assert story.request is not None
    assert (story.request.run_id, story.request.attempt) == ("run-17", 2)
    assert story.incident is not None
    assert [each.version for each in story.ancestors] == [1]
    assert [point.revision for point in story.operating_points] == [1, 2]
    said = "\n".join(version_words(story))
    for told in (
        "request r1 of 1970-01-01", "promoted, all gates passed", "Dagster run run-17, attempt 2",
        "because of incident i1: covariate_drift, bulk", "gate latency_and_size passed: 81 ms an image",
        "learnt from 2 images, 1 held out to judge it, 2 left out (1 unreadable, 1 suspect)",
        "after version 1 (manual)", "in service from 1970-01-01 00:00:07Z by driftline (covariate_drift), before it 1",
        "threshold 3, revision 2, 1970-01-01 00:00:08Z by ana: scrap; would have flagged 1",
    ):  # fmt: skip
        assert told in said


def test_a_version_of_a_folder_has_a_story_too(ledger: Ledger, registry: Registry) -> None:
    version = publish(registry, "folder/1.png")
    words = version_words(version_story(ledger, registry, LINE, version))
    assert "made by hand, no request" in words
    assert "the line's first" in words
    assert "never in service" in words
    assert "learnt from 1 images, none left out" in words


def test_a_chain_of_parents_ends_where_one_is_gone_or_comes_again(ledger: Ledger, registry: Registry) -> None:
    publish(registry, "a", parent=3)
    publish(registry, "b", parent=1)
    publish(registry, "c", parent=2)
    publish(registry, "d", parent=99)
    assert [each.version for each in version_story(ledger, registry, LINE, 3).ancestors] == [2, 1, 3]
    assert "after version 99, which is gone" in version_words(version_story(ledger, registry, LINE, 4))


def test_an_image_names_the_models_that_learnt_from_it_and_those_that_did_not_and_why(
    ledger: Ledger, registry: Registry
) -> None:
    publish(registry, key("a"), "folder/1.png")  # from a folder: the ledger knows nothing of it
    version = carried_out(ledger, registry)
    ledger.record([request("r2", at=9.0)])
    ledger.note_training_images(LINE, "r2", [LearntFrom(key("a"), "held_out")])

    def told(image_id: str) -> list[tuple[int | None, str, str]]:
        return [(row.version, row.role, row.why) for row in learnt_by(ledger, registry, LINE, [key(image_id)])]

    assert told("a") == [(1, "fit", ""), (version, "fit", ""), (None, "held_out", "")]
    assert told("s") == [(version, "left_out", "suspect")], "the fit left it out, whatever was chosen"
    assert told("x") == [(version, "left_out", "unreadable: torn")]
    assert told("nowhere") == []


def test_a_version_whose_request_has_not_ended_is_named(ledger: Ledger, registry: Registry) -> None:
    ledger.record([request("r1")])
    ledger.note_training_images(LINE, "r1", [LearntFrom(key("a"), "fit")])
    version = publish(registry, key("a"), request_id="r1")
    assert [row.version for row in learnt_by(ledger, registry, LINE, [key("a")])] == [version]


def test_the_same_picture_under_another_day_is_the_same_image(ledger: Ledger, registry: Registry) -> None:
    version = publish(registry, MONDAY)
    assert [row.version for row in learnt_by(ledger, registry, LINE, [TUESDAY])] == [version]


def test_versions_that_learnt_a_part_which_stands_as_a_defect_are_affected(ledger: Ledger, registry: Registry) -> None:
    publish(registry, key("b"), "folder/1.png")
    version = carried_out(ledger, registry)
    publish(registry, key("z"))
    ledger.record([verdict(name) for name in "abhsxz"])
    assert affected_versions(ledger, registry, LINE) == {}
    for name in "bhsx":  # held out, suspect and unreadable: learnt by nobody
        say(ledger, name, "defect")
    say(ledger, "a", "normal")
    found = affected_versions(ledger, registry, LINE)
    assert {number: [each.image_id for each in images] for number, images in found.items()} == {
        1: ["b"],
        version: ["b"],
    }
    assert version_story(ledger, registry, LINE, version).affected == found[version]
    assert (
        "1 of its training images stand as defects now: b"
        in version_words(version_story(ledger, registry, LINE, version))[-1]
    )
    say(ledger, "b", "normal", at=10.0)
    assert affected_versions(ledger, registry, LINE) == {}, "taken back"


def test_a_verdict_leads_to_the_version_and_all_behind_it(ledger: Ledger, registry: Registry) -> None:
    publish(registry, "folder/1.png")
    version = carried_out(ledger, registry)
    ledger.record([verdict("b", at=8.0, version=version, score=3.0, flagged=True)])
    say(ledger, "b", "defect")
    lineage = image_lineage(ledger, registry, LINE, "b")
    assert lineage.judged_by is not None
    assert lineage.judged_by.request is not None
    assert [each.image_key for each in lineage.judged_by.training if each.role == "fit"] == [key(n) for n in "abs"]
    said = "\n".join(image_words(lineage))
    for told in (
        f"by version {version}: score 3, flagged at 2 (revision 1)", "stored as images/b.png", "ana says defect",
        f"learnt by version {version}", "Dagster run run-17", "AFFECTED: 1 of its training images",
    ):  # fmt: skip
        assert told in said
    assert msgspec.json.decode(msgspec.json.encode(lineage))["judged_by"]["request"]["run_id"] == "run-17"


def test_an_image_that_only_taught_is_found_by_its_key_and_an_unknown_one_is_refused(
    ledger: Ledger, registry: Registry
) -> None:
    publish(registry, MONDAY)
    words = image_words(image_lineage(ledger, registry, LINE, MONDAY))
    assert "not judged" in words
    assert "learnt by version 1" in words
    with pytest.raises(NotFound, match=r"'tiles' knows no image 'gone'; give the id"):
        image_lineage(ledger, registry, LINE, "gone")


def test_a_verdict_whose_version_is_gone_still_has_a_story(ledger: Ledger, registry: Registry) -> None:
    ledger.record([verdict("a", version=7)])
    lineage = image_lineage(ledger, registry, LINE, "a")
    assert lineage.judged_by is None
    assert "version 7 is not in the registry any more" in image_words(lineage)
