"""The decision about a request: started once, tried again after a death, ended once."""

import dagster as dg
import pytest

from orchestration.sensors import ATTEMPTS, End, Launch, Tried, next_step

FAILED = dg.DagsterRunStatus.FAILURE
UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.SUCCESS,
)


def test_a_new_request_is_started() -> None:
    assert next_step([], []) == Launch(1)


@pytest.mark.parametrize("status", UNFINISHED)
def test_a_request_with_a_run_is_left_alone(status: dg.DagsterRunStatus) -> None:
    assert next_step([Tried(1, status)], []) is None


def test_a_run_that_died_is_tried_again_with_the_next_attempt() -> None:
    assert next_step([Tried(1, FAILED)], []) == Launch(2)


def test_the_latest_attempt_decides_in_whatever_order_runs_come() -> None:
    runs = [Tried(2, dg.DagsterRunStatus.STARTED), Tried(1, FAILED)]
    assert next_step(runs, []) is None
    assert next_step(list(reversed(runs)), []) is None


def test_a_gate_that_refused_ends_the_request_and_is_named() -> None:
    step = next_step([Tried(1, FAILED)], ["finds_drawn_defects"])
    assert isinstance(step, End)
    assert step.outcome == "refused"
    assert "finds_drawn_defects" in step.detail


def test_attempts_are_limited() -> None:
    step = next_step([Tried(n + 1, FAILED) for n in range(ATTEMPTS)], [])
    assert isinstance(step, End)
    assert step.outcome == "failed"


def test_a_cancelled_run_cancels_the_request() -> None:
    step = next_step([Tried(1, dg.DagsterRunStatus.CANCELED)], [])
    assert isinstance(step, End)
    assert step.outcome == "cancelled"
