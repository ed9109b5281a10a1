"""The window of a request that names no images: the present condition of the line, without faults and surges, or what it waits for."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.windows import LOOK_BACK, Seen, Trouble, Window, cut, window_of
from streams.incidents import ending
from streams.ledger import Ledger
from streams.messages import Collected, DriftIncident, LineImage, RetrainRequest, Verdict
from tests.streams.test_ledger import incident as drift
from tests.streams.test_ledger import verdict

LINE = "tiles"
ASKED = RetrainRequest(
    line=LINE, request_id="r", cause="schedule", mode="refresh", image_keys=(), parent_version=1, alarm_at=None, requested_at=9.0,
    wanted_images=40,
)  # fmt: skip


def judged(first: int, last: int, *, version: int = 1) -> list[Verdict]:
    """Images first..last, one a second: image `i` is judged at second i."""
    return [verdict(f"i{number:04}", at=float(number), version=version) for number in range(first, last + 1)]


def keys(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"images/i{number:04}.png" for number in range(first, last + 1))


def incident(kind: str, *, since: int, alarm: int, version: int = 1) -> DriftIncident:
    return msgspec.structs.replace(
        drift("opened", at=float(alarm)), incident_id=f"{kind}-{since}", kind=kind, version=version,
        since_image_id=f"i{since:04}", alarm_image_id=f"i{alarm:04}",
    )  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def test_the_latest_images_in_the_order_of_judgement(ledger: Ledger) -> None:
    ledger.record(judged(0, 99))
    assert window_of(ledger, ASKED) == Window(keys(60, 99))


def test_images_that_are_named_stay(ledger: Ledger) -> None:
    ledger.record(judged(0, 99))
    named = msgspec.structs.replace(ASKED, image_keys=("a", "b"))
    assert window_of(ledger, named) == Window(("a", "b"))


def test_it_begins_with_the_estimated_start_of_the_latest_change_whichever_version_noticed_it(ledger: Ledger) -> None:
    ledger.record([*judged(0, 79), *judged(80, 99, version=2)])
    earlier, later = (incident("covariate_drift", since=since, alarm=since + 5) for since in (20, 65))
    closed = ending(later, at=80.0, reason="version 2 judges the line")
    ledger.record([earlier, ending(earlier, at=50.0, reason="quiet"), later, closed])
    assert window_of(ledger, ASKED) == Window(keys(65, 99), changed_at=65.0)


def test_too_few_since_the_change_and_it_says_how_many_it_waits_for(ledger: Ledger) -> None:
    ledger.record([*judged(0, 70), incident("covariate_drift", since=63, alarm=70)])
    window = window_of(ledger, ASKED)
    assert (window.keys, window.lacks) == (keys(63, 70), 12)
    assert window.waits == "waits for 12 more images since the change at 1970-01-01 00:01:03Z"
    ledger.record(judged(71, 81))
    assert window_of(ledger, ASKED).waits == "waits for 1 more image since the change at 1970-01-01 00:01:03Z"
    ledger.record(judged(82, 82))
    assert window_of(ledger, ASKED).waits is None


def test_without_its_first_image_a_change_began_with_its_alarm(ledger: Ledger) -> None:
    unknown = msgspec.structs.replace(incident("covariate_drift", since=40, alarm=50), since_image_id="lost")
    ledger.record([*judged(0, 99), unknown])
    assert window_of(ledger, ASKED).changed_at == 50.0


@pytest.mark.parametrize("kind", ["camera_fault", "defect_surge"])
def test_what_was_judged_during_a_fault_or_a_surge_is_passed_over_and_said(ledger: Ledger, kind: str) -> None:
    trouble = incident(kind, since=70, alarm=75)
    ledger.record([*judged(0, 99), trouble, ending(trouble, at=89.0, reason="quiet")])
    window = window_of(ledger, ASKED)
    assert window.keys == keys(40, 69) + keys(90, 99)
    assert window.left_out == dict.fromkeys(keys(70, 89), f"judged during the {kind} {kind}-70")
    assert window.waits is None


def test_while_a_surge_is_open_nothing_since_it_began_is_learnt(ledger: Ledger) -> None:
    ledger.record(
        [*judged(0, 99), incident("covariate_drift", since=50, alarm=55), incident("defect_surge", since=60, alarm=70)]
    )
    window = window_of(ledger, ASKED)
    assert window.keys == keys(50, 59)
    assert window.waits == (
        "waits for 10 more images since the change at 1970-01-01 00:00:50Z; "
        "left out: 40 judged during the defect_surge defect_surge-60"
    )


def test_a_long_trouble_is_not_read_to_its_beginning(ledger: Ledger) -> None:
    ledger.record([*judged(0, 500), incident("camera_fault", since=100, alarm=100)])
    window = window_of(ledger, ASKED)
    assert (window.keys, len(window.left_out), window.lacks) == ((), LOOK_BACK * 40, 20)


def test_a_line_that_never_had_a_model_learns_from_what_it_collected(ledger: Ledger) -> None:
    images = [
        LineImage(line=LINE, image_id=f"c{at}", taken_at=float(at), digest="d", key=f"images/c{at}.png", size_bytes=1)
        for at in range(30)
    ]
    ledger.record([Collected(line=LINE, image=each, collected_at=each.taken_at) for each in images])
    assert window_of(ledger, ASKED) == Window(tuple(each.key for each in images))


def test_without_any_image_it_waits_and_a_trusted_model_does_not(ledger: Ledger) -> None:
    assert window_of(ledger, ASKED).waits == "waits for 20 more images"
    assert window_of(ledger, msgspec.structs.replace(ASKED, mode="trusted")).waits is None


SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=4)


@given(st.integers(0, 60), SPANS, st.integers(1, 40))
def test_against_a_walk_back_image_by_image(images: int, spans: list[tuple[int, int]], wanted: int) -> None:
    told = drift("opened")
    troubles = [Trouble(float(since), float(since + length), told) for since, length in spans]
    found = cut((Seen(str(at), float(at)) for at in reversed(range(images))), troubles, wanted=wanted)
    bad = {at for since, length in spans for at in range(since, since + length + 1)}
    good = [at for at in range(images) if at not in bad][-wanted:]
    assert found.keys == tuple(map(str, good))
    begins = good[0] if len(good) == wanted else 0
    assert set(found.left_out) == {str(at) for at in range(images) if at in bad and at >= begins}
