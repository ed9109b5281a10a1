"""The report of a replay against a ledger whose truth is known."""

from pathlib import Path

import msgspec
import pytest

from detectors.registry import Registry
from detectors.store import FolderStore
from orchestration.report import Run, SentImage, report_of
from streams.ledger import GateResult, Ledger
from streams.messages import DeadLetter, DriftIncident, ModelServing, RetrainRequest
from tests.detectors.artefacts import artefact
from tests.streams.test_ledger import collected, verdict

LINE = "tiles"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(FolderStore(tmp_path / "objects"))


def run(*sent: SentImage) -> Run:
    return Run("scenario", LINE, 7, ("calm", "step"), sent)


def sent(image_id: str, *, phase: str = "calm", bad: bool = False) -> SentImage:
    return SentImage(image_id, phase, bad, 0.0)


def letter_of(image_id: str) -> DeadLetter:
    return DeadLetter(
        line=LINE, source_topic="images", source_partition=0, source_offset=1, error="ImageError", reason="r", original=b"",
        headers=(("ce_id", image_id.encode()),), key=LINE.encode(), at=1.0,
    )  # fmt: skip


def test_what_was_sent_is_judged_collected_dead_or_lost(ledger: Ledger, registry: Registry) -> None:
    ledger.record([verdict("judged"), collected("waits"), letter_of("dead")])
    report = report_of(run(*(sent(name) for name in ("judged", "waits", "dead", "gone"))), ledger, registry)
    assert (report.sent, report.verdicts, report.collected, report.dead_letters, report.lost) == (4, 1, 1, 1, 1)
    assert report.doubled == 0


def test_a_dead_letter_that_was_put_back_and_judged_did_not_end_as_one(ledger: Ledger, registry: Registry) -> None:
    ledger.record([letter_of("mended"), verdict("mended")])
    report = report_of(run(sent("mended")), ledger, registry)
    assert (report.verdicts, report.dead_letters, report.lost) == (1, 0, 0)


def test_a_dead_letter_whose_id_is_no_text_does_not_stop_the_report(ledger: Ledger, registry: Registry) -> None:
    ledger.record([msgspec.structs.replace(letter_of("x"), headers=(("ce_id", b"\xff"),)), verdict("a")])
    assert report_of(run(sent("a")), ledger, registry).lost == 0


def test_the_worst_latency_and_overdue_verdicts_are_told_of_live_images(ledger: Ledger, registry: Registry) -> None:
    slow = msgspec.structs.replace(verdict("slow", at=2.0), latency_ms=900.0, overdue=True)
    waited = msgspec.structs.replace(verdict("waited", at=3.0), latency_ms=9e6, overdue=True, late=True)
    ledger.record([verdict("quick"), slow, waited])
    report = report_of(run(sent("quick"), sent("slow"), sent("waited")), ledger, registry)
    assert (report.overdue, report.latency_ms.max, report.verdicts) == (1, 900.0, 3)
    assert report_of(run(), ledger, registry).latency_ms.max is None


def test_verdicts_that_disagree_are_doubled_and_equal_ones_redelivered(ledger: Ledger, registry: Registry) -> None:
    ledger.record([verdict("a"), verdict("a"), verdict("b"), verdict("b", score=3.0)])
    report = report_of(run(sent("a"), sent("b")), ledger, registry)
    assert (report.redelivered, report.doubled) == (1, 1)


def test_each_model_is_judged_on_the_images_it_judged(ledger: Ledger, registry: Registry) -> None:
    ledger.record([
        verdict("g1", score=1.0), verdict("g2", score=3.0, flagged=True), verdict("b1", score=4.0, flagged=True),
        verdict("b2", score=2.0, version=2),
    ])  # fmt: skip
    images = [sent("g1"), sent("g2"), sent("b1", bad=True), sent("b2", bad=True)]
    calm, step = report_of(run(*images), ledger, registry).phases
    first, second = calm.by_model["1"], calm.by_model["2"]
    assert (first.good, first.flagged_good, first.bad, first.flagged_bad, first.image_auroc) == (2, 1, 1, 1, 1.0)
    assert (second.bad, second.flagged_bad, second.image_auroc) == (1, 0, None)
    assert step.sent == 0


def test_an_incident_counts_the_images_of_its_phase_before_the_alarm(ledger: Ledger, registry: Registry) -> None:
    incident = DriftIncident(
        line=LINE, incident_id="i", kind="covariate_drift", state="opened", version=1, signal="bulk", test="adwin", reference=1.0,
        observed=2.0, effect=2.0, since_image_id="s0", alarm_image_id="s2", after_images=3, at=1.0,
    )  # fmt: skip
    names = ["s0", "s1", "s2", "s3"]
    ledger.record([incident, *(verdict(name) for name in names)])
    calm, step = report_of(run(*(sent(name, phase="step") for name in names)), ledger, registry).phases
    assert calm.incidents == ()
    assert [(each.kind, each.signal, each.after_images) for each in step.incidents] == [("covariate_drift", "bulk", 3)]
    grown = msgspec.structs.replace(incident, state="growing", sequence=1, signal="peak", effect=4.0, at=2.0)
    ledger.record([grown, msgspec.structs.replace(grown, state="closed", sequence=2)])
    assert report_of(run(*(sent(name, phase="step") for name in names)), ledger, registry).phases == (calm, step)


def test_a_version_tells_its_times_and_gates(ledger: Ledger, registry: Registry) -> None:
    request = RetrainRequest(
        line=LINE, request_id="r", cause="covariate_drift", mode="blind", image_keys=("k",), parent_version=None, alarm_at=10.0,
        requested_at=30.0,
    )  # fmt: skip
    registry.publish(LINE, artefact(LINE, request_id="r"))
    ledger.record([request, ModelServing(line=LINE, version=1, previous=None, at=71.0)])
    ledger.note_gate("r", GateResult(name="g", passed=True, value=0.0, limit=1.0, words=""))
    ledger.end_request("r", outcome="promoted", version=1, detail="", at=70.0)
    report = report_of(run(), ledger, registry)
    (version,) = report.versions
    assert (version.alarm_to_request_s, version.request_to_serving_s, version.gates) == (20.0, 41.0, "passed")
    assert [(each.cause, each.outcome) for each in report.requests] == [("covariate_drift", "promoted")]


def test_the_longest_gap_is_within_a_phase(ledger: Ledger, registry: Registry) -> None:
    ledger.record([verdict("a", at=1.0), verdict("b", at=2.5), verdict("c", at=60.0), verdict("d", at=60.5)])
    images = [sent("a"), sent("b"), sent("c", phase="step"), sent("d", phase="step")]
    report = report_of(run(*images), ledger, registry)
    assert report.longest_gap_s == pytest.approx(1.5)
    assert report.images_per_s == pytest.approx(3 / 59.5)
