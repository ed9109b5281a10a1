"""What the drift page says, against what was written: incidents, what came of them, the signal around a change, its place."""

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture
from sqlalchemy import Engine, event

from dashboard.around import AFTER, BEFORE, BETWEEN, FLAG_SHARE_IMAGES, signal_around, verdicts_around
from dashboard.decisions import OUTCOMES, decided
from dashboard.drift_map import DriftMap, limit_of, looked_at, with_drift_map
from dashboard.incidents import (
    KINDS,
    PAST_SHOWN,
    STATES,
    IncidentCard,
    drift_map_of,
    incident_card,
    kind_look,
    on_the_line,
    state_look,
)
from dashboard.signals import FLAGGED, NAMES, name_of, robust_z, unit_of, value_of
from detectors.errors import NotFound
from detectors.manifest import DriftReference, Preprocessing
from detectors.maps import REGIONS
from streams.calibrating import FIELDS, NUMBERS, SUSPICION
from streams.ledger import OUTCOMES as ENDS
from streams.ledger import UNENDED
from streams.messages import DriftIncident, IncidentAnswer
from streams.settings import LineConfig
from tests.dashboard import drifted
from tests.dashboard import installation as given
from tests.dashboard.installation import LINE, Installation

NOW = 1_800_000_000.0
CONFIG = LineConfig()
FLAT = (0.0,) * REGIONS**2


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return given.installation(tmp_path)


@pytest.fixture
def told(here: Installation) -> Installation:
    drifted.tell_of_drift(here, now=NOW, pictures=False)
    return here


def old(name: str = "old", *, at: float = NOW, **changes: object) -> DriftIncident:
    return drifted.old_incident(at=at, incident_id=name, **changes)


def card_of(here: Installation, incident_id: str) -> IncidentCard:
    going_on, past = on_the_line(here.ledger, LINE)
    (incident,) = [each for each in going_on + past if each.incident_id == incident_id]
    return incident_card(here.ledger, incident)


class TestList:
    def test_what_goes_on_comes_first_and_the_latest_first(self, told: Installation) -> None:
        going_on, past = on_the_line(told.ledger, LINE)
        assert [each.incident_id for each in going_on] == [drifted.DIMMED, drifted.SURGED, drifted.SMUDGED]
        assert [each.state for each in going_on] == ["reopened", "opened", "growing"]
        assert [each.incident_id for each in past] == [drifted.CLOSED]

    def test_of_those_that_are_over_only_the_last_ones(self, here: Installation) -> None:
        many = [old(str(number), at=NOW + number, state="closed") for number in range(PAST_SHOWN + 5)]
        here.ledger.record(many)
        going_on, past = on_the_line(here.ledger, LINE)
        assert going_on == []
        assert [each.incident_id for each in past] == [str(number) for number in range(PAST_SHOWN + 4, 4, -1)]

    def test_of_other_lines_nothing(self, here: Installation) -> None:
        here.ledger.record([old(line="another")])
        assert on_the_line(here.ledger, LINE) == ([], [])

    def test_every_state_and_kind_has_a_symbol_and_a_word_of_its_own(self) -> None:
        for looks in (STATES, KINDS):
            assert len({look.symbol for look in looks.values()}) == len(looks)
            assert len({look.word for look in looks.values()}) == len(looks)
        assert set(STATES) == {"opened", "growing", "reopened", "closed"}

    def test_a_kind_or_state_of_tomorrow_is_said_as_it_is(self) -> None:
        assert (kind_look("lens_loose").word, state_look("muted").word) == ("lens_loose", "muted")

    def test_a_card_has_its_images_and_its_own_requests(self, told: Installation) -> None:
        closed, smudged = card_of(told, drifted.CLOSED), card_of(told, drifted.SMUDGED)
        assert closed.before is not None
        assert closed.since is not None
        assert closed.alarm is not None
        assert (closed.before.image_id, closed.since.image_id, closed.alarm.image_id) == (
            "part-79",
            "part-80",
            "part-92",
        )
        assert [row.request.incident_id for row in closed.requests] == [drifted.CLOSED]
        assert smudged.requests == ()
        assert (closed.is_open, smudged.is_open) == (False, True)

    def test_an_old_incident_has_neither_image_before_nor_map(self, here: Installation) -> None:
        here.ledger.record([old()])
        card = card_of(here, "old")
        assert (card.before, card.since, card.alarm, card.answers) == (None, None, None, ())
        assert card.alarm_at == NOW
        assert drift_map_of(card.incident) is None

    def test_a_map_of_another_grid_is_not_drawn(self) -> None:
        assert drift_map_of(old(where=(1.0, 2.0))) is None
        assert drift_map_of(old(where=FLAT)) == FLAT


