"""The life of an incident in virtual time: each alarm merges, grows, opens or reopens; silence closes."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.incidents import GROWN, QUIET_IMAGES, Incident, ending, live_through
from streams.messages import DriftIncident

COOLDOWN_S = 60.0


def alarm(at: float, *, effect: float = 2.0, kind: str = "covariate_drift") -> DriftIncident:
    """What the alarm of the image judged at that second would open."""
    return DriftIncident(
        line="tiles", incident_id=f"{kind}-{at:g}", kind=kind, state="opened", version=1, signal="bulk", test="page_hinkley",
        reference=1.0, observed=1.0 + effect, effect=effect, since_image_id=f"{at - 5:g}", alarm_image_id=f"{at:g}",
        after_images=int(at), at=at, before_image_id=f"{at - 6:g}",
    )  # fmt: skip


class Line:
    """One image a second, and what is told of its incidents."""

    def __init__(self, at: float = 0.0) -> None:
        self.at, self.incidents, self.told = at, tuple[Incident, ...](), list[DriftIncident]()

    def judge(self, images: int = 1, *effects: float, kind: str = "covariate_drift", may_close: bool = True) -> None:
        """Some images; the first of them alarms with each of the effects."""
        for number in range(images):
            alarms = [alarm(self.at, effect=effect, kind=kind) for effect in effects if number == 0]
            self.incidents, news = live_through(
                self.incidents, alarms, at=self.at, cooldown_s=COOLDOWN_S, may_close=may_close
            )
            self.told += news
            self.at += 1

    @property
    def states(self) -> list[str]:
        return [each.state for each in self.told]


def test_an_alarm_of_its_kind_opens_nothing_and_starts_the_quiet_again() -> None:
    line = Line()
    line.judge(QUIET_IMAGES, 2.0)
    line.judge(QUIET_IMAGES, 2.5)
    assert line.states == ["opened"]
    line.judge(1)
    assert line.states == ["opened", "closed"]


def test_it_is_growing_each_time_it_is_more_than_half_again_larger_than_what_was_told() -> None:
    line = Line()
    for effect in (2.0, 3.0, -3.1, 3.2, 4.6, 4.7, 4.7, 2.0):
        line.judge(10, effect)
    assert line.states == ["opened", "growing", "growing"]
    assert [each.effect for each in line.told] == [2.0, -3.1, 4.7]
    opened, _, grown = line.told
    assert (grown.sequence, grown.at, grown.observed) == (2, 50.0, 5.7)
    for name in ("incident_id", "since_image_id", "before_image_id", "alarm_image_id", "after_images"):
        assert getattr(grown, name) == getattr(opened, name), "the images are those of its opening"
    assert grown.reason == "4.7 robust sd at image 50, 3.1 before"


def test_one_that_comes_back_soon_is_the_same_incident() -> None:
    line = Line()
    line.judge(QUIET_IMAGES + 1, 2.0)
    line.judge(QUIET_IMAGES - 1)
    line.judge(1, 1.0)
    opened, closed, reopened = line.told
    assert line.states == ["opened", "closed", "reopened"]
    assert [each.sequence for each in line.told] == [0, 1, 2]
    assert {each.incident_id for each in line.told} == {opened.incident_id}
    assert len({each.identity for each in line.told}) == 3
    assert (reopened.effect, reopened.at, reopened.alarm_image_id) == (1.0, 400.0, "0")
    assert closed.reason == f"no further alarm in {QUIET_IMAGES} images"
    (incident,) = line.incidents
    assert (incident.is_open, incident.alarm_at) == (True, 400.0)
    line.judge(1, 2.9)
    assert line.states[-1] == "reopened", "not growing: 2.0 was told before"
    line.judge(1 + QUIET_IMAGES)
    assert (line.states[-1], line.told[-1].sequence) == ("closed", 3)


@pytest.mark.parametrize(("images", "state"), [(QUIET_IMAGES, "reopened"), (QUIET_IMAGES + 1, "opened")])
def test_soon_is_so_many_images_however_long_they_take(images: int, state: str) -> None:
    line = Line()
    line.judge(QUIET_IMAGES + 1, 2.0)
    for _ in range(images - 1):
        line.at += 3600
        line.judge()
    line.judge(1, 2.0)
    assert line.states[-1] == state


def test_soon_is_also_the_cool_down_however_many_images_come() -> None:
    for pause_s, state in ((59.0, "reopened"), (61.0, "opened")):
        line = Line()
        line.judge(QUIET_IMAGES + 1, 2.0)
        closed_at = line.told[-1].at
        for number in range(QUIET_IMAGES + 10):
            line.at = closed_at + number / 1000
            line.judge()
        line.at = closed_at + pause_s
        line.judge(1, 2.0)
        assert line.states[-1] == state


def test_a_clock_set_back_does_not_keep_a_closed_one_for_ever() -> None:
    line = Line(at=1_000_000.0)
    line.judge(QUIET_IMAGES + 1, 2.0)
    line.at = 0.0
    line.judge(QUIET_IMAGES + 1)
    assert line.incidents == ()


def test_while_a_request_is_under_way_nothing_closes() -> None:
    line = Line()
    line.judge(3 * QUIET_IMAGES, 2.0, may_close=False)
    assert line.states == ["opened"]
    line.judge(1)
    assert line.states == ["opened", "closed"]


def test_kinds_live_side_by_side() -> None:
    line = Line()
    line.judge(100, 2.0)
    line.judge(150, 9.0, kind="defect_surge")
    assert [(each.kind, each.state) for each in line.told] == [
        ("covariate_drift", "opened"), ("defect_surge", "opened"), ("covariate_drift", "closed")
    ]  # fmt: skip


def test_an_old_message_that_counts_no_states_is_ended_like_any_other() -> None:
    old = msgspec.json.decode(msgspec.json.encode(alarm(1.0)), type=DriftIncident)
    closed = ending(old, at=9.0, reason="version 2 judges the line")
    assert (closed.state, closed.sequence, closed.at) == ("closed", 1, 9.0)
    assert closed == ending(old, at=9.0, reason="version 2 judges the line")
    assert old.identity == f"{old.incident_id}:opened"
    assert closed.identity == f"{old.incident_id}:closed:1"


@given(st.lists(st.tuples(st.integers(1, QUIET_IMAGES + 50), st.floats(0.5, 50.0)), max_size=12))
def test_states_are_counted_without_a_gap_and_each_growth_is_larger(alarms: list[tuple[int, float]]) -> None:
    line = Line()
    for images, effect in alarms:
        line.judge(images, effect)
    told: dict[str, list[DriftIncident]] = {}
    for each in line.told:
        told.setdefault(each.incident_id, []).append(each)
    for messages in told.values():
        assert [each.sequence for each in messages] == list(range(len(messages)))
        _check_order([each.state for each in messages])
        largest = 0.0
        for each in messages:
            assert each.state != "growing" or each.effect > GROWN * largest
            largest = max(largest, each.effect)


def _check_order(states: list[str]) -> None:
    assert states[0] == "opened"
    for before, after in itertools.pairwise(states):
        assert (after == "reopened") == (before == "closed")
        assert after != "opened"
