"""What the pages show, against what was written: a real ledger, registry and store in a folder."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from dashboard.desk import review_desk, reviewed
from dashboard.events import events
from dashboard.queries import (
    COLLECTING,
    DRIFTING,
    LANES,
    REFUSED,
    RETRAINING,
    RUNNING,
    SILENT,
    Alarm,
    LineCard,
    alarms,
    cards,
    marks_table,
    references,
    span_of,
    swaps,
    verdict_table,
)
from dashboard.versions import shelf
from detectors.manifest import DriftReference
from streams.messages import ModelAlert, Review
from streams.settings import LineConfig
from tests.dashboard import installation as given
from tests.dashboard.installation import LINE, Installation

NOW = 1_800_000_000.0


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return given.installation(tmp_path)


def judge(here: Installation, *scores: float, version: int = 1, line: str = LINE, first: int = 0) -> None:
    """Images a second apart, the last one now."""
    for number, score in enumerate(scores):
        at = NOW - len(scores) + 1 + number
        here.ledger.record([given.verdict(line, first + number, at=at, version=version, score=score)])


def the_card(here: Installation, *, now: float = NOW) -> LineCard:
    (card,) = cards(here.ledger, {}, now=now)
    return card


class TestCards:
    def test_an_empty_installation_has_none(self, here: Installation) -> None:
        assert cards(here.ledger, {}, now=NOW) == []

    def test_a_line_that_judges_runs(self, here: Installation) -> None:
        here.ledger.record([given.serving(LINE, 1, at=NOW - 60)])
        judge(here, 1.0, 3.0, 1.0, 1.0)
        card = the_card(here)
        assert (card.line, card.state, card.version, card.judged) == (LINE, RUNNING, 1, 4)
        assert card.flag_rate == pytest.approx(1 / 4)
        assert card.target_rate == LineConfig().false_alarm_rate
        assert (card.incident, card.trouble, card.progress) == (None, None, None)

    def test_verdicts_after_the_deadline_are_counted(self, here: Installation) -> None:
        late = msgspec.structs.replace(given.verdict(LINE, 1, at=NOW), overdue=True)
        here.ledger.record([late, given.verdict(LINE, 2, at=NOW)])
        assert (the_card(here).judged, the_card(here).overdue) == (2, 1)

    def test_a_line_that_sends_nothing_is_silent(self, here: Installation) -> None:
        here.ledger.record([given.serving(LINE, 1, at=NOW - 60)])
        judge(here, 1.0)
        card = the_card(here, now=NOW + 120)
        assert card.state == SILENT
        assert card.seen_s == pytest.approx(120, abs=1)

    def test_a_line_without_model_says_how_many_of_how_many(self, here: Installation) -> None:
        for number in range(7):
            here.ledger.record([given.collected("new", number, at=NOW)])
        (card,) = cards(here.ledger, {"new": LineConfig(cold_start_images=50)}, now=NOW)
        assert (card.state, card.progress, card.version) == (COLLECTING, (7, 50), None)

    def test_the_loop_in_words(self, here: Installation) -> None:
        here.ledger.record([given.serving(LINE, 1, at=NOW - 60)])
        judge(here, 1.0)
        here.ledger.record([given.incident(LINE, at=NOW)])
        assert (the_card(here).state, the_card(here).incident) == (DRIFTING, "covariate_drift")
        here.ledger.record([given.request(LINE, at=NOW)])
        assert the_card(here).state == RETRAINING
        given.carry_out(here, LINE, at=NOW, version=2)
        assert the_card(here).state == DRIFTING
        here.ledger.record([given.incident(LINE, at=NOW, state="closed")])
        assert (the_card(here).state, the_card(here).incident) == (RUNNING, None)

    def test_a_refused_version_comes_first_and_says_why(self, here: Installation) -> None:
        here.ledger.record([given.serving(LINE, 1, at=NOW - 60)])
        judge(here, 1.0)
        judge(here, 1.0, line="another")
        here.ledger.record([ModelAlert(line=LINE, version=2, serving=1, reason="digest differs", raised_at=NOW)])
        first, second = cards(here.ledger, {}, now=NOW)
        assert (first.line, first.state, first.trouble) == (LINE, REFUSED, "digest differs")
        assert second.line == "another"


class TestTables:
    def test_scores_are_relative_to_the_threshold_and_oldest_comes_first(self, here: Installation) -> None:
        judge(here, 1.0, 3.0, 2.0)
        table = verdict_table(here.ledger.verdicts(LINE, limit=10), {})
        assert table["relative"].tolist() == [0.5, 1.5, 1.0]
        assert table["flagged"].tolist() == [False, True, False]
        assert table["image_id"].tolist() == ["part-0", "part-1", "part-2"]
        assert table["at"].is_monotonic_increasing
        assert table["at"].iloc[-1] == pd.Timestamp(NOW, unit="s", tz="UTC")
        assert table["bulk_z"].isna().all()

    def test_bulk_is_in_robust_deviations_of_the_versions_own_reference(self) -> None:
        values = (1.0, 2.0, 3.0, 4.0, 5.0)  # median 3, quartiles 2 and 4: sd = 1 / 0.6745
        reference = DriftReference(peak=values, bulk=values, mean=values, contrast=values, sharpness=values)
        verdicts = [
            given.verdict(LINE, i, at=NOW + i, version=1 + i // 3, bulk=bulk)
            for i, bulk in enumerate([3.0, 6.0, 0.0, 9.0])
        ]
        table = verdict_table(verdicts, {1: reference})
        assert table["bulk_z"].tolist()[:3] == pytest.approx([0.0, 3 * 0.6745, -3 * 0.6745])
        assert table["bulk_running"].tolist()[:3] == pytest.approx([0.0, 1.5 * 0.6745, 0.0])
        assert table["bulk_z"].isna().tolist() == [False, False, False, True]

    def test_references_of_versions_that_are_gone_are_absent(self, here: Installation) -> None:
        version = given.publish(here, LINE)
        assert set(references(here.registry, LINE, [version, 9])) == {version}

    def test_an_empty_line_makes_an_empty_table(self) -> None:
        assert verdict_table([], {}).empty

    def test_several_scorers_swap_once(self) -> None:
        at = [
            given.serving(LINE, version, at=when)
            for version, when in [(1, 0.0), (1, 0.4), (2, 9.0), (2, 9.3), (1, 20.0)]
        ]
        assert [(swap.version, swap.at) for swap in swaps(at)] == [(1, 0.0), (2, 9.0), (1, 20.0)]

    def test_marks_are_those_in_sight_in_words(self) -> None:
        span = (datetime.fromtimestamp(NOW, UTC), datetime.fromtimestamp(NOW + 100, UTC))
        incident = given.incident(LINE, at=NOW)
        incidents = [Alarm(NOW + 10, incident, NOW + 30), Alarm(NOW - 1, incident, None)]
        servings = [given.serving(LINE, 1, at=NOW - 50), given.serving(LINE, 2, at=NOW + 12)]
        alerts = [ModelAlert(line=LINE, version=3, serving=2, reason="broken", raised_at=NOW + 90)]
        table = marks_table(incidents, servings, alerts, span=span)
        assert table["kind"].tolist() == ["drift", "swap", "refused"]
        assert table["words"].tolist() == ["alarm: the line has changed", "version 2 in service", "version 3 refused"]
        assert table["lane"].tolist() == [0, 1, 0]
        assert set(table["lane"]) <= set(range(LANES))
        assert [moment.timestamp() for moment in table["at"]] == [NOW + 10, NOW + 12, NOW + 90]
        assert marks_table([], [], [], span=span).empty

    def test_an_alarm_keeps_its_moment_after_the_incident_is_closed(self, here: Installation) -> None:
        here.ledger.record([given.verdict(LINE, 20, at=NOW - 7), given.incident(LINE, at=NOW - 7)])
        assert [(alarm.at, alarm.closed_at) for alarm in alarms(here.ledger, LINE)] == [(NOW - 7, None)]
        here.ledger.record([given.incident(LINE, at=NOW, state="closed")])
        assert [(alarm.at, alarm.closed_at) for alarm in alarms(here.ledger, LINE)] == [(NOW - 7, NOW)]

    def test_an_incident_that_grew_is_open_and_keeps_its_moment(self, here: Installation) -> None:
        opened = given.incident(LINE, at=NOW - 7)
        grown = msgspec.structs.replace(opened, state="growing", sequence=1, at=NOW)
        here.ledger.record([given.verdict(LINE, 20, at=NOW - 7), opened, grown])
        assert [(alarm.at, alarm.closed_at) for alarm in alarms(here.ledger, LINE)] == [(NOW - 7, None)]

    @pytest.mark.parametrize("state", ["growing", "reopened"])
    def test_an_alarm_that_goes_on_is_not_closed(self, here: Installation, state: str) -> None:
        here.ledger.record([given.verdict(LINE, 20, at=NOW - 7), given.incident(LINE, at=NOW, state=state)])
        assert [(alarm.at, alarm.closed_at) for alarm in alarms(here.ledger, LINE)] == [(NOW - 7, None)]

    def test_the_span_holds_every_image(self) -> None:
        first, last = span_of([given.verdict(LINE, 0, at=NOW), given.verdict(LINE, 1, at=NOW + 100)])
        assert (first.timestamp(), last.timestamp()) == (NOW - 2, NOW + 102)
        lone = span_of([given.verdict(LINE, 0, at=NOW)])
        assert lone[0] < lone[1]


class TestEvents:
    def test_the_loop_is_told_newest_first(self, here: Installation) -> None:
        here.ledger.record([given.serving(LINE, 1, at=NOW)])
        here.ledger.record([given.incident(LINE, at=NOW + 1)])
        here.ledger.record([given.request(LINE, at=NOW + 2)])
        given.carry_out(here, LINE, at=NOW + 3, version=2)
        here.ledger.record([given.serving(LINE, 2, at=NOW + 9)])
        here.ledger.record([ModelAlert(line=LINE, version=3, serving=2, reason="<b>digest</b>", raised_at=NOW + 10)])
        told = [event.words for event in events(here.ledger, LINE)]
        assert told[0] == "Version 3 was refused, version 2 stays in service: <b>digest</b>"
        assert told[1] == "Version 2 judges the line instead of version 1"
        assert {
            "Gate threshold_holds passed: threshold_holds: well within",
            "Request ended, promoted: all gates passed",
        } <= set(told)
        assert told[-3] == "New model asked for, blind, from 3 images (the line has changed)"
        assert told[-2].startswith("Alarm, the line has changed: bulk moved by +2.9 robust sd, from 1 to 1.4")
        assert told[-1] == "Version 1 judges the line, the line's first"

    def test_another_line_is_not_told(self, here: Installation) -> None:
        here.ledger.record([given.incident("other", at=NOW)])
        assert events(here.ledger, LINE) == []


class TestVersions:
    def test_marks_gates_and_thresholds(self, here: Installation) -> None:
        first = given.publish(here, LINE)
        here.ledger.record([given.request(LINE, at=NOW)])
        second = given.publish(here, LINE, parent=first, request_id=given.REQUEST)
        given.carry_out(here, LINE, at=NOW, version=second)
        here.registry.promote(LINE, first)
        here.registry.promote(LINE, second)
        here.registry.set_operating_point(LINE, first, threshold=3.0, by="ana", why="", at=NOW)
        found = shelf(here.registry, here.ledger, LINE)
        assert (found.champion, found.previous) == (second, first)
        new, old = found.cards
        assert [(card.number, card.marks) for card in (new, old)] == [(second, ("champion",)), (first, ("previous",))]
        assert [gate.name for gate in new.gates] == ["finds_drawn_defects", "threshold_holds"]
        assert old.gates == ()
        assert old.operating_point is not None
        assert (old.operating_point.threshold, old.operating_point.revision) == (3.0, 2)

    def test_a_refusal_is_on_the_card(self, here: Installation) -> None:
        version = given.publish(here, LINE)
        here.ledger.record([ModelAlert(line=LINE, version=version, serving=None, reason="golden image", raised_at=NOW)])
        (card,) = shelf(here.registry, here.ledger, LINE).cards
        assert card.refused == "golden image"

    def test_a_version_refused_beside_the_champion_is_an_event_and_may_still_serve(self, here: Installation) -> None:
        version = given.publish(here, LINE)
        beside = ModelAlert(line=LINE, version=version, serving=2, reason="memory", raised_at=NOW, beside=True)
        here.ledger.record([beside])
        (card,) = shelf(here.registry, here.ledger, LINE).cards
        assert card.refused is None
        assert [each.words for each in events(here.ledger, LINE)] == [
            f"Version {version} scores no more beside version 2: memory"
        ]


class TestDesk:
    def test_flagged_images_that_nobody_reviewed_newest_first(self, here: Installation) -> None:
        judge(here, 3.0, 1.0, 4.0, 5.0)
        desk = review_desk(here.ledger, LINE, chosen=None, skipped=())
        assert desk.verdict is not None
        assert desk.following is not None
        assert (desk.verdict.image_id, desk.following.image_id, desk.waiting, desk.more) == (
            "part-3",
            "part-2",
            3,
            False,
        )

    def test_a_review_takes_the_image_off_and_choosing_brings_it_back(self, here: Installation) -> None:
        judge(here, 3.0, 1.0, 4.0)
        say(here, "part-2", "defect", at=NOW)
        desk = review_desk(here.ledger, LINE, chosen=None, skipped=())
        assert desk.verdict is not None
        assert (desk.verdict.image_id, desk.waiting, desk.said) == ("part-0", 1, None)
        again = review_desk(here.ledger, LINE, chosen="part-2", skipped=())
        assert again.verdict is not None
        assert again.said is not None
        assert (again.verdict.image_id, again.said.says, again.waiting) == ("part-2", "defect", 1)

    def test_a_skipped_image_waits(self, here: Installation) -> None:
        judge(here, 3.0, 4.0)
        desk = review_desk(here.ledger, LINE, chosen=None, skipped=("part-1",))
        assert desk.verdict is not None
        assert (desk.verdict.image_id, desk.waiting) == ("part-0", 1)

    def test_many_are_counted_up_to_a_page(self, here: Installation) -> None:
        judge(here, *[3.0] * 30)
        desk = review_desk(here.ledger, LINE, chosen=None, skipped=())
        assert (desk.waiting, desk.more) == (24, True)

    def test_an_empty_desk(self, here: Installation) -> None:
        judge(here, 1.0)
        assert review_desk(here.ledger, LINE, chosen=None, skipped=()).verdict is None

    def test_undo_is_another_review_and_the_last_word_counts(self, here: Installation) -> None:
        judge(here, 3.0, 4.0)
        say(here, "part-0", "defect", at=NOW + 1)
        say(here, "part-1", "unsure", at=NOW + 2)
        say(here, "part-0", "normal", at=NOW + 3)
        found = reviewed(here.ledger, LINE)
        assert [(each.image_id, each.says, each.times) for each in found] == [
            ("part-0", "normal", 2),
            ("part-1", "unsure", 1),
        ]


def say(here: Installation, image_id: str, says: str, *, at: float) -> None:
    """A review as the topic brings it."""
    here.ledger.record([Review(line=LINE, image_id=image_id, says=says, note="", by="ana", at=at)])