class TestDecided:
    def test_a_new_model_came_of_it(self, told: Installation) -> None:
        words = decided(told.ledger, card_of(told, drifted.CLOSED), CONFIG)
        assert words == "A new model was made and put into service (version 2): all gates passed."

    def test_a_request_that_is_under_way(self, here: Installation) -> None:
        here.ledger.record([old(f"{LINE}-1"), given.request(LINE, at=NOW)])
        words = decided(here.ledger, card_of(here, f"{LINE}-1"), CONFIG)
        assert words.startswith("A new model was asked for and waits for its turn. It learns from 3 images")
        here.ledger.begin_request(given.REQUEST, run_id="run", attempt=1, at=NOW)
        assert decided(here.ledger, card_of(here, f"{LINE}-1"), CONFIG).startswith("A new model is being made.")

    def test_of_several_requests_the_last_counts(self, here: Installation) -> None:
        first = given.request(LINE, at=NOW)
        second = msgspec.structs.replace(first, request_id="again", requested_at=NOW + 60)
        here.ledger.record([old(f"{LINE}-1"), first, second])
        here.ledger.end_request(given.REQUEST, outcome="refused", version=None, detail="misses defects", at=NOW + 9)
        here.ledger.end_request("again", outcome="failed", version=None, detail="no memory.", at=NOW + 99)
        words = decided(here.ledger, card_of(here, f"{LINE}-1"), CONFIG)
        assert words == "No new model could be made: no memory. Asked for 2 times."

    def test_every_end_of_a_request_has_words(self) -> None:
        assert set(OUTCOMES) == {*UNENDED, *ENDS}

    @pytest.mark.parametrize(
        ("kind", "words"), [("defect_surge", "take defects for normal"), ("camera_fault", "cure a camera")]
    )
    def test_what_never_retrains(self, here: Installation, kind: str, words: str) -> None:
        here.ledger.record([old(kind=kind)])
        assert words in decided(here.ledger, card_of(here, "old"), CONFIG)

    def test_it_waits_for_images_and_counts_them(self, here: Installation) -> None:
        here.ledger.record([old(), *(given.verdict(LINE, number, at=NOW - 3 + number) for number in range(10))])
        words = decided(here.ledger, card_of(here, "old"), LineConfig(retrain_images=60))
        assert words == "It waits for images to learn from: 6 of 60 have come since the alarm."
        assert "has its images" in decided(here.ledger, card_of(here, "old"), LineConfig(retrain_images=6))

    def test_it_waits_for_another_model_or_for_a_person(self, here: Installation) -> None:
        here.ledger.record([old(), given.request(LINE, at=NOW)])
        assert "one at a time" in decided(here.ledger, card_of(here, "old"), CONFIG)
        assert "waits for a person" in decided(here.ledger, card_of(here, "old"), LineConfig(auto=False))

    def test_what_a_person_said_decides(self, here: Installation) -> None:
        here.ledger.record([old()])
        bare = card_of(here, "old")
        answers = [
            IncidentAnswer(line=LINE, incident_id="old", says=says, note="", by="ana", at=NOW)
            for says in ("expected", "ignored")
        ]
        ignored = IncidentCard(bare.incident, None, None, None, (), answers=tuple(answers))
        assert decided(here.ledger, ignored, CONFIG) == "No new model: ana explained it."
        expected = IncidentCard(bare.incident, None, None, None, (), answers=tuple(reversed(answers)))
        assert "waits for images" in decided(here.ledger, expected, LineConfig(auto=False))

    def test_over_before_a_model_was_asked_for(self, here: Installation) -> None:
        here.ledger.record([old(state="closed")])
        assert "was over before" in decided(here.ledger, card_of(here, "old"), CONFIG)


