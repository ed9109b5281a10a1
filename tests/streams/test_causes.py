"""What asks for a new model when nothing has drifted: reviews and schedules, in virtual time, and what is filed of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.causes import (
    MISSED_AFTER_S,
    Champion,
    Standing,
    Wish,
    by_reviews,
    by_schedule,
    file_request,
    standing_since,
)
from streams.ledger import Ledger
from streams.messages import RetrainRequest
from streams.reviews import ReviewedPart
from streams.settings import LineConfig
from tests.streams.test_ledger import request, verdict

LINE = "tiles"
CHAMPION = Champion(version=3, made_at=100.0)
DAY, HOUR = 86_400.0, 3600.0
AT_THREE = Standing("0 3 * * *", since=0.0)


def part(says: str, *, at: float) -> ReviewedPart:
    return ReviewedPart(verdict(f"{says}-{at}"), says, at)


def reviews(config: LineConfig, parts: list[ReviewedPart], *, answered_at: float = 0.0) -> RetrainRequest | None:
    return by_reviews(LINE, config, CHAMPION, parts, answered_at=answered_at, at=900.0)


class TestReviews:
    def test_so_many_marked_parts_ask_for_a_refresh_once(self) -> None:
        config = LineConfig(review_images=3)
        parts = [part("normal", at=101.0), part("defect", at=102.0), part("unsure", at=103.0)]
        assert reviews(config, parts) is None
        parts.append(part("normal", at=104.0))
        asked = reviews(config, parts)
        assert asked is not None
        assert (asked.cause, asked.mode, asked.image_keys, asked.wanted_images) == ("reviews", "refresh", (), 200)
        assert (asked.parent_version, asked.requested_at) == (3, 900.0)
        again = reviews(config, [*parts, part("defect", at=105.0)])
        assert again is not None
        assert again.request_id == asked.request_id

    def test_what_was_said_before_the_model_was_made_counts_no_more(self) -> None:
        config = LineConfig(review_images=1)
        assert reviews(config, [part("normal", at=100.0)]) is None
        assert reviews(config, [part("normal", at=100.5)]) is not None

    def test_what_a_request_answered_does_not_ask_again(self) -> None:
        config, parts = LineConfig(review_images=2), [part("normal", at=101.0), part("normal", at=102.0)]
        assert reviews(config, parts, answered_at=102.0) is None
        more = [*parts, part("defect", at=103.0), part("defect", at=104.0)]
        first, second = reviews(config, parts), reviews(config, more, answered_at=102.0)
        assert first is not None
        assert second is not None
        assert first.request_id != second.request_id

    def test_none_wanted_none_asked(self) -> None:
        assert reviews(LineConfig(review_images=0), [part("normal", at=101.0)]) is None


class TestSchedule:
    @pytest.mark.parametrize(
        ("standing", "made_at", "now", "asks"),
        [
            (AT_THREE, 0.0, 3 * HOUR - 1, False),  # due next in a second; last due before the epoch
            (AT_THREE, 0.0, 3 * HOUR, True),
            (AT_THREE, 0.0, 3 * HOUR + DAY - 1, True),  # everything was down: made up for within a day
            (Standing("0 3 * * *", since=3 * HOUR + 1), 0.0, 4 * HOUR, False),  # configured after it came due
            (AT_THREE, 3 * HOUR + 60, 4 * HOUR, False),  # the line has got a model since
            (Standing("0 3 1 * *", since=0.0), 0.0, 3 * HOUR + MISSED_AFTER_S, False),  # missed too long ago
        ],
    )
    def test_it_asks_once_it_came_due(self, standing: Standing, made_at: float, now: float, asks: bool) -> None:
        asked = by_schedule(LINE, Champion(3, made_at), standing, at=now)
        assert (asked is not None) == asks
        if asked is not None:
            assert (asked.cause, asked.mode, asked.requested_at, asked.wanted_images) == (
                "schedule",
                "refresh",
                now,
                200,
            )

    @given(st.lists(st.floats(0.0, 10 * DAY), max_size=60))
    def test_however_often_it_is_looked_at_each_day_asks_at_most_once(self, looks: list[float]) -> None:
        asked = [(now, by_schedule(LINE, Champion(1, 0.0), AT_THREE, at=now)) for now in sorted(looks)]
        ids = {int((now - 3 * HOUR) // DAY): each.request_id for now, each in asked if each}
        assert len({each.request_id for _, each in asked if each}) == len(ids)

    def test_another_schedule_stands_from_when_it_is_seen(self) -> None:
        first = standing_since({}, {LINE: LineConfig(schedule="0 3 * * *"), "doors": LineConfig()}, at=5.0)
        assert first == {LINE: Standing("0 3 * * *", 5.0)}
        assert standing_since(first, {LINE: LineConfig(schedule="0 3 * * *")}, at=9.0) == first
        changed = standing_since(first, {LINE: LineConfig(schedule="0 4 * * *")}, at=9.0)
        assert changed == {LINE: Standing("0 4 * * *", 9.0)}
        assert standing_since(changed, {}, at=10.0) == {}


class TestFiling:
    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Ledger:
        return Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")

    def asked(self) -> RetrainRequest:
        found = by_schedule(LINE, CHAMPION, AT_THREE, at=3 * HOUR)
        assert found is not None
        return found

    def test_it_is_audited_and_goes_onto_the_bus(self, ledger: Ledger) -> None:
        assert file_request(ledger, self.asked(), "schedule 0 3 * * *")
        assert [row.request for row in ledger.requests(LINE)] == [self.asked()]
        assert [message for _, message in ledger.outbox(9)] == [self.asked()]
        (entry,) = ledger.audit()
        assert (entry.who, entry.role, entry.action, entry.detail) == (
            "driftline",
            "system",
            "retrain",
            "schedule 0 3 * * *",
        )

    def test_the_same_cause_is_filed_once_even_after_its_request_ended(self, ledger: Ledger) -> None:
        assert file_request(ledger, self.asked(), "")
        assert not file_request(ledger, self.asked(), "")
        ledger.end_request(self.asked().request_id, outcome="refused", version=None, detail="", at=9.0)
        assert not file_request(ledger, self.asked(), "")
        assert (len(ledger.requests(LINE)), len(ledger.audit()), len(ledger.outbox(9))) == (1, 1, 1)

    def test_nothing_is_filed_while_the_line_has_an_open_request(self, ledger: Ledger) -> None:
        ledger.record([request("r1")])
        assert not file_request(ledger, self.asked(), "")
        ledger.end_request("r1", outcome="failed", version=None, detail="", at=9.0)
        assert file_request(ledger, self.asked(), "")


def test_a_wish_in_words() -> None:
    assert Wish().in_words == "blind, the latest 200 images"
