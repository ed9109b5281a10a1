"""What the ledger knows of training sets and of people's words on parts, on SQLite and PostgreSQL."""

from streams.ledger import AuditEntry, LearntFrom, Ledger
from streams.messages import Review
from tests.streams.test_ledger import request, verdict


def said(image_id: str, says: str, *, by: str = "ana", at: float = 1.0) -> Review:
    return Review(line="tiles", image_id=image_id, says=says, note="", by=by, at=at)


def test_what_stands_of_a_part_is_the_latest_word_of_each_person_and_defect_before_normal(url: str) -> None:
    ledger = Ledger.open(url)
    ledger.record([verdict(name) for name in "abc"])
    ledger.record([said("b", "defect", at=1.0), said("b", "normal", by="bo", at=2.0)])
    ledger.record([said("a", "defect", at=1.0), said("a", "normal", at=3.0), said("gone", "defect")])
    assert [(part.verdict.image_id, part.says, part.at) for part in ledger.reviewed("tiles")] == [
        ("b", "defect", 2.0),
        ("a", "normal", 3.0),
    ]


def test_an_image_knows_the_models_that_learnt_from_it(url: str) -> None:
    ledger = Ledger.open(url)
    ledger.record([request("r1", at=1.0), request("r2", at=2.0)])
    first = [LearntFrom(image_key="k1", role="fit"), LearntFrom(image_key="k2", role="left_out", why="defect")]
    ledger.note_training_images("tiles", "r1", [LearntFrom(image_key="k9", role="fit")])
    ledger.note_training_images("tiles", "r1", first)
    ledger.note_training_images("tiles", "r2", [LearntFrom(image_key="k1", role="held_out")])
    ledger.begin_request("r1", run_id="x", attempt=1, at=3.0)
    ledger.end_request("r1", outcome="promoted", version=7, detail="", at=4.0)
    found = ledger.training_images("tiles", ["k1"])
    assert [(each.request_id, each.role, each.version) for each in found] == [
        ("r1", "fit", 7),
        ("r2", "held_out", None),
    ]
    assert [each.why for each in ledger.training_images("tiles", ["k2"])] == ["defect"]
    assert ledger.training_images("tiles", ["k9"]) == []


def test_images_that_people_spoke_of_since_a_moment_are_counted_once_each(ledger: Ledger) -> None:
    said = [("a", "ana", 1.0), ("a", "bo", 2.0), ("b", "ana", 2.0), ("c", "ana", 3.0)]
    ledger.record(
        [Review(line="tiles", image_id=image, says="normal", note="", by=by, at=at) for image, by, at in said]
    )
    assert [ledger.reviewed_since("tiles", since) for since in (0.0, 1.0, 2.0, 3.0)] == [3, 3, 1, 0]
    assert ledger.reviewed_since("doors", 0.0) == 0


def test_what_a_request_waits_for_is_noted_until_a_run_takes_it_up(ledger: Ledger) -> None:
    ledger.record([request("r1")])
    for detail in ("waits for 2 more images", "waits for 1 more image", None, "waits for 3 more images"):
        ledger.note_waiting("r1", detail)
        assert [row.detail for row in ledger.requests("tiles")] == [detail]
    assert ledger.begin_request("r1", run_id="run", attempt=1, at=2.0)
    ledger.note_waiting("r1", "waits for 4 more images")
    assert [(row.state, row.detail) for row in ledger.requests("tiles")] == [("running", None)]


def test_only_a_request_that_no_run_has_taken_up_is_cancelled_and_audited(ledger: Ledger) -> None:
    ledger.record([request("r1"), request("r2")])
    ledger.begin_request("r1", run_id="run", attempt=1, at=2.0)
    entry = AuditEntry(3.0, "ana", "engineer", "cancel", "tiles", "stopped")
    assert [ledger.cancel_waiting(entry, request_id) for request_id in ("r1", "r2", "r2", "nobody")] == [
        False, True, False, False,
    ]  # fmt: skip
    assert {row.request.request_id: row.state for row in ledger.requests("tiles")} == {
        "r1": "running",
        "r2": "cancelled",
    }
    assert ledger.audit() == [entry]
