"""Health means progress: the decision on signs alone, and the signs of real turns on a clock that the test moves."""

import threading
import time
from collections.abc import Callable

import pytest

from detectors.errors import Unavailable
from streams.health import LagWatch, Signs, Vitals, health_of
from streams.messages import DeadLetter
from streams.worker import Committed, Effects, Handed, Rested, Waiting
from tests.streams.bus_contract import until

AWAY = "the store does not answer; start it"


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Lag:
    """A lag that the test sets, or the error with which it is answered; counts how often it was asked."""

    def __init__(self, answer: int | Exception) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("signs", "well", "reason"),
    [
        (Signs(up_s=5, lag=9, behind_s=5), True, "began 5.0 s ago"),
        (Signs(up_s=5), True, "began 5.0 s ago"),
        (Signs(up_s=900, lag=0), True, "nothing is left to do"),
        (Signs(up_s=900, quiet_s=29.9, lag=9, behind_s=800), True, "committed 29.9 s ago"),
        (Signs(up_s=900, quiet_s=3), True, "committed 3.0 s ago"),
        (Signs(up_s=900, quiet_s=800, lag=1, behind_s=2), True, "1 messages came 2.0 s ago"),
        (Signs(up_s=900, lag=9, behind_s=31), False, "9 messages are left and nothing was committed for 31 s"),
        (Signs(up_s=900, quiet_s=31, lag=9, behind_s=800), False, "9 messages are left and nothing was committed for 31 s"),
        (Signs(up_s=900, quiet_s=31), False, "how far behind it is cannot be asked: no answer within 2 s"),
        (Signs(up_s=900, quiet_s=1, lag_fault="no bus"), False, "how far behind it is cannot be asked: no bus"),
        (Signs(up_s=1, quiet_s=1, lag=0, waiting_for=AWAY), False, f"waiting: {AWAY}"),
    ],
)  # fmt: skip
def test_what_is_well_and_why(signs: Signs, well: bool, reason: str) -> None:
    assert health_of(signs) == (well, reason)


def vitals_of(lag: Callable[[], int]) -> tuple[Vitals, Clock]:
    """Vitals on a clock of the test, of a worker that began a while ago."""
    clock = Clock()
    vitals = Vitals(lag, clock=clock)
    clock.advance(600)
    return vitals, clock


def well_after(seconds: float, vitals: Vitals, clock: Clock, *, every: float = 5.0) -> bool:
    """Whether the worker is well after some time in which somebody looked regularly."""
    for _ in range(int(seconds / every)):
        vitals.health()
        clock.advance(every)
    return vitals.health().well


def test_a_worker_at_rest_is_well_for_ever() -> None:
    vitals, clock = vitals_of(Lag(0))
    vitals.hear(Rested())
    assert well_after(3600, vitals, clock, every=600)


def test_a_message_after_a_quiet_night_is_no_illness() -> None:
    lag = Lag(0)
    vitals, clock = vitals_of(lag)
    vitals.hear(Committed(1, Effects()))
    assert well_after(40_000, vitals, clock, every=3600)
    lag.answer = 3
    vitals.hear(Handed(3))
    assert well_after(20, vitals, clock)
    assert not well_after(15, vitals, clock)


def test_a_worker_that_hangs_over_its_records_is_not_well_whatever_the_others_do() -> None:
    lag = Lag(100)
    vitals, clock = vitals_of(lag)
    vitals.hear(Handed(4))
    for _ in range(8):
        lag.answer = lag.answer - 10 if isinstance(lag.answer, int) else 0
        vitals.health()
        clock.advance(5)
    health = vitals.health()
    assert (health.well, health.reason) == (False, "20 messages are left and nothing was committed for 40 s")


def test_a_worker_that_is_handed_nothing_is_well_while_others_catch_up() -> None:
    lag = Lag(1000)
    vitals, clock = vitals_of(lag)
    for _ in range(20):
        lag.answer = lag.answer - 10 if isinstance(lag.answer, int) else 0
        vitals.hear(Rested())
        assert vitals.health().well
        clock.advance(10)


