"""From a published version to a champion that has proved itself or was taken back, over a real ledger and registry in virtual time."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from detectors.errors import Conflict, InvalidInput, NotFound, Unavailable
from detectors.objects import Revision
from detectors.registry import Registry
from detectors.store import FolderStore
from streams.actions import DRIFTLINE, Actor, approve, promote, reject, request_retrain, rollback
from streams.causes import Wish
from streams.ledger import Ledger, RequestRow
from streams.messages import Message, ModelAlert, RetrainRequest, Review, ShadowVerdict, Signals, Verdict
from streams.settings import LineConfig
from streams.succession import Introduced, introduce, look_at_probations, look_at_trials, serve
from streams.trials import Probation, judge_probation
from streams.watching import recorded_in
from tests.detectors.artefacts import artefact

LINE = "tiles"
ANA, BO = Actor("ana", "engineer"), Actor("bo", "engineer")
TRIED = LineConfig(shadow_images=20, shadow_share=1.0, probation_images=40)


@dataclass
class House:
    """Ledger and registry of one line, with a clock."""

    ledger: Ledger
    registry: Registry
    config: LineConfig = TRIED
    now: float = 1000.0
    images: int = 0
    done: list[str] = field(default_factory=list)

    def ask(self, request_id: str = "r1") -> RetrainRequest:
        """A drift asks for a model and a run takes it up."""
        request = RetrainRequest(
            line=LINE, request_id=request_id, cause="covariate_drift", mode="blind", image_keys=("k",),
            parent_version=self.registry.pointers(LINE).champion, alarm_at=self.now, requested_at=self.now, incident_id="i1",
        )  # fmt: skip
        self.ledger.record([request])
        assert self.ledger.begin_request(request_id, run_id="run", attempt=1, at=self.now)
        return request

    def make(self, request_id: str = "r1") -> Introduced:
        """What the run does once the gates have passed."""
        request = self.ask(request_id)
        version = self.registry.publish(LINE, artefact(LINE, content=request_id, request_id=request_id))
        return introduce(self.ledger, self.registry, request, version, self.config, at=self.now)

    def run(
        self, images: int, *, flagged: bool = False, beside: bool | None = False, review: str | None = None
    ) -> None:
        """The line goes on for so many images; `beside`: what the challenger says of them."""
        pointers = self.registry.pointers(LINE)
        assert pointers.champion is not None
        said: list[Message] = []
        for _ in range(images):
            self.now, self.images = self.now + 1.0, self.images + 1
            verdict = _verdict(f"part-{self.images}", pointers.champion, flagged, at=self.now)
            said.append(verdict)
            if pointers.challenger is not None and beside is not None:
                said.append(_shadow(verdict, pointers.challenger, beside))
            if review is not None:
                said.append(Review(line=LINE, image_id=verdict.image_id, says=review, note="", by="ana", at=self.now))
        self.ledger.record(said)

    def look(self) -> list[str]:
        """Both sensors, once."""
        done = [
            *look_at_trials(self.ledger, self.registry, lambda _: self.config, now=self.now),
            *look_at_probations(self.ledger, self.registry, lambda _: self.config, now=self.now),
        ]
        self.done += done
        return done

    def row(self, request_id: str = "r1") -> RequestRow:
        row = self.ledger.request(request_id)
        assert row is not None
        return row

    def points(self) -> tuple[int | None, int | None, int | None]:
        """Champion, challenger, previous."""
        now = self.registry.pointers(LINE)
        return now.champion, now.challenger, now.previous


def _verdict(image_id: str, version: int, flagged: bool, *, at: float) -> Verdict:
    return Verdict(
        line=LINE, image_id=image_id, version=version, score=3.0 if flagged else 1.0, threshold=2.0, threshold_revision=1,
        flagged=flagged, signals=Signals(peak=1.0, bulk=1.0, mean=1.0, contrast=1.0, sharpness=1.0), taken_at=at, judged_at=at,
        latency_ms=1.0, image_key=f"images/{image_id}.png",
    )  # fmt: skip


def _shadow(verdict: Verdict, version: int, flagged: bool) -> ShadowVerdict:
    return ShadowVerdict(
        line=LINE, image_id=verdict.image_id, version=version, score=1.0, threshold=2.0, flagged=flagged,
        champion=verdict.version, champion_score=verdict.score, champion_flagged=verdict.flagged, image_key=verdict.image_key,
        judged_at=verdict.judged_at,
    )  # fmt: skip


def opened(home: Path) -> House:
    return House(Ledger.open(f"sqlite:///{home / 'ledger.sqlite'}"), Registry(FolderStore(home / "objects")))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a house with version 1 in service for 30 images without a flag, to be copied."""
    home = tmp_path_factory.mktemp("lived")
    made = opened(home)
    made.registry.publish(LINE, artefact(LINE))
    promote(made.ledger, ANA, made.registry, line=LINE, version=1, why="the first", at=1.0)
    made.run(30)
    made.ledger.close()
    return home


