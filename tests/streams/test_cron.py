"""Schedules: when they come due, against a look at every minute; and expressions that are none."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.errors import InvalidInput
from streams.cron import LONGEST, check_schedule, last_due

DAY = 86_400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("expression", "now", "due"),
    [
        ("0 3 * * *", "2026-03-10T02:59:59.9", "2026-03-09T03:00"),
        ("0 3 * * *", "2026-03-10T03:00", "2026-03-10T03:00"),
        ("0 3 * * *", "2026-03-10T03:00:00.5", "2026-03-10T03:00"),
        ("*/15 * * * *", "2026-03-10T12:07", "2026-03-10T12:00"),
        ("0 3 * * MON", "2026-03-10T12:00", "2026-03-09T03:00"),
        ("30 6 1 * *", "2026-03-10T12:00", "2026-03-01T06:30"),
        ("0 3 29 2 *", "2026-03-10T12:00", "2024-02-29T03:00"),
        ("30 2 * * *", "2026-03-29T02:45", "2026-03-29T02:30"),
    ],
)
def test_the_last_due_moment(expression: str, now: str, due: str) -> None:
    assert last_due(expression, at=at(now)) == at(due)


@given(
    st.integers(0, 59), st.integers(0, 23), st.floats(1e9, 2e9, allow_nan=False)
)  # fmt: skip
def test_a_daily_schedule_was_due_within_the_last_day(minute: int, hour: int, now: float) -> None:
    due = last_due(f"{minute} {hour} * * *", at=now)
    assert due is not None
    assert 0 <= now - due < DAY
    assert due % DAY == 3600 * hour + 60 * minute


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("", "0 fields"),
        ("daily", "1 fields"),
        ("@daily", "1 fields"),
        ("* * * *", "4 fields"),
        ("0 0 3 * * *", "6 fields"),
        ("61 * * * *", "bad minute"),
        ("0 25 * * *", "bad hour"),
        ("0 3 0 * *", "bad day-of-month"),
        ("0 3 * 13 *", "bad month"),
        ("0 3 * * 9", "bad day-of-week"),
        ("0 3 * * monday", "bad day-of-week"),
        ("0 3 30 2 *", "bad day-of-month"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("\u0663 * * * *", "bad minute"),
        ("0 " * LONGEST, "400 characters"),
        ("9" * 5000 + " * * * *", "5008 characters"),
    ],
)
def test_an_expression_that_is_none_says_what_is_wrong_and_shows_one(expression: str, wrong: str) -> None:
    with pytest.raises(
        InvalidInput, match=rf"is no cron expression: {wrong}; write five fields, such as '0 3 \* \* MON'"
    ):
        check_schedule(expression)
    with pytest.raises(InvalidInput):
        last_due(expression, at=0.0)


@given(st.text(alphabet="0123456789*/,-#LWMON \u0663", max_size=30))
def test_whatever_is_written_there_is_a_schedule_or_refused(text: str) -> None:
    try:
        check_schedule(text)
    except InvalidInput:
        return
    due = last_due(text, at=1.7e9)
    assert due is None or due <= 1.7e9