def test_a_worker_that_is_handed_nothing_while_nobody_catches_up_is_not_well() -> None:
    vitals, clock = vitals_of(Lag(1000))
    vitals.hear(Rested())
    assert not well_after(40, vitals, clock)


def test_a_worker_that_commits_is_well_however_far_behind() -> None:
    lag = Lag(10)
    vitals, clock = vitals_of(lag)
    for number in range(100):
        lag.answer = 10 * number
        vitals.hear(Handed(4))
        vitals.hear(Committed(4, Effects()))
        clock.advance(5)
        assert vitals.health().well


def test_waiting_shows_at_once_and_ends_with_the_next_commit() -> None:
    vitals, _ = vitals_of(Lag(4))
    vitals.hear(Handed(4))
    vitals.hear(Waiting(AWAY))
    assert (vitals.health().well, vitals.health().waiting_for) == (False, AWAY)
    vitals.hear(Handed(4))
    assert not vitals.health().well
    vitals.hear(Committed(4, Effects()))
    assert (vitals.health().well, vitals.health().waiting_for) == (True, None)


def test_waiting_ends_with_a_turn_in_which_nothing_was_away() -> None:
    vitals, _ = vitals_of(Lag(0))
    vitals.hear(Waiting(AWAY))
    vitals.hear(Rested())
    assert vitals.health().well


def test_what_was_committed_is_counted() -> None:
    letter = DeadLetter(
        line="tiles", source_topic="images", source_partition=0, source_offset=0, error="E", reason="r",
        original=b"", headers=(), key=b"tiles", at=0.0,
    )  # fmt: skip
    vitals, clock = vitals_of(Lag(2))
    vitals.hear(Committed(5, Effects(dead=(letter,))))
    vitals.hear(Committed(3, Effects()))
    clock.advance(7)
    health = vitals.health()
    assert (health.records, health.dead_letters, health.since_commit_s, health.lag, health.up_s) == (8, 1, 7, 2, 607)


def test_a_bus_that_cannot_be_asked_is_an_illness_until_it_answers() -> None:
    lag = Lag(Unavailable("no broker answers; start one"))
    vitals, clock = vitals_of(lag)
    health = vitals.health()
    assert (health.well, health.lag) == (False, None)
    assert health.reason == "how far behind it is cannot be asked: no broker answers; start one"
    lag.answer = 0
    clock.advance(1)
    assert vitals.health().well


def test_many_who_look_ask_the_bus_once_a_second() -> None:
    lag, clock = Lag(7), Clock()
    watch = LagWatch(lag, clock=clock)
    lookers = [threading.Thread(target=watch.look) for _ in range(20)]
    for each in lookers:
        each.start()
    for each in lookers:
        each.join()
    assert lag.asked == 1
    clock.advance(1)
    assert watch.look().lag == 7
    assert lag.asked == 2


def test_a_bus_that_hangs_holds_nobody_up_and_is_asked_only_once() -> None:
    release = threading.Event()
    asked: list[float] = []

    def hang() -> int:
        asked.append(time.monotonic())
        release.wait()
        return 3

    vitals = Vitals(hang, patience_s=0.0)
    try:
        began = time.monotonic()
        vitals.hear(Committed(1, Effects()))  # the worker is not held up
        assert time.monotonic() - began < 1.0
        health = vitals.health()
        assert (health.well, health.lag) == (False, None)
        assert health.reason == "how far behind it is cannot be asked: no answer within 2 s"
        again = time.monotonic()
        vitals.health()
        assert time.monotonic() - again < 1.0
        assert len(asked) == 1
    finally:
        release.set()
    until(lambda: vitals.health().lag == 3)


def test_an_answer_of_a_moment_ago_stands_while_the_next_is_slow() -> None:
    hold = threading.Event()
    hold.set()
    clock = Clock()
    watch = LagWatch(lambda: 5 if hold.wait() else 0, clock=clock)
    try:
        assert watch.look().lag == 5
        hold.clear()
        clock.advance(3)
        assert watch.look().lag == 5
        clock.advance(8)
        assert watch.look().lag is None
    finally:
        hold.set()
