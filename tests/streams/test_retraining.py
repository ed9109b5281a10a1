"""The policy in virtual time: what becomes of alarms, windows, rests, answers and new versions."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.incidents import ANSWERS, QUIET_IMAGES
from streams.messages import DriftIncident, Message, RetrainRequest
from streams.retraining import (
    LARGEST_WINDOW,
    Answered,
    Event,
    Gathered,
    Judged,
    LineState,
    NewVersion,
    RequestEnded,
    decide,
)
from streams.settings import LineConfig

CONFIG = LineConfig(retrain_images=5, cold_start_images=4, cooldown_s=60.0)
WATCHED = LineState(version=1)
DRIFT = "incident-covariate_drift"
KINDS = ("covariate_drift", "defect_surge", "camera_fault")


def alarm(at: float, *, kind: str = "covariate_drift", name: str = "incident") -> DriftIncident:
    return DriftIncident(
        line="tiles", incident_id=f"{name}-{kind}", kind=kind, state="opened", version=1, signal="bulk",
        test="page_hinkley",
        reference=1.0, observed=2.0, effect=2.5, since_image_id="0", alarm_image_id="8", after_images=8, at=at,
    )  # fmt: skip


def judged(first: int, images: int, *, alarm_at: int | None = None, kind: str = "covariate_drift") -> list[Event]:
    """One image a second, numbered by its second; the image `alarm_at` alarms."""
    return [
        Judged(f"images/{at}", float(at), (alarm(float(at), kind=kind),) if at == alarm_at else ())
        for at in range(first, first + images)
    ]


def run(state: LineState, events: Iterable[Event], *, config: LineConfig = CONFIG) -> tuple[LineState, list[Message]]:
    said: list[Message] = []
    for event in events:
        state, messages = decide(state, event, line="tiles", config=config)
        said += messages
    return state, said


def requests(messages: Iterable[Message]) -> list[RetrainRequest]:
    return [message for message in messages if isinstance(message, RetrainRequest)]


def incidents(messages: Iterable[Message]) -> list[tuple[str, str]]:
    return [(message.kind, message.state) for message in messages if isinstance(message, DriftIncident)]


def test_an_alarm_is_an_incident_and_a_request_only_after_a_window_of_images_from_the_alarm_on() -> None:
    state, said = run(WATCHED, judged(0, 14, alarm_at=10))
    assert incidents(said) == [("covariate_drift", "opened")]
    assert requests(said) == []
    state, said = run(state, judged(14, 1))
    (request,) = requests(said)
    assert request.image_keys == tuple(f"images/{at}" for at in range(10, 15))
    assert (request.cause, request.mode, request.parent_version) == ("covariate_drift", "blind", 1)
    assert (request.alarm_at, request.requested_at) == (10.0, 14.0)
    assert request.incident_id == "incident-covariate_drift"
    assert state.request_id == request.request_id


def test_a_line_that_is_to_be_refreshed_asks_for_that_but_its_first_model_is_blind() -> None:
    config = LineConfig(retrain_images=5, cold_start_images=4, retrain_mode="refresh")
    assert [each.mode for each in requests(run(WATCHED, judged(0, 15, alarm_at=10), config=config)[1])] == ["refresh"]
    gathered = [Gathered(f"images/{at}", float(at)) for at in range(4)]
    assert [each.mode for each in requests(run(LineState(), gathered, config=config)[1])] == ["blind"]


def test_one_open_request_and_one_open_incident_a_kind() -> None:
    state, said = run(WATCHED, judged(0, 5, alarm_at=0) + judged(5, 10, alarm_at=7) + judged(15, 10, alarm_at=16))
    assert len(requests(said)) == 1
    assert incidents(said) == [("covariate_drift", "opened")]
    state, said = run(state, judged(25, 3, alarm_at=25, kind="defect_surge"))
    assert incidents(said) == [("defect_surge", "opened")]
    assert {each.told.kind for each in state.open_incidents} == {"covariate_drift", "defect_surge"}


def test_defects_and_faults_never_retrain() -> None:
    for kind in ("defect_surge", "camera_fault"):
        events = [event for first in range(0, 100, 10) for event in judged(first, 10, alarm_at=first, kind=kind)]
        state, said = run(WATCHED, events)
        assert requests(said) == []
        assert incidents(said) == [(kind, "opened")]
        assert state.window == ()


def test_a_request_that_came_to_nothing_rests_the_line_then_comes_again_with_images_from_then_on() -> None:
    state, said = run(WATCHED, judged(0, 10, alarm_at=0))
    (first,) = requests(said)
    state, _ = run(state, [RequestEnded(first.request_id, "refused", 20.0)])
    state, said = run(state, judged(21, 59))
    assert requests(said) == [], "resting until 80"
    state, said = run(state, judged(80, 1, alarm_at=80))
    (second,) = requests(said)
    assert second.image_keys == tuple(f"images/{at}" for at in range(76, 81))
    assert second.request_id != first.request_id
    assert second.incident_id == first.incident_id


def test_a_change_that_went_again_before_the_window_was_full_asks_for_nothing() -> None:
    """A lamp that flickers: its incident stays open for long, but there is nothing left to learn."""
    config = LineConfig(retrain_images=60)
    for lasted in range(10, 60, 7):
        flicker = [event for first in range(0, lasted, 5) for event in judged(first, 5, alarm_at=first + 4)][:lasted]
        state, said = run(WATCHED, [*flicker, *judged(lasted, 2 * QUIET_IMAGES)], config=config)
        assert requests(said) == [], lasted
        assert incidents(said) == [("covariate_drift", "opened"), ("covariate_drift", "closed")]
        assert state.open_incidents == ()


def test_a_change_that_alarms_seldom_asks_when_it_alarms_again() -> None:
    config = LineConfig(retrain_images=60)
    state, said = run(WATCHED, judged(0, 90, alarm_at=0), config=config)
    assert requests(said) == []
    again = Judged("images/90", 90.0, (alarm(90.0),), changed=70)
    (request,) = requests(run(state, [again], config=config)[1])
    assert request.image_keys == tuple(f"images/{at}" for at in range(31, 91))


def test_a_lamp_that_flickers_again_while_the_incident_is_open_is_another_change() -> None:
    """The window then begins with it: nothing from between is learnt."""
    config = LineConfig(retrain_images=60)
    state, _ = run(WATCHED, judged(0, 90, alarm_at=0), config=config)
    state, said = run(state, [Judged("images/90", 90.0, (alarm(90.0),), changed=12), *judged(91, 40)], config=config)
    assert requests(said) == []
    assert state.window == tuple(f"images/{at}" for at in range(79, 131))
    lasting = [event for first in range(131, 160, 5) for event in judged(first, 5, alarm_at=first)]
    (request,) = requests(run(state, lasting, config=config)[1])
    assert request.image_keys == tuple(f"images/{at}" for at in range(79, 139))


def test_a_change_that_a_person_expects_to_stay_need_not_alarm_again() -> None:
    state, _ = run(WATCHED, judged(0, 50, alarm_at=0), config=LineConfig(retrain_images=60))
    said = run(state, [Answered(DRIFT, "expected", 50.0), *judged(50, 10)], config=LineConfig(retrain_images=60))[1]
    assert [each.requested_at for each in requests(said)] == [59.0]


def test_a_clock_set_back_makes_no_rest_longer() -> None:
    state, said = run(WATCHED, judged(4000, 10, alarm_at=4000))
    state, _ = run(state, [RequestEnded(requests(said)[0].request_id, "refused", 4020.0)])
    assert requests(run(state, judged(4021, 10))[1]) == []
    assert len(requests(run(state, judged(420, 5, alarm_at=420))[1])) == 1


def test_a_clock_set_back_makes_no_rest_of_a_cold_start_longer() -> None:
    images: list[Event] = [Gathered(f"images/{at}", float(at)) for at in range(4000, 4004)]
    state, said = run(LineState(), images)
    state, _ = run(state, [RequestEnded(requests(said)[0].request_id, "failed", 4010.0)])
    assert requests(run(state, [Gathered("images/4011", 4011.0)])[1]) == []
    assert len(requests(run(state, [Gathered("images/411", 411.0)])[1])) == 1


def test_the_end_of_somebody_elses_request_changes_nothing() -> None:
    state, _ = run(WATCHED, judged(0, 10, alarm_at=0))
    assert run(state, [RequestEnded("another", "failed", 20.0)]) == (state, [])


def test_a_new_version_closes_incidents_and_rests_the_line() -> None:
    state, _ = run(WATCHED, judged(0, 10, alarm_at=0))
    state, said = run(state, [NewVersion(2, 30.0)])
    (closed,) = said
    assert isinstance(closed, DriftIncident)
    assert (closed.state, closed.at, closed.incident_id) == ("closed", 30.0, "incident-covariate_drift")
    assert "version 2" in closed.reason
    assert state == LineState(version=2, rests_until=90.0)
    state, said = run(state, judged(31, 10, alarm_at=31))
    assert incidents(said) == [("covariate_drift", "opened")]
    assert requests(said) == [], "an incident may open while the line rests, a request may not"
    assert len(requests(run(state, judged(90, 5, alarm_at=90))[1])) == 1


def test_the_same_version_again_changes_nothing() -> None:
    state, _ = run(WATCHED, judged(0, 3, alarm_at=0))
    assert run(state, [NewVersion(1, 5.0)]) == (state, [])


def test_an_incident_that_falls_quiet_is_closed() -> None:
    state, said = run(WATCHED, judged(0, 1 + QUIET_IMAGES, alarm_at=0, kind="defect_surge"))
    assert incidents(said) == [("defect_surge", "opened"), ("defect_surge", "closed")]
    assert state.open_incidents == ()


def test_an_incident_that_keeps_alarming_stays_open() -> None:
    step = QUIET_IMAGES - 1
    events = [event for n in range(4) for event in judged(n * step, step, alarm_at=n * step, kind="defect_surge")]
    assert incidents(run(WATCHED, events)[1]) == [("defect_surge", "opened")]


def test_by_approval_a_person_comes_first() -> None:
    config = LineConfig(retrain_images=5, auto=False)
    state, said = run(WATCHED, judged(0, 20, alarm_at=0), config=config)
    assert requests(said) == []
    state, _ = run(state, [Answered("another", "expected", 20.0), Answered(DRIFT, "acknowledged", 20.0)], config=config)
    assert requests(run(state, judged(20, 1), config=config)[1]) == []
    state, _ = run(state, [Answered(DRIFT, "expected", 20.0)], config=config)
    (request,) = requests(run(state, judged(20, 1), config=config)[1])
    assert request.image_keys == tuple(f"images/{at}" for at in range(16, 21))


@pytest.mark.parametrize("kind", ["defect_surge", "camera_fault"])
@pytest.mark.parametrize("drift_first", [True, False])
def test_beside_defects_or_a_fault_a_line_asks_for_nothing_by_itself(kind: str, drift_first: bool) -> None:
    kinds = ("covariate_drift", kind) if drift_first else (kind, "covariate_drift")
    events = judged(0, 3, alarm_at=0, kind=kinds[0]) + judged(3, 50, alarm_at=3, kind=kinds[1])
    state, said = run(WATCHED, events)
    assert incidents(said) == [(each, "opened") for each in kinds]
    assert requests(said) == []
    state, said = run(state, [Answered(DRIFT, "expected", 53.0), *judged(53, 1)])
    (request,) = requests(said)
    assert request.image_keys == tuple(f"images/{at}" for at in range(49, 54)), "a person said so"


def test_the_line_and_its_parts_changed_at_once() -> None:
    both = Judged("images/0", 0.0, (alarm(0.0), alarm(0.0, kind="defect_surge")))
    said = run(WATCHED, [both, *judged(1, 50)])[1]
    assert incidents(said) == [("covariate_drift", "opened"), ("defect_surge", "opened")]
    assert requests(said) == []


def test_once_the_defects_are_over_the_line_asks_with_images_from_after_the_last_alarm_of_theirs() -> None:
    config = LineConfig(retrain_images=LARGEST_WINDOW)
    events = judged(0, 100, alarm_at=0) + judged(100, 50, alarm_at=100, kind="defect_surge")
    events += [event for first in range(150, 501, 50) for event in judged(first, 50, alarm_at=first)]
    said = run(WATCHED, events, config=config)[1]
    assert incidents(said)[1:] == [("defect_surge", "opened"), ("defect_surge", "closed")]
    (request,) = requests(said)
    assert request.requested_at == 500.0
    assert request.image_keys == tuple(f"images/{at}" for at in range(101, 501))


def test_an_answer_to_the_defects_themselves_retrains_nothing() -> None:
    state, _ = run(WATCHED, judged(0, 5, alarm_at=0, kind="defect_surge"))
    for says in ANSWERS:
        state, said = run(state, [Answered("incident-defect_surge", says, 5.0), *judged(5, 20)])
        assert said == []


def test_what_is_ignored_never_asks_merges_further_alarms_and_closes_in_the_ordinary_way() -> None:
    events = [*judged(0, 2, alarm_at=0), Answered(DRIFT, "ignored", 2.0), *judged(2, 50, alarm_at=40)]
    state, said = run(WATCHED, events)
    assert incidents(said) == [("covariate_drift", "opened")]
    assert state.window == ()
    state, said = run(state, judged(52, QUIET_IMAGES))
    assert incidents(said) == [("covariate_drift", "closed")]
    state, said = run(state, judged(300, 50, alarm_at=300))
    assert incidents(said) == [("covariate_drift", "reopened")]
    assert requests(said) == [], "it is the same incident: what was said of it holds"


def test_of_two_answers_the_later_one_counts() -> None:
    state, _ = run(WATCHED, [*judged(0, 2, alarm_at=0), Answered(DRIFT, "ignored", 2.0)])
    state, _ = run(state, [Answered(DRIFT, "acknowledged", 3.0), *judged(3, 20)])
    state, said = run(state, [Answered(DRIFT, "expected", 23.0), *judged(23, 5)])
    (request,) = requests(said)
    assert request.image_keys == tuple(f"images/{at}" for at in range(23, 28)), "gathered from the answer on"


def test_a_request_of_an_incident_that_came_back_is_another_one() -> None:
    state, said = run(WATCHED, judged(0, 5, alarm_at=0))
    (first,) = requests(said)
    state, said = run(state, [RequestEnded(first.request_id, "refused", 5.0), *judged(1000, 5, alarm_at=1004)])
    assert [(second.request_id != first.request_id) for second in requests(said)] == [True]
    state, said = run(
        state, [RequestEnded(requests(said)[0].request_id, "refused", 2990.0), *judged(3000, QUIET_IMAGES)]
    )
    assert incidents(said) == [("covariate_drift", "closed")]
    state, said = run(state, judged(4001, 5, alarm_at=4001))
    (third,) = requests(said)
    assert third.incident_id == first.incident_id
    assert third.request_id != first.request_id
    assert third.alarm_at == 4001.0


def test_a_cold_start_asks_once_and_again_after_a_failure() -> None:
    state, said = run(LineState(), [Gathered(f"images/{at}", float(at)) for at in range(10)])
    (first,) = requests(said)
    assert (first.cause, first.mode, first.parent_version, first.alarm_at) == ("cold_start", "blind", None, None)
    assert first.image_keys == ("images/0", "images/1", "images/2", "images/3")
    state, _ = run(state, [RequestEnded(first.request_id, "refused", 10.0)])
    state, said = run(state, [Gathered("images/11", 11.0), Gathered("images/71", 71.0)])
    (second,) = requests(said)
    assert second.image_keys == ("images/8", "images/9", "images/11", "images/71")
    assert second.request_id != first.request_id
    state, _ = run(state, [NewVersion(1, 80.0)])
    assert run(state, [Gathered(f"images/late-{n}", 200.0) for n in range(9)]) == (state, [])


def test_the_window_is_bounded() -> None:
    config = LineConfig(retrain_images=10_000, auto=False)
    events = [event for first in range(0, 3000, 100) for event in judged(first, 100, alarm_at=first)]
    state, _ = run(WATCHED, events, config=config)
    assert len(state.window) == LARGEST_WINDOW
    assert state.window[-1] == "images/2999"


EVENTS = st.one_of(
    st.builds(lambda kinds: tuple(sorted(kinds)), st.sets(st.sampled_from(KINDS), max_size=2)),
    st.integers(1, QUIET_IMAGES + 10),
    st.builds(lambda kind, says: (f"incident-{kind}", says), st.sampled_from(KINDS), st.sampled_from(ANSWERS)),
    st.sampled_from(["promoted", "refused"]),
)


@given(st.lists(EVENTS, max_size=20))
def test_whatever_happens_the_same_events_give_the_same_state_and_messages_and_no_surge_is_learnt(
    plan: list[object],
) -> None:
    """Written as a story: alarms of some kinds, a number of quiet images, an answer, a new version or the end of the request."""
    state, again, expected = WATCHED, WATCHED, False
    at = 0.0
    for chapter in plan:
        for event in _chapter(chapter, state, at):
            at = event.at
            expected |= isinstance(event, Answered) and event.says == "expected"
            before = {each.told.kind for each in state.open_incidents}
            (state, said), (again, same) = (decide(each, event, line="tiles", config=CONFIG) for each in (state, again))
            assert (again, same) == (state, said)
            kinds = [each.told.kind for each in state.incidents]
            assert len(kinds) == len(set(kinds)), "one a kind"
            if requests(said):
                assert "covariate_drift" in before | {each.told.kind for each in state.open_incidents}
                assert expected or {each.told.kind for each in state.open_incidents} == {"covariate_drift"}


def _chapter(chapter: object, state: LineState, at: float) -> list[Event]:
    start = int(at) + 1
    if isinstance(chapter, int):
        return judged(start, chapter)
    if chapter == "promoted":
        return [NewVersion((state.version or 0) + 1, float(start))]
    if chapter == "refused":
        return [RequestEnded(state.request_id or "unknown", "refused", float(start))]
    assert isinstance(chapter, tuple)
    if len(chapter) == 2 and chapter[1] in ANSWERS:
        return [Answered(chapter[0], chapter[1], float(start))]
    return [Judged(f"images/{start}", float(start), tuple(alarm(float(start), kind=kind) for kind in chapter))]


def test_the_same_events_give_the_same_state_and_messages() -> None:
    events = [*judged(0, 30, alarm_at=3), RequestEnded("unknown", "failed", 31.0), *judged(31, 5), NewVersion(2, 40.0)]
    assert run(WATCHED, events) == run(WATCHED, events)
