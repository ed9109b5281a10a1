"""Since when a line is as it is now, by what its ledger holds."""

import math
from pathlib import Path

import pytest

from orchestration.condition import Condition, condition_of
from streams.ledger import Ledger
from streams.messages import RetrainRequest
from tests.orchestration.gate_line import CHANGED_AT, incident, request, verdict_of

DRIFTED = request(cause="covariate_drift", incident_id="covariate_drift")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    opened.record([verdict_of("before", at=CHANGED_AT - 1), verdict_of("since", at=CHANGED_AT)])
    return opened


def test_a_line_that_never_drifted_is_as_it_always_was(ledger: Ledger) -> None:
    condition = condition_of(ledger, request())
    assert condition.since == -math.inf
    assert condition.change == ""


@pytest.mark.parametrize("asked", [DRIFTED, request()], ids=["by the drift", "by hand after it"])
def test_after_a_drift_it_is_what_was_judged_since_the_change(ledger: Ledger, asked: RetrainRequest) -> None:
    ledger.record([incident("covariate_drift", since="since", at=CHANGED_AT + 50)])
    condition = condition_of(ledger, asked)
    assert condition.holds("since", judged_at=CHANGED_AT)
    assert not condition.holds("before", judged_at=CHANGED_AT - 1)
    assert condition.change != ""


def test_a_drift_that_a_new_model_answered_is_no_change_that_asks_for_another(ledger: Ledger) -> None:
    ledger.record([incident("covariate_drift", since="since", at=CHANGED_AT + 50)])
    ledger.record([incident("covariate_drift", since="since", at=CHANGED_AT + 90, state="closed", sequence=1)])
    condition = condition_of(ledger, request())
    assert condition.since == CHANGED_AT
    assert condition.change == ""


def test_a_change_whose_images_the_ledger_lacks_began_with_the_first_word_of_it(ledger: Ledger) -> None:
    ledger.record([incident("covariate_drift", since="unknown", at=CHANGED_AT + 50)])
    ledger.record([incident("covariate_drift", since="unknown", at=CHANGED_AT + 90, state="growing", sequence=1)])
    assert condition_of(ledger, DRIFTED).since == CHANGED_AT + 50


def test_an_incident_that_the_ledger_lacks_began_with_the_alarm(ledger: Ledger) -> None:
    assert condition_of(ledger, DRIFTED).since == DRIFTED.alarm_at


def test_a_refresh_keeps_every_light_and_another_mode_what_still_occurs(ledger: Ledger) -> None:
    ledger.record([incident("covariate_drift", since="since", at=CHANGED_AT + 50)])
    assert condition_of(ledger, request(mode="refresh")).holds("before", judged_at=0.0)
    assert Condition(since=CHANGED_AT, words="", still_occurs={"before"}).holds("before", judged_at=0.0)
