"""The policy in virtual time: what becomes of alarms, windows, rests, approvals and new versions."""

from collections.abc import Iterable

from streams.messages import DriftIncident, Message, RetrainRequest
from streams.retraining import (
    LARGEST_WINDOW,
    QUIET_IMAGES,
    Approved,
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


def alarm(at: float, *, kind: str = "covariate_drift", name: str = "incident") -> DriftIncident:
    return DriftIncident(
        line="tiles", incident_id=f"{name}-{kind}", kind=kind, state="opened", version=1, signal="bulk",
        test="page_hinkley",
        reference=1.0, observed=2.0, effect=2.5, since_image_id="0", alarm_image_id="8", after_images=8, at=at,
    )  # fmt: skip


def judged(first: int, images: int, *, alarm_at: int | None = None, kind: str = "covariate_drift") -> list[Event]:
    """One image a second, numbered by its second; the image `alarm_at` alarms."""
    return [
        Judged(f"images/{at}", float(at), alarm(float(at), kind=kind) if at == alarm_at else None)
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


def test_one_open_request_and_one_open_incident_a_kind() -> None:
    state, said = run(WATCHED, judged(0, 5, alarm_at=0) + judged(5, 10, alarm_at=7) + judged(15, 10, alarm_at=16))
    assert len(requests(said)) == 1
    assert incidents(said) == [("covariate_drift", "opened")]
    state, said = run(state, judged(25, 3, alarm_at=25, kind="defect_surge"))
    assert incidents(said) == [("defect_surge", "opened")]
    assert {each.opened.kind for each in state.incidents} == {"covariate_drift", "defect_surge"}


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
    state, said = run(state, judged(80, 1))
    (second,) = requests(said)
    assert second.image_keys == tuple(f"images/{at}" for at in range(76, 81))
    assert second.request_id != first.request_id
    assert second.incident_id == first.incident_id


def test_a_clock_set_back_makes_no_rest_longer() -> None:
    state, said = run(WATCHED, judged(4000, 10, alarm_at=4000))
    state, _ = run(state, [RequestEnded(requests(said)[0].request_id, "refused", 4020.0)])
    assert requests(run(state, judged(4021, 10))[1]) == []
    assert len(requests(run(state, judged(420, 5))[1])) == 1


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
    assert len(requests(run(state, judged(90, 5))[1])) == 1


def test_the_same_version_again_changes_nothing() -> None:
    state, _ = run(WATCHED, judged(0, 3, alarm_at=0))
    assert run(state, [NewVersion(1, 5.0)]) == (state, [])


def test_an_incident_that_falls_quiet_is_closed_and_may_open_again() -> None:
    state, said = run(WATCHED, judged(0, 1 + QUIET_IMAGES, alarm_at=0, kind="defect_surge"))
    assert incidents(said) == [("defect_surge", "opened"), ("defect_surge", "closed")]
    assert state.incidents == ()
    again = QUIET_IMAGES + 5
    assert incidents(run(state, judged(again, 1, alarm_at=again, kind="defect_surge"))[1]) == [
        ("defect_surge", "opened")
    ]


def test_an_incident_that_keeps_alarming_stays_open() -> None:
    step = QUIET_IMAGES - 1
    events = [event for n in range(4) for event in judged(n * step, step, alarm_at=n * step, kind="defect_surge")]
    assert incidents(run(WATCHED, events)[1]) == [("defect_surge", "opened")]


def test_by_approval_a_person_comes_first() -> None:
    config = LineConfig(retrain_images=5, auto=False)
    state, said = run(WATCHED, judged(0, 20, alarm_at=0), config=config)
    assert requests(said) == []
    state, _ = run(state, [Approved("another", 20.0)], config=config)
    assert requests(run(state, judged(20, 1), config=config)[1]) == []
    state, _ = run(state, [Approved("incident-covariate_drift", 20.0)], config=config)
    (request,) = requests(run(state, judged(20, 1), config=config)[1])
    assert request.image_keys == tuple(f"images/{at}" for at in range(16, 21))


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


def test_the_same_events_give_the_same_state_and_messages() -> None:
    events = [*judged(0, 30, alarm_at=3), RequestEnded("unknown", "failed", 31.0), *judged(31, 5), NewVersion(2, 40.0)]
    assert run(WATCHED, events) == run(WATCHED, events)
