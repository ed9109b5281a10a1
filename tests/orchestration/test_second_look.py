"""A line's surge of defects is asked for when the watch can know of it: with a real ledger, in virtual time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from orchestration.second_look import LONGEST_WAIT_S, LOOK, Clock, Looked, look_again
from streams.ledger import Ledger
from streams.messages import IncidentAnswer, RetrainRequest
from tests.orchestration.gate_line import CHANGED_AT, LINE, incident, request, verdict_of

DRIFTED = request(cause="covariate_drift", incident_id="covariate_drift")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")


@dataclass
class Running:
    """A line that judges an image every `interval_s` from its change on, `images` in all; time passes as the wait lets it, and
    `meanwhile` may do more.
    """

    ledger: Ledger
    interval_s: float
    images: int
    meanwhile: Callable[[int], None] = lambda judged: None
    now: float = 0.0
    judged: int = field(default=0, init=False)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = min(self.images, int(self.now / self.interval_s))
        numbers = range(self.judged, due)
        self.ledger.record([verdict_of(f"i{each}", at=CHANGED_AT + each * self.interval_s) for each in numbers])
        self.judged = due
        self.meanwhile(due)

    def looked(self, *, after_s: float, asked: RetrainRequest = DRIFTED) -> Looked:
        """What a look finds that begins so long after the change."""
        self.pass_time(after_s)
        self.ledger.record([incident("covariate_drift", since="i0", at=CHANGED_AT)])
        began = self.now
        found = look_again(self.ledger, asked, Clock(lambda: self.now, self.pass_time), since=CHANGED_AT)
        self.now -= began
        return found


def test_it_waits_for_the_look_at_128_images_and_sees_the_surge_that_it_shows(ledger: Ledger) -> None:
    def watch(judged: int) -> None:
        if judged >= LOOK + 2:
            ledger.record([incident("defect_surge", since="i0", at=CHANGED_AT)])

    line = Running(ledger, 0.5, 1000, watch)
    looked = line.looked(after_s=35.0)
    assert looked.found == ("defect_surge",)
    assert looked.judged in (LOOK + 2, LOOK + 3)
    assert line.now == pytest.approx((LOOK + 2 - 70) / 2, abs=1.0)
    assert "(70 images then): a surge is open" in looked.words


def test_a_line_without_a_surge_is_kept_waiting_no_longer_than_the_look_takes(ledger: Ledger) -> None:
    line = Running(ledger, 0.5, 1000)
    looked = line.looked(after_s=50.0)
    assert looked.found == ()
    assert 14 <= line.now <= 17
    assert "the watch had looked for a surge at 128 images" in looked.words


def test_nothing_is_waited_for_once_the_look_has_been(ledger: Ledger) -> None:
    line = Running(ledger, 0.5, 1000)
    assert line.looked(after_s=100.0).words == (
        "200 images judged since the change, asked at once: the watch had looked for a surge at 128 images"
    )
    assert line.now == 0.0


def test_a_line_that_stopped_is_judged_by_what_there_is(ledger: Ledger) -> None:
    line = Running(ledger, 2.0, 80)
    looked = line.looked(after_s=150.0)
    assert looked.judged == 80
    assert 10 <= line.now <= 25
    assert "80 images judged since the change, asked after" in looked.words
    assert "the line stopped before the 128 images" in looked.words


def test_a_slow_line_is_waited_for_two_minutes_at_most(ledger: Ledger) -> None:
    line = Running(ledger, 20.0, 1000)
    looked = line.looked(after_s=1400.0)
    assert line.now == pytest.approx(LONGEST_WAIT_S, abs=1.0)
    assert looked.judged == 76
    assert "which took more than 120 s" in looked.words


@pytest.mark.parametrize("says", ["expected", None])
def test_nothing_is_waited_for_where_a_person_has_seen_the_line(ledger: Ledger, says: str | None) -> None:
    asked = DRIFTED if says else msgspec.structs.replace(DRIFTED, cause="manual", incident_id=None)
    line = Running(ledger, 0.5, 1000)
    if says:
        ledger.record([incident("covariate_drift", since="i0", at=CHANGED_AT)])
        ledger.record([IncidentAnswer(line=LINE, incident_id="covariate_drift", says=says, note="", by="ana", at=1.0)])
    ledger.record([incident("defect_surge", since="i0", at=CHANGED_AT)])
    assert line.looked(after_s=30.0, asked=asked).found == ()
    assert line.now == 0.0