class TestSignals:
    def test_every_watched_signal_has_words_a_unit_and_a_value(self) -> None:
        assert set(NAMES) == {*NUMBERS, FLAGGED, SUSPICION}
        verdict = given.verdict(LINE, 1, at=NOW, score=3.0, bulk=1.4)
        full = dict.fromkeys(NUMBERS, 1.0) | {"regions": tuple(map(float, range(REGIONS**2)))}
        verdict = msgspec.structs.replace(verdict, signals=msgspec.structs.replace(verdict.signals, **full))
        for name in (*NUMBERS, FLAGGED, SUSPICION, *FIELDS):
            assert name_of(name) != name or name in ("contrast", "sharpness", "noise")
            assert unit_of(name) in ("grey levels", "share", "distance")
            assert value_of(verdict, name) is not None or name == SUSPICION
        assert [value_of(verdict, f"bulk@r{row}c{column}") for row, column in ((1, 1), (1, 2), (2, 1), (4, 4))] == [
            0.0, 1.0, 4.0, 15.0,
        ]  # fmt: skip

    def test_what_a_verdict_does_not_say_is_absent(self) -> None:
        verdict = given.verdict(LINE, 1, at=NOW)
        assert [value_of(verdict, name) for name in ("warmth", "bulk@r1c1", "__class__", "regions")] == [None] * 4

    def test_deviations_are_those_of_the_reference(self) -> None:
        values = (1.0, 2.0, 3.0, 4.0, 5.0)
        reference = DriftReference(peak=values, bulk=values, mean=values, contrast=values, sharpness=values)
        found = robust_z([3.0, 6.0], reference, "bulk")
        assert found is not None
        assert found.tolist() == pytest.approx([0.0, 3 * 0.6745])
        assert robust_z([3.0], reference, "bulk@r1c1") is None
        assert robust_z([3.0], reference, FLAGGED) is None


class TestAround:
    def test_the_signal_before_and_after_the_change_in_deviations(self, told: Installation) -> None:
        around = signal_around(told.ledger, told.registry, card_of(told, drifted.SMUDGED))
        points = around.points.set_index("image")
        assert around.in_deviations
        assert points.loc[0, "image_id"] == "part-226"
        assert abs(float(points.loc[-40:-7, "z"].median())) < 1 < 6 < float(points.loc[-6:, "z"].median())
        assert points.index.is_monotonic_increasing
        assert (points.index.min(), points.index.max()) == (-6 - BEFORE, AFTER)
        assert dict(zip(around.marks["kind"], around.marks["image"], strict=True)) == {"drift": 0.0, "change": -6.5}

    def test_each_version_is_measured_by_its_own_reference(self, told: Installation) -> None:
        points = signal_around(told.ledger, told.registry, card_of(told, drifted.CLOSED)).points
        first, second = (points[points["version"] == version] for version in (1, 2))
        assert float(first["z"][first["image"] > 0].median()) > 3
        assert abs(float(second["z"].median())) < 1

    def test_in_its_own_units_where_no_reference_is_left(self, told: Installation) -> None:
        card = card_of(told, drifted.DIMMED)
        empty = given.installation(Path(str(told.settings.home)) / "another")
        around = signal_around(told.ledger, empty.registry, card)
        assert not around.in_deviations
        assert around.points["shown"].tolist() == around.points["value"].tolist()
        assert around.points["value"].iloc[0] == pytest.approx(126, abs=15)

    def test_the_flag_is_a_share_of_the_latest_images(self, told: Installation) -> None:
        points = signal_around(told.ledger, told.registry, card_of(told, drifted.SURGED)).points.set_index("image")
        flags = [float(each.flagged) for each in told.ledger.verdicts(LINE, limit=drifted.IMAGES)][::-1]
        last = drifted.NOTICED[drifted.SURGE] + 1
        assert points.loc[0, "value"] == pytest.approx(np.mean(flags[last - FLAG_SHARE_IMAGES : last]))
        assert points.loc[40, "value"] > 0.25 > 0.1 > points.loc[-30, "value"]

    def test_a_line_that_knows_none_of_its_images_has_no_points(self, here: Installation) -> None:
        here.ledger.record([old()])
        around = signal_around(here.ledger, here.registry, card_of(here, "old"))
        assert around.points.empty
        assert around.marks["kind"].tolist() == ["drift"]

    def test_signals_that_old_verdicts_lack_have_no_points(self, here: Installation) -> None:
        here.ledger.record([old(signal="noise"), given.verdict(LINE, 20, at=NOW)])
        assert signal_around(here.ledger, here.registry, card_of(here, "old")).points.empty

    def test_images_judged_out_of_their_turn_are_left_out(self, here: Installation) -> None:
        late = msgspec.structs.replace(given.verdict(LINE, 9, at=NOW - 5), late=True)
        here.ledger.record([old(), late, given.verdict(LINE, 20, at=NOW)])
        points = signal_around(here.ledger, here.registry, card_of(here, "old")).points
        assert points["image_id"].tolist() == ["part-20"]

    def test_few_verdicts_are_read_however_many_there_are(self, here: Installation) -> None:
        images = BEFORE + BETWEEN + AFTER + 40
        here.ledger.record([given.verdict(LINE, number, at=NOW + number) for number in range(images)])
        since, alarm = NOW + BEFORE + 20, NOW + BEFORE + 30

        def numbers(since_at: float, alarm_at: float) -> list[int]:
            found = verdicts_around(here.ledger, LINE, since_at=since_at, alarm_at=alarm_at)
            return [int(verdict.image_id.removeprefix("part-")) for verdict in found]

        assert numbers(since, alarm) == list(range(20, BEFORE + 30 + AFTER + 1))
        slow = numbers(NOW + 10, NOW + BETWEEN + 50)
        assert slow == list(range(51, BETWEEN + 51 + AFTER)), "of a change that took long the end, without a gap"

    def test_they_are_found_by_the_index(self, here: Installation) -> None:
        asked: list[tuple[str, tuple[object, ...]]] = []

        def note(
            connection: object, cursor: object, statement: str, parameters: tuple[object, ...], *_: object
        ) -> None:
            asked.append((statement, parameters))

        event.listen(Engine, "before_cursor_execute", note)
        try:
            verdicts_around(here.ledger, LINE, since_at=NOW, alarm_at=NOW)
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        queries = [each for each in asked if "FROM verdicts" in each[0]]
        with here.ledger.transaction(writes=False) as connection:
            plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all() for sql, values in queries]
        assert len(plans) == 3
        assert all("USING INDEX verdicts_by_time (line=? AND judged_at" in str(plan[0]) for plan in plans), plans


