"""Each page as Streamlit runs it, over a real installation in a folder."""

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.incidents import answers_to
from dashboard.words import clock, plain
from streams import actions
from streams.messages import ModelAlert
from tests.dashboard import drifted
from tests.dashboard import installation as given
from tests.dashboard.installation import COLLECTING, LINE, Installation
from tests.streams.bus_contract import until

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
PAGES = ("pages/lines.py", "pages/live.py", "pages/drift.py", "pages/review.py", "pages/models.py", "pages/search.py")
ANSWERED = pytest.mark.skipif(
    not hasattr(actions, "answer_incident"), reason="streams.actions.answer_incident is not merged yet"
)
ANA = actions.Actor("ana", "engineer")
MARKUP = "<b>lot</b> **7** :red[x] $a$"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    made = given.installation(tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


def opened(page: str, *, line: str | None = None) -> AppTest:
    """The page after its first run, without an error on it."""
    app = AppTest.from_file(str(APP), default_timeout=30)
    if line is not None:
        app.query_params["line"] = line
    app.run()
    if page != PAGES[0]:
        app.switch_page(page).run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def words(app: AppTest) -> str:
    """Everything the page says."""
    kinds = (
        app.markdown,
        app.text,
        app.caption,
        app.info,
        app.warning,
        app.error,
        app.success,
        app.subheader,
        app.code,
    )
    said = [str(element.value) for kind in kinds for element in kind]
    return "\n".join([*said, *(f"{metric.label}: {metric.value} {metric.delta}" for metric in app.metric)])


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_installation_says_what_to_do(here: Installation, page: str) -> None:
    assert "driftline camera send" in words(opened(page))


@pytest.mark.parametrize("page", PAGES)
def test_a_misspelt_variable_is_said_in_words(here: Installation, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_HOEM", "/srv")
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not app.exception
    assert "did you mean DRIFTLINE" in words(app).replace("\\", "")


class TestLines:
    def test_every_line_with_its_state(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        said = words(opened("pages/lines.py"))
        assert "Running" in said
        assert "Collecting" in said
        assert "version: 2" in said
        assert "240 images judged" in said

    def test_verdicts_after_the_deadline_are_said(self, here: Installation) -> None:
        late = msgspec.structs.replace(given.verdict(LINE, 1, at=time.time()), overdue=True)
        here.ledger.record([given.serving(LINE, 1, at=time.time()), late])
        assert "1 images judged · 1 after the deadline" in words(opened("pages/lines.py"))

    def test_a_refused_version_is_said(self, here: Installation) -> None:
        here.ledger.record([given.serving(LINE, 1, at=time.time())])
        here.ledger.record([given.verdict(LINE, 1, at=time.time())])
        here.ledger.record([ModelAlert(line=LINE, version=2, serving=1, reason=MARKUP, raised_at=time.time())])
        app = opened("pages/lines.py")
        assert "Model refused" in words(app)
        (error,) = app.error
        assert "\\<b\\>lot" in error.value
        assert "\\*\\*7\\*\\*" in error.value

    def test_the_name_of_a_line_is_not_rendered(self, here: Installation) -> None:
        here.ledger.record([given.collected(COLLECTING, 1, at=time.time())])
        assert "\\_\\_new\\_\\_" in [header.value for header in opened("pages/lines.py").subheader]


class TestLive:
    def test_charts_events_and_pictures(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/live.py", line=LINE)
        assert len(app.get("vega_lite_chart")) == 2
        assert len(app.get("image")) == 8
        said = words(app).replace("\\", "")
        assert "Alarm, the line has changed" in said
        assert "Version 2 judges the line instead of version 1" in said
        assert "Gate threshold_holds passed" in said

    def test_the_line_of_the_address_is_shown_and_kept(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/live.py", line=COLLECTING)
        assert app.selectbox[0].value == COLLECTING
        assert "has no model" in words(app)
        app.selectbox[0].select(LINE).run()
        assert app.query_params["line"] == LINE
        assert len(app.get("vega_lite_chart")) == 2

    def test_an_unknown_line_is_said(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        assert "no line of the name" in words(opened("pages/live.py", line="gone"))

    def test_pictures_gone_from_the_store_are_words(self, here: Installation, tmp_path: Path) -> None:
        given.tell_the_story(here, now=time.time())
        shutil.rmtree(tmp_path / "objects" / "heatmaps")
        app = opened("pages/live.py", line=LINE)
        assert (
            len(
                [
                    warning
                    for warning in app.warning
                    if "no longer in the object store" in warning.value.replace("\\", "")
                ]
            )
            == 8
        )

    def test_a_refused_version_is_said(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        here.ledger.record(
            [ModelAlert(line=LINE, version=3, serving=2, reason="digest differs", raised_at=time.time())]
        )
        assert "Version 3 was refused" in opened("pages/live.py", line=LINE).error[0].value


class TestDrift:
    def test_open_incidents_with_evidence_pictures_chart_and_decision(self, here: Installation) -> None:
        drifted.tell_of_drift(here, now=time.time())
        app = opened("pages/drift.py", line=LINE)
        titles = [header.value.split("] ", 1)[1] for header in app.subheader if "material" in header.value]
        assert titles == ["The line has changed", "Many more bad parts than usual", "The line has changed"]
        said = words(app).replace("\\", "")
        for each in (
            "open again", "growing", "top left", "126 → 114", "-4.1 robust sd", "how sure: 97 %", "It came little by little",
            "Since image part-220", "noticed at image part-226", "after 76 images of version 2",
            "median of bulk@r1c1 moved by +9.2 sd over 7 images", "at most one false alarm in 10,000 images",
            "It waits for images to learn from: 31 of 60", "take defects for normal",
        ):  # fmt: skip
            assert each in said, each
        assert len(app.get("image")) == 6
        assert len(app.get("vega_lite_chart")) == 3
        assert [each.label for each in app.expander] == [
            "The line has changed · brightness · closed " + self._closed(here)
        ]

    def test_a_line_that_never_changed(self, here: Installation) -> None:
        here.ledger.record([given.verdict(LINE, 1, at=time.time())])
        assert "has not changed" in words(opened("pages/drift.py", line=LINE))

    def test_an_old_incident_without_images_map_and_evidence_is_words(self, here: Installation) -> None:
        here.ledger.record([given.verdict(LINE, 1, at=time.time())])
        here.ledger.record([drifted.old_incident(at=time.time(), shape="", signal=MARKUP, kind=MARKUP)])
        app = opened("pages/drift.py", line=LINE)
        said = words(app).replace("\\", "")
        assert "the last one before it is not known" in said
        assert "not in the ledger" in said
        assert "has no drift map" in said
        assert "how sure: –" in said
        assert "no chart" in said
        assert "<b>lot" not in "".join(header.value for header in app.subheader)

    def test_pictures_gone_from_the_store_are_words(self, here: Installation, tmp_path: Path) -> None:
        drifted.tell_of_drift(here, now=time.time(), pictures=False)
        app = opened("pages/drift.py", line=LINE)
        gone = [each for each in app.warning if "no longer in the object store" in each.value.replace("\\", "")]
        assert len(gone) == 6

    def test_the_first_image_after_the_change_stands_in_for_the_alarm(self, here: Installation, tmp_path: Path) -> None:
        drifted.tell_of_drift(here, now=time.time())
        alarm = here.ledger.verdict(LINE, "part-408")
        assert alarm is not None
        (tmp_path / "objects" / alarm.image_key).unlink()
        app = opened("pages/drift.py", line=LINE)
        assert len(app.get("image")) == 6
        assert [image.proto.imgs[0].caption for image in app.get("image")][1] == "after\\: part\\-360"

    def test_deciding_needs_a_reason(self, here: Installation) -> None:
        here.ledger.record([given.verdict(LINE, 20, at=time.time()), drifted.old_incident(at=time.time())])
        app = opened("pages/drift.py", line=LINE)
        app.button(key="expected old").click().run()
        assert "give a reason" in words(app)
        assert here.ledger.audit() == []

    def test_one_that_is_over_is_not_asked_about(self, here: Installation) -> None:
        closed = drifted.old_incident(at=time.time(), state="closed")
        here.ledger.record([given.verdict(LINE, 20, at=time.time()), closed])
        app = opened("pages/drift.py", line=LINE)
        assert "No change of this line is open" in words(app)
        assert [button.key for button in app.button] == [f"retrain {LINE}"]

    @ANSWERED
    @pytest.mark.parametrize(
        ("says", "note", "shown"),
        [
            ("acknowledged", "", "has seen it"),
            ("expected", MARKUP, "it is the new normal, learn it"),
            ("ignored", "lamp was cleaned", "explained, do not learn"),
        ],
    )
    def test_an_answer_is_in_the_ledger_before_the_page_says_so(
        self, here: Installation, says: str, note: str, shown: str
    ) -> None:
        here.ledger.record([given.verdict(LINE, 20, at=time.time()), drifted.old_incident(at=time.time())])
        app = opened("pages/drift.py", line=LINE)
        app.text_input(key="note old").input(note)
        app.button(key=f"{says} old").click().run()
        assert not app.exception
        (answer,) = answers_to(here.ledger, drifted.old_incident(at=0.0))
        assert (answer.says, answer.note) == (says, note)
        said = words(app).replace("\\", "")
        assert f"Saved: {shown}." in said
        assert f"{answer.by}: {shown}" in said
        assert app.text_input(key="note old").value == ""
        assert "<b>lot" not in words(app)

    @ANSWERED
    def test_what_the_action_refuses_is_said_and_the_reason_kept(
        self, here: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.ledger.record([given.verdict(LINE, 20, at=time.time()), drifted.old_incident(at=time.time())])
        monkeypatch.setattr("dashboard.sources.person", lambda: actions.Actor("ana", "reviewer"))
        app = opened("pages/drift.py", line=LINE)
        app.text_input(key="note old").input("new lamps")
        app.button(key="ignored old").click().run()
        assert "Not saved: ana is a reviewer" in words(app).replace("\\", "")
        assert app.text_input(key="note old").value == "new lamps"
        assert answers_to(here.ledger, drifted.old_incident(at=0.0)) == ()

    def _closed(self, here: Installation) -> str:
        (incident,) = [each for each in here.ledger.incidents(LINE) if each.state == "closed"]
        return plain(clock(incident.at, UTC, today=time.time()))


class TestAsking:
    """A new model asked for by hand, on the drift page."""

    def asked(self, here: Installation, *, images: int, mode: str = "refresh", why: str = "new lamps") -> AppTest:
        here.ledger.record([given.verdict(LINE, number, at=time.time() - images + number) for number in range(images)])
        app = opened("pages/drift.py", line=LINE)
        app.selectbox(key=f"mode {LINE}").select(mode)
        app.text_input(key=f"reason {LINE}").input(why)
        app.button(key=f"retrain {LINE}").click().run()
        assert not app.exception
        return app

    def test_it_is_in_the_ledger_before_the_page_says_so(self, here: Installation) -> None:
        app = self.asked(here, images=30)
        (row,) = here.ledger.requests(LINE)
        assert (row.request.cause, row.request.mode, row.request.wanted_images) == ("manual", "refresh", 200)
        assert [entry.detail for entry in here.ledger.audit()] == ["refresh, the latest 200 images: new lamps"]
        said = words(app).replace("\\", "")
        assert "A new model is asked for: refresh, from the latest 200 images." in said
        assert "It waits for its turn." in said

    def test_without_a_reason_or_with_a_wish_that_cannot_be_met_nothing_is_asked(self, here: Installation) -> None:
        assert "give a reason" in words(self.asked(here, images=30, why=" "))
        assert "has 0 parts reviewed as normal" in words(self.asked(here, images=30, mode="trusted"))
        assert here.ledger.requests(LINE) == []

    def test_what_a_request_waits_for_is_said_on_every_page_about_the_line_and_it_can_be_given_up(
        self, here: Installation
    ) -> None:
        self.asked(here, images=8)
        (row,) = here.ledger.requests(LINE)
        here.ledger.note_waiting(row.request.request_id, "waits for 12 more images")
        for page in ("pages/lines.py", "pages/drift.py", "pages/live.py"):
            assert "waits for 12 more images" in words(opened(page, line=LINE)), page
        app = opened("pages/drift.py", line=LINE)
        app.button(key=f"cancel {row.request.request_id}").click().run()
        assert "given up" in words(app)
        assert [each.state for each in here.ledger.requests(LINE)] == ["cancelled"]


class TestConfiguration:
    def test_a_change_is_taken_up_and_a_mistake_is_said_above_every_page(
        self, here: Installation, tmp_path: Path
    ) -> None:
        here.ledger.record([given.serving(LINE, 1, at=time.time()), given.verdict(LINE, 1, at=time.time())])
        described = tmp_path / "driftline.toml"
        assert "target 1.0 %" in words(opened("pages/lines.py"))
        described.write_text(f'[lines."{LINE}"]\nfalse_alarm_rate = 0.02\n')
        until(lambda: "target 2.0 %" in words(opened("pages/lines.py")))
        described.write_text(f'[lines."{LINE}"]\nfalse_alarm_rat = 0.03\n')
        for page in PAGES:
            assert "did you mean 'false_alarm_rate'" in words(opened(page)).replace("\\", "")
        assert "target 2.0 %" in words(opened("pages/lines.py"))


class TestReview:
    def test_a_verdict_is_in_the_ledger_before_the_page_says_so(self, here: Installation) -> None:
        app = self._desk(here, 3.0, 4.0)
        app.text_input[0].input(MARKUP).run()
        app.button(key=f"defect {LINE} part-1").click().run()
        (review,) = here.ledger.reviews(LINE)
        assert (review.image_id, review.says, review.note) == ("part-1", "defect", MARKUP)
        assert "Saved: part-1 is a defect" in words(app).replace("\\", "")
        assert app.button(key=f"normal {LINE} part-0")
        assert MARKUP in [text.value for text in app.text]

    def test_undo_brings_the_image_back_for_another_review(self, here: Installation) -> None:
        app = self._desk(here, 3.0, 4.0)
        app.button(key=f"defect {LINE} part-1").click().run()
        app.button(key="undo").click().run()
        app.button(key=f"normal {LINE} part-1").click().run()
        assert [review.says for review in sorted(here.ledger.reviews(LINE), key=lambda review: review.at)] == [
            "defect",
            "normal",
        ]
        assert "Reviewed (1)" in [expander.label for expander in app.expander]

    def test_skip_then_all_done_then_again(self, here: Installation) -> None:
        app = self._desk(here, 3.0)
        app.button(key="skip").click().run()
        assert "Nothing is waiting" in words(app)
        app.button(key="unskip").click().run()
        assert app.button(key=f"unsure {LINE} part-0")
        assert here.ledger.reviews(LINE) == []

    def test_a_missing_image_is_words_and_can_still_be_judged(self, here: Installation) -> None:
        app = self._desk(here, 3.0)
        assert "no longer in the object store" in words(app).replace("\\", "")
        app.button(key=f"unsure {LINE} part-0").click().run()
        assert [review.says for review in here.ledger.reviews(LINE)] == ["unsure"]

    def test_pictures_and_the_nearest_normal_patch(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        assert len(opened("pages/review.py", line=LINE).get("image")) == 4

    def _desk(self, here: Installation, *scores: float) -> AppTest:
        for number, score in enumerate(scores):
            here.ledger.record([given.verdict(LINE, number, at=time.time() - len(scores) + number, score=score)])
        return opened("pages/review.py", line=LINE)


class TestModels:
    def test_versions_with_marks_and_gates(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/models.py", line=LINE)
        assert [header.value for header in app.subheader] == ["Version 2", "Version 1"]
        said = words(app).replace("\\", "")
        assert "champion" in said
        assert "previous" in said
        assert "learnt from: 120 images 1 left out" in said
        assert "0.4 % to 3.0 %" in said
        assert "threshold_holds: well within" in said

    def test_rolling_back_needs_a_reason_and_is_announced(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/models.py", line=LINE)
        app.button(key=f"do Roll back to 1 {LINE} 2").click().run()
        assert "give a reason" in words(app)
        assert here.registry.pointers(LINE).champion == 2
        app.text_input(key=f"why Roll back to 1 {LINE} 2").input("flags good parts")
        app.button(key=f"do Roll back to 1 {LINE} 2").click().run()
        assert here.registry.pointers(LINE).champion == 1
        assert "Version 1 is the champion now" in words(app)

    def test_promoting_an_older_version(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/models.py", line=LINE)
        app.text_input(key=f"why Promote {LINE} 1").input("new lamps are gone")
        app.button(key=f"do Promote {LINE} 1").click().run()
        assert here.registry.pointers(LINE).champion == 1

    def test_a_version_on_trial_shows_where_it_disagrees_and_is_approved(self, here: Installation) -> None:
        given.try_out(here, now=time.time())
        app = opened("pages/models.py", line=LINE)
        said = words(app).replace("\\", "")
        assert "Waits for a person" in said
        assert "images both scored: 40" in said
        assert "they disagree on: 3" in said
        assert "version 3 flags it, version 2 does not; challenger 3 (limit 2), champion 1" in said
        assert "version 2 flags it, version 3 does not; challenger 1 (limit 2), champion 3" in said
        assert len(app.get("image")) == 6, "each with its heatmap"
        app.button(key=f"do Approve {LINE} 3").click().run()
        assert "give a reason" in words(app)
        app.text_input(key=f"why Approve {LINE} 3").input("looks good")
        app.button(key=f"do Approve {LINE} 3").click().run()
        assert "Version 3 is the champion now" in words(app)
        assert here.registry.pointers(LINE).champion == 3
        assert [row.state for row in here.ledger.requests(LINE)][-1] == "promoted"

    def test_a_version_on_trial_is_rejected(self, here: Installation) -> None:
        given.try_out(here, now=time.time())
        app = opened("pages/models.py", line=LINE)
        app.text_input(key=f"why Reject {LINE} 3").input(MARKUP)
        app.button(key=f"do Reject {LINE} 3").click().run()
        assert here.registry.pointers(LINE).challenger is None
        assert here.ledger.requests(LINE)[-1].detail == f"rejected by {here.ledger.audit()[0].who}: {MARKUP}"
        assert "Waits for a person" not in words(app)

    def test_four_eyes_are_said(self, here: Installation, tmp_path: Path) -> None:
        (tmp_path / "driftline.toml").write_text(f'[lines."{LINE}"]\nfour_eyes = true\n')
        given.try_out(here, now=time.time())
        app = opened("pages/models.py", line=LINE)
        app.text_input(key=f"why Approve {LINE} 3").input("looks good")
        app.button(key=f"do Approve {LINE} 3").click().run()
        said = words(app).replace("\\", "")
        assert "another person has to approve it too" in said
        assert "looks good" in said
        assert here.registry.pointers(LINE).champion == 2

    def test_a_version_that_was_taken_back_is_marked(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        actions.rollback(here.ledger, ANA, here.registry, line=LINE, why="worse", at=time.time())
        assert "rolled back" in words(opened("pages/models.py", line=LINE))
        assert "taken back by ana" in words(opened("pages/live.py", line=LINE)).replace("\\", "")

    def test_a_broken_manifest_is_said(self, here: Installation, tmp_path: Path) -> None:
        given.tell_the_story(here, now=time.time())
        (manifest,) = (tmp_path / "objects" / "models").glob("*/versions/1/manifest.json")
        manifest.write_text("{")
        assert "manifest cannot be read" in words(opened("pages/models.py", line=LINE))

    def test_another_threshold_is_tried_and_set_with_a_reason(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/models.py", line=LINE)
        assert "over the last 24 h" not in words(app), "nothing is counted until somebody asks"
        app.toggle(key=f"threshold {LINE} 2").set_value(True).run()
        seen = here.ledger.flags(LINE, 2, threshold=1.2)
        app.number_input(key=f"threshold value {LINE} 2").set_value(1.2).run()
        said = words(app).replace("\\", "")
        assert (
            f"1.2 would have flagged {seen.above} instead of {seen.flagged} of {seen.judged} over the last 24 h" in said
        )
        assert "5 of each are needed" in said
        app.button(key=f"threshold do {LINE} 2").click().run()
        assert "give a reason" in words(app)
        assert here.registry.operating_point(LINE, 2).revision == 1
        app.text_input(key=f"threshold why {LINE} 2").input("scrap **costs** more")
        app.button(key=f"threshold do {LINE} 2").click().run()
        assert not app.exception
        point = here.registry.operating_point(LINE, 2)
        assert (point.threshold, point.revision) == (1.2, 2)
        assert "Revision 2 is 1.2" in words(app).replace("\\", "")
        assert "\\*\\*costs\\*\\*" in words(app)

    def test_a_version_that_learnt_a_defect_is_marked_and_tells_its_story(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/models.py", line=LINE)
        assert "stand as defects now" not in words(app)
        (learnt,) = [each for each in here.ledger.verdicts(LINE, limit=500) if each.image_key == "images/1.png"]
        here.ledger.record([given.said(LINE, learnt.image_id, "defect")])
        app.toggle(key=f"lineage {LINE} 2").set_value(True).run()
        assert sum("stand as defects now" in each.value for each in app.warning) == 2, "both versions learnt it"
        said = words(app).replace("\\", "")
        assert "1 of its training images stand as defects now: part-1." in said
        assert "Dagster run 0123456789abcdef, attempt 1" in said
        assert "AFFECTED: 1 of its training images" in said
        assert len(app.get("download_button")) == 1

    def test_a_line_without_versions(self, here: Installation) -> None:
        here.ledger.record([given.collected("new", 1, at=time.time())])
        assert "No version yet" in words(opened("pages/models.py", line="new"))


class TestSearch:
    def test_the_newest_of_all_lines_page_by_page(self, here: Installation) -> None:
        other = "프레스-4/문"
        here.ledger.record([given.verdict(LINE, number, at=1000.0 + number) for number in range(30)])
        here.ledger.record([given.verdict(other, 99, at=5000.0, score=3.0), given.said(other, "part-99", "defect")])
        app = opened("pages/search.py")
        said = words(app).replace("\\", "")
        assert "24 images, newest first" in said
        assert "프레스-4/문 · version 1" in said
        assert ":red-badge[flagged]" in said
        assert "defect" in said
        app.button(key="older").click().run()
        assert "7 images, newest first" in words(app)
        assert app.button(key="older").disabled
        app.button(key="newer").click().run()
        assert "24 images" in words(app)

    def test_each_field_narrows_it_and_clear_forgets_them(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/search.py", line=LINE)
        app.text_input(key="search id").input("part-7").run()
        assert "11 images" in words(app)
        app.checkbox(key="search whole").check().run()
        assert "1 image, judged" in words(app)
        app.button(key="search clear").click().run()
        app.selectbox(key="search flagged").select("flagged").run()
        app.number_input(key="search version").set_value(2).run()
        version_2 = [each for each in here.ledger.flagged(LINE, limit=999) if each.version == 2]
        assert f"{len(version_2)} images" in words(app)
        app.number_input(key="search lowest").set_value(99.0).run()
        assert "Nothing matches" in words(app)
        app.button(key="search clear").click().run()
        assert "24 images" in words(app)

    def test_mistakes_are_words(self, here: Installation) -> None:
        here.ledger.record([given.verdict(LINE, 1, at=1000.0)])
        app = opened("pages/search.py")
        app.number_input(key="search lowest").set_value(2.0)
        app.number_input(key="search highest").set_value(1.0).run()
        assert "no score lies between 2 and 1" in words(app).replace("\\", "")
        app.button(key="search clear").click().run()
        app.text_input(key="search id").input("x" * 10_240).run()
        assert "an id of 10,240 characters" in words(app).replace("\\", "")
        app.text_input(key="search id").input("").run()
        app.datetime_input(key="search since").set_value(datetime(2026, 1, 2))
        app.datetime_input(key="search until").set_value(datetime(2026, 1, 1)).run()
        assert "the time ends before it begins" in words(app)
        assert not app.exception

    def test_nothing_of_a_message_is_rendered(self, here: Installation) -> None:
        nasty = msgspec.structs.replace(given.verdict(LINE, 1, at=1000.0, score=3.0), image_id=MARKUP)
        note = msgspec.structs.replace(given.said(LINE, MARKUP, "unsure"), note=MARKUP)
        here.ledger.record([nasty, note])
        app = opened("pages/search.py")
        app.button(key=f"story {LINE} {MARKUP}").click().run()
        rendered = [element.value for kind in (app.markdown, app.caption) for element in kind]
        assert not [each for each in rendered if "<b>" in each or "**7**" in each or "$a$" in each]
        assert any("ana said unsure" in each.replace("\\", "") for each in rendered)

    def test_the_whole_story_of_an_image(self, here: Installation) -> None:
        now = time.time()
        given.tell_the_story(here, now=now)
        alarm = here.ledger.incidents(LINE)[0].alarm_image_id
        here.ledger.record([given.said(LINE, alarm, "normal", at=now)])
        app = opened("pages/search.py", line=LINE)
        app.text_input(key="search id").input(alarm).run()
        app.button(key=f"story {LINE} {alarm}").click().run()
        assert not app.exception
        said = words(app).replace("\\", "")
        for each in ("The alarm was raised at it: the line has changed", "ana said normal", "stored as images/"):
            assert each in said, each
        app.text_input(key="search id").input("part-5").run()
        app.checkbox(key="search whole").check().run()
        app.button(key=f"story {LINE} part-5").click().run()
        said = words(app)
        for each in (
            "Version 1 learnt it as a normal part",
            "Nobody has reviewed it yet",
            "Heatmaps are kept of flagged",
        ):
            assert each in said, each

    def test_an_image_that_was_never_judged_has_its_story(self, here: Installation) -> None:
        here.ledger.record([given.verdict(LINE, 1, at=1.0), given.collected(COLLECTING, 3, at=2.0)])
        app = opened("pages/search.py")
        app.text_input(key="search id").input("new-3").run()
        said = words(app).replace("\\", "")
        assert "Nothing matches" in said
        assert "came down __new__, and was not judged" in said
        app.button(key=f"unjudged {COLLECTING}").click().run()
        assert "collected for the line's first model" in words(app)

    def test_what_was_found_is_taken_away(self, here: Installation) -> None:
        given.tell_the_story(here, now=time.time())
        app = opened("pages/search.py", line=LINE)
        app.selectbox(key="search flagged").select("flagged").run()
        count = len(here.ledger.flagged(LINE, limit=999))
        app.button(key="make CSV").click().run()
        assert f"{count} rows. That is all of them." in words(app)
        assert app.download_button(key="download CSV").label == "Download driftline.csv"
        app.button(key="make zip").click().run()
        assert f"{count} images. That is all of them. No mask is known" in words(app)
        app.selectbox(key="search flagged").select("").run()
        app.button(key="make zip").click().run()
        said = words(app)
        assert "There are more: only the newest 200" in said
        assert "no longer in the object store" in said
        assert not app.exception

    def test_a_ledger_without_verdicts_and_an_unknown_line(self, here: Installation) -> None:
        here.ledger.record([given.collected(COLLECTING, 3, at=2.0)])
        app = opened("pages/search.py", line="gone")
        assert "no line of the name" in words(app)
        assert "No image was judged here yet" in words(app)