@pytest.fixture
def house(lived: Path, tmp_path: Path) -> House:
    shutil.copytree(lived, tmp_path / "house")
    found = opened(tmp_path / "house")
    found.now, found.images = 1030.0, 30
    return found


def configured(house: House, **changes: Any) -> House:
    house.config = LineConfig(**{"shadow_images": 20, "shadow_share": 1.0, "probation_images": 40, **changes})
    return house


class TestIntroduced:
    def test_without_a_shadow_it_serves_at_once_and_the_one_before_scores_beside_it(self, house: House) -> None:
        found = configured(house, shadow_images=0).make()
        assert (found.version, found.state) == (2, "promoted")
        assert house.points() == (2, 1, 1)
        assert house.ledger.promotions(LINE)[-1].request_id == "r1"
        assert (house.ledger.audit()[0].who, house.ledger.audit()[0].action) == ("driftline", "promote")

    def test_without_a_probation_it_serves_alone(self, house: House) -> None:
        configured(house, shadow_images=0, probation_images=0).make()
        assert house.points() == (2, None, 1)

    def test_the_first_version_of_a_line_has_nobody_to_be_compared_with(self, tmp_path: Path) -> None:
        new = opened(tmp_path)
        assert new.make().state == "promoted"
        assert new.points() == (1, None, None)

    def test_with_a_shadow_the_request_goes_on_and_the_line_may_have_no_other(self, house: House) -> None:
        assert house.make().state == "shadowing"
        assert house.points() == (1, 2, None)
        assert (house.row().version, house.row().ended_at) == (2, None)
        with pytest.raises(InvalidInput, match="open request r1"):
            request_retrain(house.ledger, ANA, house.registry, house.config, Wish(), line=LINE, at=house.now)
        assert not house.ledger.begin_request("r1", run_id="another", attempt=2, at=house.now), (
            "no run takes it up again"
        )
        assert recorded_in(house.ledger).outcome("r1") is None, "nor does the watcher think that it has ended"

    @pytest.mark.parametrize("promotion", ["approval", "never"])
    def test_without_a_shadow_a_person_is_asked_at_once(self, house: House, promotion: str) -> None:
        assert configured(house, shadow_images=0, promotion=promotion).make().state == "awaiting_approval"
        assert house.points() == (1, 2, None)
        assert f"driftline models approve {LINE}@2" in (house.row().detail or "")

    @pytest.mark.parametrize("shadow_images", [0, 20])
    def test_a_run_that_is_killed_anywhere_is_repeated_without_harm(
        self, house: House, shadow_images: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configured(house, shadow_images=shadow_images)
        request = house.ask()
        version = house.registry.publish(LINE, artefact(LINE, content="2", request_id="r1"))
        for name in ("act", "end_request", "begin_shadow"):
            with monkeypatch.context() as killed:
                killed.setattr(house.ledger, name, _die)
                if name in (("act", "end_request") if shadow_images == 0 else ("begin_shadow",)):
                    with pytest.raises(KeyboardInterrupt):
                        introduce(house.ledger, house.registry, request, version, house.config, at=house.now)
        found = introduce(house.ledger, house.registry, request, version, house.config, at=house.now)
        assert found.state == ("promoted" if shadow_images == 0 else "shadowing")
        assert [each.version for each in house.ledger.promotions(LINE)] == [1, 2][: 2 if shadow_images == 0 else 1]
        assert house.points() == ((2, 1, 1) if shadow_images == 0 else (1, 2, None))

    def test_gates_that_looked_at_another_champion_leave_it_to_a_person(self, house: House) -> None:
        configured(house, shadow_images=0)
        request = house.ask()
        version = house.registry.publish(LINE, artefact(LINE, content="r1", request_id="r1"))
        judged_at = house.registry.pointers(LINE).sequence
        other = house.registry.publish(LINE, artefact(LINE, content="by hand", request_id="hand"))
        promote(house.ledger, ANA, house.registry, line=LINE, version=other, why="by hand", at=house.now)
        found = introduce(
            house.ledger, house.registry, request, version, house.config, at=house.now, judged_at=judged_at
        )
        assert found.state == "awaiting_approval"
        assert house.points() == (other, version, 1)
        assert "the champion changed" in (house.row().detail or "")

    def test_one_that_was_rolled_back_replaces_nobody_who_waits(self, house: House) -> None:
        configured(house, shadow_images=0).make()
        rollback(house.ledger, ANA, house.registry, line=LINE, why="bad", at=house.now)
        configured(house, promotion="approval", shadow_images=0).make("r2")
        request = house.row("r1").request
        introduce(house.ledger, house.registry, request, 2, house.config, at=house.now)
        assert house.row("r2").state == "awaiting_approval"


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


class TestTrial:
    def test_it_is_promoted_once_it_has_scored_enough(self, house: House) -> None:
        house.make()
        house.run(19, flagged=True)
        assert house.look() == []
        house.run(1, flagged=True)
        (words,) = house.look()
        assert words.startswith("tiles@2 promoted: of 20 images it flagged 0 and version 1 flagged 20")
        assert house.points() == (2, 1, 1)
        assert (house.row().state, house.row().version) == ("promoted", 2)
        assert house.ledger.audit()[0].who == "driftline"
        assert house.look() == []

    def test_one_that_flags_too_much_is_refused_with_its_numbers_and_scores_no_more(self, house: House) -> None:
        house.make()
        house.run(20, beside=True)
        house.look()
        assert house.points() == (1, None, None)
        assert house.row().state == "refused"
        assert "it flagged 20 and version 1 flagged 0; more than the 5.0% it may" in (house.row().detail or "")
        assert [each.version for each in house.ledger.promotions(LINE)] == [1]

    def test_a_line_that_always_made_bad_parts_may_go_on(self, house: House) -> None:
        house.run(15, flagged=True)  # a third of the 45 before the alarm
        house.make()
        house.run(14)
        house.run(6, flagged=True, beside=True)
        house.look()
        assert house.row().state == "promoted"

    def test_a_line_that_stops_puts_it_before_a_person(self, house: House) -> None:
        house.make()
        house.run(5)
        house.now += 599
        assert house.look() == []
        house.now += 1
        house.look()
        assert house.row().state == "awaiting_approval"
        assert "5 of 20 images" in (house.row().detail or "")
        assert house.points() == (1, 2, None), "it scores on"

    def test_one_that_the_scorer_refuses_is_refused(self, house: House) -> None:
        house.make()
        house.ledger.record(
            [ModelAlert(line=LINE, version=2, serving=1, reason="digest differs", raised_at=house.now, beside=True)]
        )
        house.look()
        assert house.row().state == "refused"
        assert "digest differs" in (house.row().detail or "")
        assert house.points() == (1, None, None)
        (summary,) = house.ledger.lines()
        assert summary.alert is None, "the line is in no trouble"

    def test_images_beside_another_champion_do_not_count(self, house: House) -> None:
        house.registry.publish(LINE, artefact(LINE, content="by hand"))
        house.make()
        house.run(15)
        promote(house.ledger, ANA, house.registry, line=LINE, version=2, why="by hand", at=house.now)
        house.run(15)
        assert house.look() == []
        house.run(5)
        assert house.look() != []

    def test_a_person_who_promotes_it_by_hand_ends_the_trial(self, house: House) -> None:
        house.make()
        promote(house.ledger, ANA, house.registry, line=LINE, version=2, why="I know", at=house.now)
        house.look()
        assert house.row().state == "promoted"
        assert house.points() == (2, None, 1)
        assert len(house.ledger.promotions(LINE)) == 2

    def test_a_look_that_died_after_the_pointer_is_made_good(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house.make()
        house.run(20)
        with monkeypatch.context() as killed:
            killed.setattr(house.ledger, "act", _die)
            with pytest.raises(KeyboardInterrupt):
                house.look()
        assert house.points() == (2, 1, 1)
        house.look()
        assert house.row().state == "promoted"
        assert house.ledger.promotions(LINE)[-1].request_id == "r1"

    def test_a_look_that_died_before_the_challenger_was_cleared_is_made_good(self, house: House) -> None:
        house.make()
        house.ledger.end_request("r1", outcome="refused", version=2, detail="", at=house.now)
        assert house.look() == ["tiles@2 scores beside the champion no more: its request has ended, refused"]
        assert house.points() == (1, None, None)

    def test_trouble_of_one_line_is_said_and_keeps_no_other_waiting(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house.make()
        house.run(20)
        other = RetrainRequest(
            line="broken", request_id="r0", cause="manual", mode="blind", image_keys=("k",), parent_version=1, alarm_at=None,
            requested_at=0.0,
        )  # fmt: skip
        house.ledger.record([other])
        house.ledger.begin_shadow("r0", version=2, detail="", at=0.0)
        pointers = house.registry.pointers

        def broken(line: str) -> object:
            if line == "broken":
                raise NotFound("its pointers are gone")
            return pointers(line)

        monkeypatch.setattr(house.registry, "pointers", broken)
        said = house.look()
        assert "broken: its pointers are gone" in said
        assert house.row().state == "promoted"


class TestApproval:
    def test_one_person_is_enough_and_the_old_champion_scores_beside_it(self, house: House) -> None:
        configured(house, promotion="approval").make()
        house.run(20)
        house.look()
        assert house.row().state == "awaiting_approval"
        approve(house.ledger, ANA, house.registry, line=LINE, version=2, why="looks good", config=house.config, at=2e3)
        assert house.points() == (2, 1, 1)
        assert (house.row().state, house.row().detail) == ("promoted", "approved by ana: looks good")
        assert [(each.action, each.who) for each in house.ledger.audit()][:2] == [
            ("promote", "ana"),
            ("approve", "ana"),
        ]
        assert house.ledger.promotions(LINE)[-1].request_id == "r1"

    def test_four_eyes_are_those_of_two_people(self, house: House) -> None:
        configured(house, promotion="approval", four_eyes=True, shadow_images=0).make()

        def say(actor: Actor) -> None:
            approve(house.ledger, actor, house.registry, line=LINE, version=2, why="ok", config=house.config, at=2e3)

        say(ANA)
        assert (house.row().state, house.points()) == ("awaiting_approval", (1, 2, None))
        with pytest.raises(InvalidInput, match="ana has approved tiles@2 already; the second approval takes another"):
            say(ANA)
        assert house.points() == (1, 2, None)
        say(BO)
        assert (house.row().state, house.row().detail) == ("promoted", "approved by ana and bo: ok")
        assert house.points() == (2, 1, 1)

    def test_one_who_rejects_is_enough(self, house: House) -> None:
        configured(house, promotion="approval", four_eyes=True, shadow_images=0).make()
        approve(house.ledger, ANA, house.registry, line=LINE, version=2, why="ok", config=house.config, at=2e3)
        reject(house.ledger, BO, house.registry, line=LINE, version=2, why="misses scratches", at=2e3)
        assert (house.row().state, house.row().detail) == ("refused", "rejected by bo: misses scratches")
        assert house.points() == (1, None, None)
        outcome = recorded_in(house.ledger).outcome("r1")
        assert outcome is not None
        assert outcome.outcome == "refused"

    def test_a_person_may_decide_before_the_trial_is_over(self, house: House) -> None:
        house.make()
        approve(house.ledger, ANA, house.registry, line=LINE, version=2, why="now", config=house.config, at=2e3)
        assert house.row().state == "promoted"

    @pytest.mark.parametrize("version", [1, 7])
    def test_what_does_not_wait_is_not_approved(self, house: House, version: int) -> None:
        house.make()
        for act in (_approve, _reject):
            with pytest.raises(NotFound, match=f"tiles@{version} does not wait for anybody"):
                act(house, version)
        assert house.points() == (1, 2, None)

    def test_while_one_waits_the_watcher_asks_for_none_but_people_may(self, house: House) -> None:
        configured(house, promotion="approval", shadow_images=0).make()
        assert recorded_in(house.ledger).outcome("r1") is None
        request_retrain(house.ledger, ANA, house.registry, house.config, Wish(), line=LINE, at=house.now)

    def test_a_newer_version_replaces_the_one_that_waits(self, house: House) -> None:
        configured(house, promotion="approval", shadow_images=0).make()
        house.make("r2")
        assert (house.row("r1").state, house.row("r2").state) == ("cancelled", "awaiting_approval")
        assert house.row("r1").detail == "replaced by version 3 before anybody approved it"
        assert house.points() == (1, 3, None)

    def test_who_rejects_is_heard_by_whoever_is_about_to_promote(self, house: House) -> None:
        version = house.make().version
        request = house.row().request
        _reject(house, version)
        with pytest.raises(Conflict, match="not the challenger any more"):
            serve(
                house.ledger, house.registry, request, version, house.config, why="", detail="", at=house.now, as_challenger=True
            )  # fmt: skip
        assert house.points() == (1, None, None)
        assert house.row().state == "refused"

    def test_one_that_waits_while_a_newer_one_serves_is_let_go_at_the_next_look(self, house: House) -> None:
        """The run of the newer one died before it could say so."""
        configured(house, promotion="approval", shadow_images=0).make()
        house.now += 10
        request = house.ask("r2")
        version = house.registry.publish(LINE, artefact(LINE, content="r2", request_id="r2"))
        serve(house.ledger, house.registry, request, version, house.config, why="", detail="", at=house.now)
        house.look()
        assert (house.row("r1").state, house.row("r2").state) == ("cancelled", "promoted")


def _approve(house: House, version: int) -> None:
    approve(house.ledger, ANA, house.registry, line=LINE, version=version, why="", config=house.config, at=2e3)


def _reject(house: House, version: int) -> None:
    reject(house.ledger, ANA, house.registry, line=LINE, version=version, why="", at=2e3)


class TestProbation:
    @pytest.fixture
    def promoted(self, house: House) -> House:
        """Version 2 in service on request, version 1 scores beside it."""
        configured(house, shadow_images=0).make()
        return house

    def test_one_that_flags_more_is_taken_back_by_itself_and_says_why(self, promoted: House) -> None:
        promoted.run(12, flagged=True)
        assert promoted.look() == [], "that may be chance"
        promoted.run(3, flagged=True)
        (words,) = promoted.look()
        assert words.startswith(
            "tiles@2 rolled back to 1: of 15 images that both scored, version 2 flags 15 that version 1"
        )
        assert promoted.points() == (1, None, 2)
        entry = promoted.ledger.audit()[0]
        assert (entry.who, entry.action) == ("driftline", "rollback")
        assert "of 15 images that both scored" in entry.detail
        last = promoted.ledger.promotions(LINE)[-1]
        assert (last.version, last.previous, last.rolled_back) == (1, 2, True)
        assert promoted.look() == []

    def test_a_surge_that_both_see_takes_nothing_back_and_probation_ends(self, promoted: House) -> None:
        promoted.run(39, flagged=True, beside=True)
        assert promoted.look() == []
        promoted.run(1, flagged=True, beside=True)
        assert promoted.look() == ["tiles@2 has passed its probation, 40 of 40 images compared with version 1"]
        assert promoted.points() == (2, None, 1)
        promoted.run(50, flagged=True)
        assert promoted.look() == []

    def test_a_probation_in_which_hardly_anything_was_compared_says_so(self, promoted: House) -> None:
        promoted.run(40, beside=None)
        assert promoted.look() == [
            "tiles@2: its probation is over, but only 0 of 40 images compared with version 1; were the scorers behind, or short of memory?"
        ]

    def test_a_store_that_is_away_is_no_matter_of_one_line(self, promoted: House, tmp_path: Path) -> None:
        class Away(FolderStore):
            def read(self, key: str) -> Revision | None:
                raise Unavailable("the store does not answer; start it")

        promoted.registry = Registry(Away(tmp_path / "away"))
        with pytest.raises(Unavailable):
            promoted.look()

    def test_defects_that_only_the_new_one_finds_do_not_speak_against_it(self, promoted: House) -> None:
        promoted.run(20, flagged=True, review="defect")
        assert promoted.look() == []
        assert promoted.points() == (2, 1, 1)

    def test_one_that_people_correct_far_more_is_taken_back(self, promoted: House) -> None:
        for number in range(20):
            old = _verdict(f"old-{number}", 1, True, at=500.0)
            said = Review(line=LINE, image_id=f"old-{number}", says="defect", note="", by="bo", at=600.0)
            promoted.ledger.record([old, said])
        promoted.run(12, flagged=True, beside=True, review="normal")
        (words,) = promoted.look()
        assert "people called 12 of 12 flagged parts normal, of version 1's 0 of 20" in words
        assert promoted.points() == (1, None, 2)

    def test_it_is_not_promoted_again_by_itself_but_by_a_person(self, promoted: House) -> None:
        promoted.run(15, flagged=True)
        promoted.look()
        request = promoted.row().request
        found = introduce(promoted.ledger, promoted.registry, request, 2, promoted.config, at=promoted.now)
        assert found.pointers.champion == 1
        promote(promoted.ledger, ANA, promoted.registry, line=LINE, version=2, why="it was the lamp", at=promoted.now)
        assert promoted.points() == (2, None, 1)
        promoted.run(50, flagged=True)
        assert promoted.look() == [], "whoever promotes by hand watches it"

    def test_the_next_version_is_tried_out_though_one_is_on_probation(self, promoted: House) -> None:
        configured(promoted).make("r2")
        assert promoted.points() == (2, 3, 1)
        promoted.run(20)
        promoted.look()
        assert promoted.points() == (3, 2, 2)

    def test_a_trial_of_the_previous_version_is_no_probation(self, promoted: House) -> None:
        promoted.ask("r2")
        promoted.registry.set_challenger(LINE, 1)
        promoted.ledger.begin_shadow("r2", version=1, detail="", at=promoted.now)
        configured(promoted, probation_images=1)
        promoted.run(15, flagged=True)
        assert promoted.look() == []

    def test_a_person_who_was_faster_is_not_undone(self, promoted: House, monkeypatch: pytest.MonkeyPatch) -> None:
        promoted.run(15, flagged=True)
        judge = judge_probation

        def slowly(probation: Probation) -> str | None:
            why = judge(probation)
            rollback(promoted.ledger, ANA, promoted.registry, line=LINE, why="I saw it", at=promoted.now)
            return why

        monkeypatch.setattr("streams.succession.judge_probation", slowly)
        assert promoted.look() == []
        assert promoted.points() == (1, None, 2)
        assert [entry.who for entry in promoted.ledger.audit() if entry.action == "rollback"] == ["ana"]

    def test_without_a_previous_version_there_is_nothing_to_do(self, tmp_path: Path) -> None:
        new = opened(tmp_path)
        new.make()
        new.run(60, flagged=True)
        assert new.look() == []


CHAIN: Mapping[str, Callable[[House], object]] = {
    "promote": lambda house: house.make(f"r{len(house.registry.versions(LINE))}"),
    "approve": lambda house: _approve(house, house.registry.pointers(LINE).challenger or 0),
    "rollback": lambda house: rollback(house.ledger, ANA, house.registry, line=LINE, why="", at=house.now),
    "by itself": lambda house: rollback(house.ledger, DRIFTLINE, house.registry, line=LINE, why="", at=house.now),
    "by hand": lambda house: promote(house.ledger, ANA, house.registry, line=LINE, version=1, why="", at=house.now),
}


@pytest.mark.parametrize(
    "chain",
    [
        ("promote", "rollback"),
        ("promote", "promote", "rollback", "rollback"),
        ("promote", "by itself", "promote", "by hand", "rollback", "promote"),
    ],
)
def test_previous_can_always_be_loaded(house: House, chain: tuple[str, ...]) -> None:
    configured(house, shadow_images=0)
    for step in chain:
        CHAIN[step](house)
        pointers = house.registry.pointers(LINE)
        for version in (pointers.champion, pointers.previous):
            assert version is not None
            assert house.registry.verify(LINE, version) == []
            assert house.registry.files(LINE, version)
    assert house.registry.resolve(f"{LINE}@previous")[1] == pointers.previous