class TestDriftMap:
    def test_red_where_it_moved_away_blue_where_nearer_and_the_rest_as_it_was(self, here: Installation) -> None:
        where = (8.0, *FLAT[1:-1], -8.0)
        drawn, plain = self._drawn(here, where), self._drawn(here, FLAT)
        away, nearer, still = ((slice(4, 20), slice(4, 20)), (slice(-20, -4), slice(-20, -4)), (slice(90, 150),) * 2)
        assert drawn[away][..., 0].mean() > plain[away][..., 0].mean() + 20 > drawn[away][..., 2].mean() + 40
        assert drawn[nearer][..., 2].mean() > drawn[nearer][..., 0].mean() + 40
        assert np.abs(drawn[still] - plain[still]).mean() < 3

    def test_fields_that_moved_are_numbered(self, here: Installation) -> None:
        middle = (slice(28, 52), slice(20, 60))
        assert self._drawn(here, (1.2, *FLAT[1:]))[middle].max() > 240
        assert self._drawn(here, (0.9, *FLAT[1:]))[middle].max() < 200

    def test_it_lies_where_the_model_looks(self, here: Installation) -> None:
        drawn = self._drawn(here, (8.0,) * REGIONS**2, crop=(0.5, 0.0, 1.0, 1.0))
        assert drawn[:, :150].std() < 3
        assert drawn[:, 170:, 0].mean() > drawn[:, 170:, 2].mean() + 40

    def test_where_the_model_looks_is_in_its_manifest(self, here: Installation) -> None:
        crop = (0.25, 0.0, 0.75, 1.0)
        version = given.publish(here, LINE, prepare=Preprocessing(crop=crop))
        assert looked_at(here.registry, LINE, version) == crop
        assert looked_at(here.registry, LINE, 99) == (0.0, 0.0, 1.0, 1.0)

    def test_weak_shifts_are_not_blown_up(self) -> None:
        assert (limit_of((0.2,) * 16), limit_of((0.2, -12.0))) == (3.0, 12.0)

    def test_a_tiny_picture_and_one_that_is_gone(self, here: Installation) -> None:
        assert self._drawn(here, FLAT, side_px=3).shape == (3, 3, 3)
        with pytest.raises(NotFound):
            with_drift_map(here.store, "images/gone.png", FLAT)

    def _drawn(
        self,
        here: Installation,
        where: DriftMap,
        *,
        crop: tuple[float, float, float, float] = (0, 0, 1, 1),
        side_px: int = 320,
    ) -> NDArray[np.float64]:
        """The map over a grey picture, as pixels."""
        here.store.put("images/grey.png", given.png(np.full((side_px, side_px, 3), 120, np.uint8)))
        jpeg = with_drift_map(here.store, "images/grey.png", where, crop)
        return np.asarray(Picture.open(io.BytesIO(jpeg)), dtype=np.float64)
