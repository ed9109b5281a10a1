"""Dagster's instance: on its own SQLite files, or beside the ledger in PostgreSQL, where lines do not wait for one another."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.daemon import MonitoringDaemon
from dagster._daemon.monitoring import execute_run_monitoring_iteration
from sqlalchemy import make_url

from detectors.errors import InvalidInput
from orchestration.dagster_instance import (
    CANCEL_LIMIT_S,
    MAKE_DATABASES,
    START_LIMIT_S,
    make_databases,
    write_configuration,
)
from orchestration.resources import LINE_TAG
from orchestration.supervise import child_environ
from streams.ledger import Ledger
from streams.ledger_schema import REVISION
from streams.ledger_tables import METADATA
from streams.settings import Settings
from tests.servers import postgresql_database, postgresql_role, tables_of

DAGSTERS = {"runs", "run_tags", "event_logs", "job_ticks", "instigators", "alembic_version"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An installation whose ledger lies in PostgreSQL."""
    with postgresql_database() as url:
        monkeypatch.setenv("DRIFTLINE_LEDGER", url)
        yield Settings.from_environ({"DRIFTLINE_HOME": str(tmp_path), "DRIFTLINE_LEDGER": url})


def made(settings: Settings) -> str:
    """Dagster's folder, its databases made."""
    folder = write_configuration(settings)
    make_databases(settings, child_environ(os.environ, settings))
    return str(folder)


def test_beside_a_sqlite_ledger_runs_lie_in_files_and_go_one_at_a_time(tmp_path: Path) -> None:
    folder = made(Settings.from_environ({"DRIFTLINE_HOME": str(tmp_path)}))
    with dg.DagsterInstance.from_config(folder) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert (queue.max_concurrent_runs, queue.tag_concurrency_limits) == (1, [])
    assert (tmp_path / "dagster" / "history").is_dir()


@pytest.mark.parametrize("ledger_first", [True, False])
def test_ledger_and_dagster_live_in_one_database(settings: Settings, ledger_first: bool) -> None:
    if ledger_first:
        Ledger.open(settings.ledger).close()
    made(settings)
    Ledger.open(settings.ledger).close()
    tables = tables_of(settings.ledger)
    assert DAGSTERS | METADATA.tables.keys() | {REVISION.name} <= tables
    with dg.DagsterInstance.from_config(made(settings)) as instance:
        run = instance.create_run_for_job(_job, tags={LINE_TAG: "tiles"})
        assert [each.run_id for each in instance.get_runs()] == [run.run_id]
    assert tables_of(settings.ledger) == tables
    assert not (settings.home / "dagster" / "history").exists()


def test_there_two_lines_are_retrained_at_once_and_no_line_twice(settings: Settings) -> None:
    with dg.DagsterInstance.from_config(made(settings)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert queue.max_concurrent_runs == 2
    assert queue.tag_concurrency_limits == [{"key": LINE_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}]


def test_no_password_is_written_down(settings: Settings) -> None:
    password = make_url(settings.ledger).password
    assert password
    folder = Path(made(settings))
    assert [path for path in folder.rglob("*") if path.is_file() and password.encode() in path.read_bytes()] == []


def test_processes_that_make_the_tables_at_once_do_not_fail(settings: Settings) -> None:
    write_configuration(settings)
    environ = child_environ(os.environ, settings)
    with ExitStack() as stack:
        command = (sys.executable, "-c", MAKE_DATABASES)
        several = [stack.enter_context(subprocess.Popen(command, env=environ)) for _ in range(2)]
    assert [each.returncode for each in several] == [0, 0]


def test_a_user_who_may_not_make_tables_is_told_so(settings: Settings) -> None:
    Ledger.open(settings.ledger).close()
    with postgresql_role(settings.ledger) as restricted:
        with pytest.raises(
            InvalidInput, match=r"cannot make its tables in .*permission denied for schema public"
        ) as found:
            made(replace(settings, ledger=restricted))
        assert str(make_url(restricted).password) not in str(found.value)


@pytest.mark.parametrize("status", ["STARTING", "CANCELING"])
def test_the_daemon_ends_a_run_that_never_got_a_process_and_no_other(tmp_path: Path, status: str) -> None:
    folder = made(Settings.from_environ({"DRIFTLINE_HOME": str(tmp_path)}))
    limit_s = {"STARTING": START_LIMIT_S, "CANCELING": CANCEL_LIMIT_S}[status]
    with dg.DagsterInstance.from_config(folder) as instance:
        assert MonitoringDaemon.daemon_type() in instance.get_required_daemon_types()
        young, stuck = (launched(instance, status, ago_s=ago_s) for ago_s in (limit_s - 30, limit_s + 1))
        begun = launched(instance, "STARTED", ago_s=86_400)
        assert look(instance) == []
        statuses = {run.run_id: run.status.value for run in instance.get_runs()}
        assert statuses == {
            young: status,
            stuck: "FAILURE" if status == "STARTING" else "CANCELED",
            begun: "STARTED",
        }
        assert _job.execute_in_process(instance=instance).success


STEPS = {
    "STARTING": (DagsterEventType.RUN_STARTING,),
    "STARTED": (DagsterEventType.RUN_STARTING, DagsterEventType.RUN_START),
    "CANCELING": (DagsterEventType.RUN_STARTING, DagsterEventType.RUN_CANCELING),
}


def launched(instance: dg.DagsterInstance, status: str, *, ago_s: float) -> str:
    """A run that has been in a state for so long."""
    run = instance.create_run_for_job(_job)
    for step in STEPS[status]:
        event = DagsterEvent(event_type_value=step.value, job_name=run.job_name)
        instance.report_dagster_event(event, run_id=run.run_id, timestamp=time.time() - ago_s)
    return run.run_id


def look(instance: dg.DagsterInstance) -> list[object]:
    """What goes wrong while the daemon's monitor looks at every run once."""
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
        return [error for error in execute_run_monitoring_iteration(workspace, logging.getLogger()) if error]


@dg.job
def _job() -> None:
    """Nothing."""
