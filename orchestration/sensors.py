"""Picks up retrain requests, each carried out exactly once: a run of the right attempt, or an end in the ledger.

The ledger says what is asked, Dagster's run storage what was tried; the run key (request and attempt) keeps a request from being started
twice whatever the sensor forgets. A run whose process died is declared failed and the request tried again.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from orchestration.resources import ATTEMPT_TAG, LINE_TAG, PID_TAG, REQUEST_TAG, Installation
from streams.ledger import Ledger, RequestRow
from streams.ledger_rows import IN_WORK

ATTEMPTS = 3

retrain_job = dg.define_asset_job("retrain", selection=dg.AssetSelection.all(), executor_def=dg.in_process_executor)


@dataclass(frozen=True)
class Launch:
    """Start attempt number `attempt`."""

    attempt: int


@dataclass(frozen=True)
class End:
    """Write the request's end into the ledger."""

    outcome: str
    detail: str


@dataclass(frozen=True)
class Tried:
    """A run of the request: which attempt, and how it stands."""

    attempt: int
    status: dg.DagsterRunStatus


def next_step(tried: Sequence[Tried], failed_gates: Sequence[str]) -> Launch | End | None:
    """What to do for a request that has not ended, given its runs so far (any order) and the gates that refused.

    >>> next_step([], [])
    Launch(attempt=1)
    >>> next_step([Tried(1, dg.DagsterRunStatus.STARTED)], []) is None
    True
    >>> next_step([Tried(1, dg.DagsterRunStatus.FAILURE)], ["threshold_holds"]).outcome
    'refused'
    """
    if not tried:
        return Launch(1)
    last = max(tried, key=lambda each: each.attempt)
    if last.status == dg.DagsterRunStatus.CANCELED:
        return End("cancelled", "the run was cancelled by hand")
    if last.status != dg.DagsterRunStatus.FAILURE:
        return None
    if failed_gates:
        return End("refused", "refused by " + ", ".join(failed_gates))
    if last.attempt >= ATTEMPTS:
        return End("failed", f"{ATTEMPTS} attempts failed; see the runs on Dagster's page")
    return Launch(last.attempt + 1)


@dg.sensor(job=retrain_job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def requested_retrains(context: dg.SensorEvaluationContext, installation: Installation) -> Iterator[dg.RunRequest]:
    """Open requests become runs; requests whose runs failed are tried again or ended."""
    for row in installation.ledger.requests(states=IN_WORK):
        runs = _runs_of(context.instance, row)
        step = next_step(runs, _failed_gates(installation.ledger, row))
        if isinstance(step, Launch):
            yield _run_request(row, step.attempt)
        elif isinstance(step, End):
            installation.ledger.end_request(
                row.request.request_id, outcome=step.outcome, version=None, detail=step.detail, at=time.time()
            )


def _run_request(row: RequestRow, attempt: int) -> dg.RunRequest:
    request = row.request
    return dg.RunRequest(
        run_key=f"{request.request_id}:{attempt}",
        tags={REQUEST_TAG: request.request_id, ATTEMPT_TAG: str(attempt), LINE_TAG: request.line},
    )


def _failed_gates(ledger: Ledger, row: RequestRow) -> list[str]:
    return [gate.name for gate in ledger.gates(row.request.request_id) if not gate.passed]


def _runs_of(instance: dg.DagsterInstance, row: RequestRow) -> list[Tried]:
    records = instance.get_runs(filters=dg.RunsFilter(tags={REQUEST_TAG: row.request.request_id}))
    return [Tried(int(run.tags[ATTEMPT_TAG]), _status(instance, run)) for run in records]


def _status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    """The run's status; a run that says it goes on while its process is gone is declared failed first."""
    pid = run.tags.get(PID_TAG)
    if run.is_finished or pid is None or Path(f"/proc/{pid}").exists() or not Path("/proc/self").exists():
        return run.status
    instance.report_run_failed(run, f"process {pid} of the run is gone (seen by process {os.getpid()})")
    return dg.DagsterRunStatus.FAILURE
