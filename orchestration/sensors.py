"""Picks up retrain requests, each carried out exactly once: a run of the right attempt, or an end in the ledger.

The ledger says what is asked, Dagster's run storage what was tried; the run key (request and attempt) keeps a request from being started
twice whatever the sensor forgets. A run whose process died is declared failed and the request tried again.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from detectors.errors import DriftlineError, Unavailable
from orchestration.asking import ask
from orchestration.finishing import finish_promoted
from orchestration.resources import ATTEMPT_TAG, LINE_TAG, PID_TAG, REQUEST_TAG, Installation
from orchestration.run_process import is_gone, own_identity, pid_in
from orchestration.windows import unknown_in, window_of
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
        try:
            attempt = _attempt_due(context.instance, installation, row)
        except Unavailable:
            raise
        except DriftlineError as error:  # of one line; the others go on
            context.log.warning(f"line {row.request.line}: request {row.request.request_id}: {error}")
            continue
        if attempt is not None:
            yield _run_request(row, attempt)


@dg.sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def standing_causes(context: dg.SensorEvaluationContext, installation: Installation) -> dg.SkipReason:
    """Reviews and schedules that ask for a new model: their requests go into the ledger, from where they are carried out as any other."""
    asked = ask(installation.ledger, installation.registry, installation.in_force, context.cursor, at=time.time())
    context.update_cursor(asked.cursor)
    return dg.SkipReason(asked.in_words)


def _attempt_due(instance: dg.DagsterInstance, installation: Installation, row: RequestRow) -> int | None:
    """The attempt to start now, if any; a request that is over is ended."""
    ledger, request = installation.ledger, row.request
    runs = _runs_of(instance, row)
    step = next_step(runs, _failed_gates(ledger, row))
    if step is None or (runs and finish_promoted(ledger, installation.registry, request, at=time.time())):
        return None
    impossible = unknown_in(ledger, installation.registry, request)
    if impossible is not None:
        step = End("failed", impossible)
    if isinstance(step, Launch):
        return step.attempt if _has_its_images(ledger, row) else None
    ledger.end_request(request.request_id, outcome=step.outcome, version=None, detail=step.detail, at=time.time())
    return None


def _has_its_images(ledger: Ledger, row: RequestRow) -> bool:
    """Whether there are the images that a request needs; what it waits for otherwise is noted with it."""
    waits = window_of(ledger, row.request).waits
    ledger.note_waiting(row.request.request_id, waits)
    return waits is None


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
    """The run's status; a run that says it goes on while its process is gone is declared failed first, or cancelled where that was asked.

    A run that never got a process is Dagster's to end (`orchestration.dagster_instance`).
    """
    process = run.tags.get(PID_TAG)
    if run.is_finished or process is None or not is_gone(process):
        return run.status
    gone = f"process {pid_in(process)} of the run is gone ({process}; seen by {own_identity()})"
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, gone)
        return dg.DagsterRunStatus.CANCELED
    instance.report_run_failed(run, gone)
    return dg.DagsterRunStatus.FAILURE
